"""Learned priors as solvers see them: a teacher that denoises, or a generator that makes images."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mrigen import seeds
from mrigen.denoiser import Denoiser
from mrigen.diffusion.objectives import Objective
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.tensors import concatenate

CorruptionOf = Callable[[Operator], Corruption]
"""The training corruption on the coils, or whatever else belongs to the scan, of one measurement."""


class FurtherMasks:
    """Ã as the model saw them in training, for the measurements at hand.

    Args:
        objective: the teacher's objective.
        corruption_of: p(A) of the training for the operator of one image.
    """

    def __init__(self, objective: Objective, corruption_of: CorruptionOf) -> None:
        self.objective = objective
        self._corruption_of = corruption_of

    def draw(self, operator: Operator, image_seeds: list[int], *purpose: int | str) -> Operator:
        """Ã ~ p(Ã | A), A ~ p(A) for each image of a batch, by its seed.

        Args:
            operator: of the measurements; a training operator takes coils and sizes from it.
            image_seeds: a seed per image.
            purpose: what it is for.
        """
        drawn = []
        for index, seed in enumerate(image_seeds):
            corruption = self._corruption_of(operator.select(index).to(device="cpu"))
            rng = seeds.seeded_rng(seed, "further", *purpose)
            A = corruption.draw(1, rng)
            drawn.append(self.objective.corrupt_further(A, corruption, rng))
        return concatenate(drawn).to(device=operator.zero_image().device)

    def mask_further(self, operator: Operator, image_seeds: list[int], *purpose: int | str) -> Operator:
        """Ã ~ p(Ã | A) of the measurements' own A."""
        drawn = []
        for index, seed in enumerate(image_seeds):
            one = operator.select(index).to(device="cpu")
            rng = seeds.seeded_rng(seed, "hide", *purpose)
            drawn.append(self.objective.corrupt_further(one, self._corruption_of(one), rng))
        return concatenate(drawn).to(device=operator.zero_image().device)


class TeacherPrior(FurtherMasks):
    """A diffusion teacher.

    Args:
        denoiser: its network.
        objective: what it was trained with.
        corruption_of: p(A) of the training for the operator of one image.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=3)
        >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask)
        >>> teacher = mg.train(store, images=2, batch=2, network={"name": "mlp", "hidden": 8}, device="cpu")
        >>> prior = teacher.prior((1, 12, 9))
        >>> type(prior).__name__, prior.denoise(A.zero_image(), A.zero_image().real.new_ones(2)).shape
        ('TeacherPrior', torch.Size([2, 1, 12, 9]))
    """

    def __init__(self, denoiser: Denoiser, objective: Objective, corruption_of: CorruptionOf) -> None:
        super().__init__(objective, corruption_of)
        self.denoiser = denoiser

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x₀ | x₀ + σ ε]; an ambient teacher is told that everything is seen.

        Args:
            x: noisy images (B, C, H, W).
            sigma: noise levels (B,).
        """
        return self.denoiser(x, sigma)

    def through(self, x: Tensor, sigma: Tensor, further: Operator) -> Tensor:
        """E[x₀ | Ã(x₀ + σ ε), Ã], what an ambient teacher was trained for; arguments as ``denoise``."""
        return self.objective.predict(self.denoiser, x, sigma, further)


class GeneratorPrior:
    """A generator x = G(z) of one step or a few.

    Args:
        network: called with a latent for every step, and ``objective`` and ``further`` by name.
        masks: for generators that see their latents through Ã; None for those that see all of them.
        steps: number of latents that an image is made from.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=3)
        >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask)
        >>> teacher = mg.train(store, images=2, batch=2, network={"name": "mlp", "hidden": 8}, device="cpu")
        >>> student = mg.distill(teacher, store, images=2, batch=2, device="cpu")
        >>> type(student.prior((1, 12, 9))).__name__
        'GeneratorPrior'
    """

    def __init__(self, network: nn.Module, masks: FurtherMasks | None = None, steps: int = 1) -> None:
        self.network = network
        self.steps = steps
        self._masks = masks

    def draw_further(self, operator: Operator, image_seeds: list[int]) -> Operator | None:
        """Ã that the generator sees its latents through; None where it sees all of them."""
        return None if self._masks is None else self._masks.draw(operator, image_seeds)

    def generate(self, z: Tensor, further: Operator | None = None) -> Tensor:
        """Images (B, C, H, W) of standard normal latents (B, steps, C, H, W)."""
        objective = None if self._masks is None else self._masks.objective
        image: Tensor = self.network(*z.unbind(1), objective=objective, further=further)
        return image

    def copy(self) -> GeneratorPrior:
        """The same generator with weights of its own that can be trained."""
        twin = copy.deepcopy(self.network)
        for weight in twin.parameters():
            weight.requires_grad_(True)
        return GeneratorPrior(twin, self._masks, self.steps)


Prior = TeacherPrior | GeneratorPrior


def frozen(network: nn.Module) -> nn.Module:
    """The network without gradients of its weights, so that those of images are cheaper."""
    for weight in network.parameters():
        weight.requires_grad_(False)
    return network.eval()


def gradient(value: Tensor, x: Tensor) -> Tensor:
    """∇ of the sum of ``value`` with respect to x; ∂/∂Re + i ∂/∂Im where x is complex."""
    (slope,) = torch.autograd.grad(value.sum(), x)
    return slope
