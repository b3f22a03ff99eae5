"""Images from seeds: by a teacher's sampler or by a one-step generator."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.diffusion.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.samplers import Sampler
from mrigen.distill import Generator
from mrigen.operators.base import Operator, concatenate
from mrigen.operators.corruption import Corruption

Shape = tuple[int, int, int]


def chunks(wanted: list[int], batch: int) -> Iterator[list[int]]:
    """A list of seeds in batches."""
    for first in range(0, len(wanted), batch):
        yield wanted[first : first + batch]


def further_operators(corruption: Corruption, wanted: list[int]) -> Operator:
    """Ã of each seed; a seed's operator does not depend on its batch."""
    drawn = []
    for seed in wanted:
        generator = seeds.generator(seed, "operator")
        drawn.append(corruption.further(corruption.draw(1, generator), generator))
    return concatenate(drawn)


class StudentSampler:
    """One network evaluation per image.

    Args:
        generator: the one-step generator.
        shape: (C, H, W) of an image.
        batch: images per network call.
        objective: with ``corruption``, for generators with the ``sampled`` input.
        corruption: where the generator's operators come from.
    """

    evaluations = 1

    def __init__(
        self,
        generator: Generator,
        shape: Shape,
        batch: int = 64,
        objective: Objective | None = None,
        corruption: Corruption | None = None,
    ) -> None:
        self._generator, self._shape, self._batch = generator.eval(), shape, batch
        self._objective, self._corruption = objective, corruption

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self._generator.to(device)

    @torch.inference_mode()
    def __call__(self, wanted: list[int]) -> Iterator[Tensor]:
        """Batches of images, one per seed."""
        device = next(self._generator.parameters()).device
        conventions = self._generator.denoiser.conventions
        for some in chunks(wanted, self._batch):
            z = seeds.seeded_noise(
                some, self._shape, complex_valued=conventions.image == "complex", device=device
            )
            further = None
            if self._corruption is not None:
                further = further_operators(self._corruption, some).to(device=device)
            yield self._generator(z, self._objective, further)


class TeacherSampler:
    """A diffusion sampler that looks through one Ã per image, fixed along the trajectory.

    Args:
        denoiser: the teacher.
        objective: the teacher's objective.
        corruption: where the operators come from.
        sampler: the reverse process.
        shape: (C, H, W) of an image.
        batch: images per network call.
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        objective: Objective,
        corruption: Corruption,
        sampler: Sampler,
        shape: Shape,
        batch: int = 64,
    ) -> None:
        self._denoiser, self._objective, self._corruption = denoiser.eval(), objective, corruption
        self._sampler, self._shape, self._batch = sampler, shape, batch
        self.evaluations = sampler.evaluations()

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self._denoiser.to(device)

    @torch.inference_mode()
    def __call__(self, wanted: list[int]) -> Iterator[Tensor]:
        """Batches of images, one per seed."""
        device = next(self._denoiser.parameters()).device
        complex_valued = self._denoiser.conventions.image == "complex"
        for some in chunks(wanted, self._batch):
            further = further_operators(self._corruption, some).to(device=device)

            def predict(x: Tensor, sigma: float, further: Operator = further) -> Tensor:
                levels = torch.full((len(x),), sigma, device=x.device)
                return self._objective.predict(self._denoiser, x, levels, further)

            z = seeds.seeded_noise(some, self._shape, complex_valued=complex_valued, device=device)
            yield self._sampler(predict, z)
