"""Images from seeds: by a teacher's sampler or by a generator of one or a few steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.samplers import Predict, Sampler
from mrigen.engine.labels import classes, seeded_labels
from mrigen.engine.precision import Frozen
from mrigen.errors import UsageError
from mrigen.losses import Generator
from mrigen.networks import Preconditioner
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.prefetch import Ahead
from mrigen.tensors import concatenate, to_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Shape = tuple[int, int, int]


def chunks(wanted: list[int], batch: int) -> Iterator[list[int]]:
    """A list of seeds in batches."""
    for first in range(0, len(wanted), batch):
        yield wanted[first : first + batch]


def further_operators(
    objective: Objective, corruption: Corruption, wanted: list[int], *purpose: int | str
) -> Operator:
    """Ã of each seed for a purpose; a seed's operator does not depend on its batch."""
    drawn = []
    for seed in wanted:
        rng = seeds.seeded_rng(seed, "operator", *purpose)
        drawn.append(objective.corrupt_further(corruption.draw(1, rng), corruption, rng))
    return concatenate(drawn)


def in_precision(denoiser: NetworkDenoiser, fabric: Fabric) -> NetworkDenoiser:
    """The denoiser with its network called in Fabric's precision."""
    return NetworkDenoiser(Frozen(denoiser.network, fabric), denoiser.conventions)


class StudentSampler:
    """As many network evaluations per image as the generator has steps, one by default.

    Attributes:
        shape: (C, H, W) of an image.
        complex_valued: whether images are complex.
        evaluations: network evaluations per image.
        last: those of the last step.

    Args:
        generator: the generator.
        shape: (C, H, W) of an image.
        batch: images per network call.
        objective: with ``corruption``, for generators with the ``sampled`` input.
        corruption: where the generator's operators come from.
        label: class of all images; by default each seed has its own.
    """

    def __init__(
        self,
        generator: Generator,
        shape: Shape,
        batch: int = 64,
        objective: Objective | None = None,
        corruption: Corruption | None = None,
        label: int | None = None,
    ) -> None:
        self.shape, self.complex_valued = shape, generator.denoiser.conventions.image == "complex"
        self._generator, self._batch = generator.eval(), batch
        self._objective, self._corruption, self._label = objective, corruption, label
        self._classes = classes(generator.denoiser)
        self.evaluations, self.last = len(generator.sigmas), 1
        seeded_labels(self._classes, [], label)

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self._generator.to(device).to(memory_format=torch.channels_last)

    def use(self, fabric: Fabric) -> None:
        """Move the network to Fabric's device and call it in Fabric's precision."""
        first, *later = self._generator.sigmas
        self._generator = Generator(in_precision(self._generator.denoiser, fabric), first, later).eval()
        self.to(fabric.device)

    def _latents(self, some: tuple[int, ...]) -> list[Tensor]:
        """Noise of every step for some seeds, drawn here."""
        return [
            seeds.seeded_noise(
                list(some),
                self.shape,
                *(("latent", number) if number else ()),
                complex_valued=self.complex_valued,
            )
            for number in range(self.evaluations)
        ]

    @torch.inference_mode()
    def __call__(self, wanted: list[int]) -> Iterator[Tensor]:
        """Batches of images, one per seed; the noise of the next batches is drawn while one is computed."""
        device = next(self._generator.parameters()).device
        ahead = Ahead(self._latents)
        batches = list(map(tuple, chunks(wanted, self._batch)))
        for number, keys in enumerate(batches):
            some = list(keys)
            latents = [to_device(z, device) for z in ahead.take(keys, batches[number + 1 : number + 3])]
            further = None
            if self._objective is not None and self._corruption is not None:
                further = further_operators(self._objective, self._corruption, some).to_device(device)
            labels = seeded_labels(self._classes, some, self._label)
            told = None if labels is None else to_device(labels, device)
            yield self._generator(latents[0], self._objective, further, told, latents[1:])


