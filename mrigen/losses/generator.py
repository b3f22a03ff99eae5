"""Generator of one or a few steps, made of a denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mrigen.channels import ChannelLayout
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.schedules import Karras
from mrigen.operators.base import Operator
from mrigen.tensors import randn_like


def later_levels(sigma_init: float, steps: int) -> tuple[float, ...]:
    """Noise levels of the steps after the first: EDM's grid from σ_init downwards, without its end."""
    grid = Karras(sigma_max=max(sigma_init, Karras().sigma_min))
    return tuple(grid.level(torch.arange(1, steps, dtype=torch.float64) / steps).tolist())


class Generator(nn.Module):
    """G(z) = D(σ₁ z, σ₁): a denoiser used once (SiD, Zhou et al. 2024), or a few times.

    With more levels, step k renoises and denoises: x_k = D(x_{k−1} + σ_k z_k, σ_k) with a fresh latent
    (few-step SiD, Zhou et al. 2025; DMD2, Yin et al. 2024).

    Args:
        denoiser: network in the form of its teacher.
        sigma_init: σ₁, the noise level at which the network is called first.
        later_sigmas: σ₂, σ₃, ... of further steps.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=3)
        >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask)
        >>> teacher = mg.train(store, images=2, batch=2, network={"name": "mlp", "hidden": 8}, device="cpu")
        >>> student = mg.distill(teacher, store, images=2, batch=2, device="cpu")
        >>> student.generator(A.zero_image()).shape
        torch.Size([2, 1, 12, 9])
    """

    def __init__(
        self, denoiser: NetworkDenoiser, sigma_init: float = 2.5, later_sigmas: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sigmas = (sigma_init, *later_sigmas)

    def forward(
        self,
        z: Tensor,
        objective: Objective | None = None,
        further: Operator | None = None,
        labels: Tensor | None = None,
        later: Sequence[Tensor] = (),
    ) -> Tensor:
        """Images from standard normal z (B, C, H, W), real or complex.

        With ``objective`` and ``further`` the generator sees its latent as a teacher sees a noisy
        image, through Ã and told the mask (the ``sampled`` input of the released MRI code);
        without them it sees all of it (``full``), which needs no maps.

        Args:
            z: latent of the first step.
            objective: of the teacher.
            further: Ã.
            labels: class labels (B, classes), or None.
            later: latents like z of the steps after the first.

        Raises:
            ValueError: more or fewer latents than steps.
        """
        if 1 + len(later) != len(self.sigmas):
            raise ValueError(f"a generator of {len(self.sigmas)} steps needs as many latents")
        return self.run_steps(z, objective, further, labels, later)

    def run_steps(
        self,
        z: Tensor,
        objective: Objective | None = None,
        further: Operator | None = None,
        labels: Tensor | None = None,
        later: Sequence[Tensor] = (),
    ) -> Tensor:
        """The image after as many steps as there are latents; arguments as ``forward``."""
        image = self.step(None, z, 0, objective, further, labels)
        for number, latent in enumerate(later, start=1):
            image = self.step(image, latent, number, objective, further, labels)
        return image

    def step(
        self,
        image: Tensor | None,
        z: Tensor,
        number: int,
        objective: Objective | None = None,
        further: Operator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Step ``number`` (from 0) on the image of the step before, None at the start."""
        level = self.sigmas[number]
        sigma = torch.full((len(z),), level, device=z.device)
        noisy = level * z if image is None else image + level * z
        if objective is not None and further is not None:
            return objective.predict(self.denoiser, noisy, sigma, further, labels)
        denoised: Tensor = self.denoiser(noisy, sigma, None, labels)
        return denoised


def latent(
    batch: int,
    shape: tuple[int, int, int],
    conventions: ChannelLayout,
    rng: torch.Generator,
    device: torch.device | None = None,
) -> Tensor:
    """Standard normal z (batch, *shape) on a device, complex where the images are."""
    dtype = torch.complex64 if conventions.image == "complex" else torch.float32
    return randn_like(torch.empty(batch, *shape, dtype=dtype, device=device), rng)