class TeacherSampler:
    """A diffusion sampler that looks through one Ã per image, fixed along the trajectory.

    Attributes:
        shape: (C, H, W) of an image.
        complex_valued: whether images are complex.
        evaluations: network evaluations per image.
        last: those of the last step.

    Args:
        denoiser: the teacher.
        objective: the teacher's objective.
        corruption: where the operators come from.
        sampler: the reverse process.
        shape: (C, H, W) of an image.
        batch: images per network call.
        label: class of all images; by default each seed has its own.
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        objective: Objective,
        corruption: Corruption,
        sampler: Sampler,
        shape: Shape,
        batch: int = 64,
        label: int | None = None,
    ) -> None:
        self._denoiser, self._objective, self._corruption = denoiser.eval(), objective, corruption
        self.shape, self.complex_valued = shape, denoiser.conventions.image == "complex"
        self._sampler, self._batch, self._label = sampler, batch, label
        self.evaluations, self.last = sampler.evaluations(objective.floor), sampler.cost(last=True)
        self._classes = classes(denoiser)
        seeded_labels(self._classes, [], label)

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self._denoiser.to(device).to(memory_format=torch.channels_last)

    def use(self, fabric: Fabric) -> None:
        """Move the network to Fabric's device and call it in Fabric's precision."""
        self._denoiser = in_precision(self._denoiser, fabric).eval()
        self.to(fabric.device)

    def early(self, stops: Sequence[float]) -> dict[float, int]:
        """Those of ``stops`` that end a trajectory early, and the network evaluations that each takes."""
        ends = self._sampler.early(self._objective.floor, stops)
        return {stop: self._sampler.spent(steps) for stop, steps in ends.items()}

    def __call__(self, wanted: list[int]) -> Iterator[Tensor]:
        """Batches of images, one per seed."""
        return self.ladder(wanted, ())

    @torch.no_grad()
    def ladder(self, wanted: list[int], stops: Sequence[float]) -> Iterator[Tensor]:
        """Batches of images of stopped trajectories and of the whole one, (B, (stops + 1) C, H, W).

        The channels of one follow those of another. Each stop costs one step more.

        Args:
            wanted: seeds.
            stops: levels to stop at, as ``early`` lists them.
        """
        ends = list(self._sampler.early(self._objective.floor, stops).values())
        for some in chunks(wanted, self._batch):
            labels = seeded_labels(self._classes, some, self._label)
            teacher = SeededTeacher(
                self._denoiser, self._objective, self._corruption, some, self.shape, labels
            )
            yield torch.cat(self._sampler.ladder(teacher, teacher.latent(), ends), 1)


class SeededTeacher:
    """A teacher whose randomness belongs to the seeds of a batch; see ``samplers.Teacher``.

    Args:
        denoiser: the teacher.
        objective: its objective.
        corruption: where operators come from.
        wanted: a seed per image.
        shape: (C, H, W) of an image.
        labels: class labels (B, classes), or None.
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        objective: Objective,
        corruption: Corruption,
        wanted: list[int],
        shape: Shape,
        labels: Tensor | None = None,
    ) -> None:
        self._denoiser, self._objective, self._corruption = denoiser, objective, corruption
        self._wanted, self._shape = wanted, shape
        self._device = next(denoiser.parameters()).device
        self._labels = None if labels is None else to_device(labels, self._device)
        self.floor = objective.floor
        self.predict = self._through()

    def latent(self) -> Tensor:
        """Where the trajectories start, standard normal."""
        return self._normal()

    def level(self, sigma: float) -> float:
        """The network's noise level nearest to σ."""
        return cast("Preconditioner", self._denoiser.network).nearest_level(sigma)

    def noise(self, step: int) -> Tensor:
        """Standard normal noise of a step."""
        return self._normal("churn", step)

    def others(self, step: int, count: int) -> list[Predict]:
        """Estimates through other Ã.

        Raises:
            UsageError: the teacher sees everything, so that there are no others.
        """
        if not self._objective.conditions_on_mask:
            raise UsageError(
                "sampler guided compares what a teacher sees through several masks, but this teacher sees "
                "its whole input; use heun or tweedie"
            )
        return [self._through("guidance", step, number) for number in range(count)]

    def _normal(self, *purpose: int | str) -> Tensor:
        complex_valued = self._denoiser.conventions.image == "complex"
        return seeds.seeded_noise(
            self._wanted, self._shape, *purpose, complex_valued=complex_valued, device=self._device
        )

    def _through(self, *purpose: int | str) -> Predict:
        """The estimate through the Ã that belong to a purpose."""
        drawn = further_operators(self._objective, self._corruption, self._wanted, *purpose)
        further = drawn.to_device(self._device)

        def predict(x: Tensor, sigma: float) -> Tensor:
            levels = torch.full((len(x),), sigma, device=x.device)
            return self._objective.predict(self._denoiser, x, levels, further, self._labels)

        return predict
