"""Images from seeds: by a teacher's sampler or by a generator of one or a few steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mrigen import seeds
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.samplers import Predict, Sampler
from mrigen.engine.precision import AutocastModule, compile_network
from mrigen.errors import UsageError
from mrigen.losses import Generator
from mrigen.networks import Preconditioner
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.inpainting import PixelMask
from mrigen.prefetch import Prefetcher
from mrigen.tensors import concatenate, to_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Shape = tuple[int, int, int]


def chunks(image_seeds: list[int], batch: int) -> Iterator[list[int]]:
    """A list of seeds in batches."""
    for first in range(0, len(image_seeds), batch):
        yield image_seeds[first : first + batch]


def full_chunks(image_seeds: list[int], batch: int, device: torch.device) -> Iterator[list[int]]:
    """A list of seeds in batches; on a GPU the last of several batches is filled up with its last seed.

    A batch of another size would have its kernels chosen, and a compiled network compiled, once more.
    """
    for part in chunks(image_seeds, batch):
        missing = batch - len(part) if device.type == "cuda" and len(image_seeds) > batch else 0
        yield part + missing * part[-1:]


def further_operators(
    objective: Objective, corruption: Corruption, image_seeds: list[int], *purpose: int | str
) -> Operator:
    """Ã of each seed for a purpose; a seed's operator does not depend on its batch."""
    drawn = []
    for seed in image_seeds:
        rng = seeds.seeded_rng(seed, "operator", *purpose)
        drawn.append(objective.corrupt_further(corruption.draw(1, rng), corruption, rng))
    return concatenate(drawn)


def in_precision(denoiser: NetworkDenoiser, fabric: Fabric) -> NetworkDenoiser:
    """The denoiser with its network called in Fabric's precision."""
    return NetworkDenoiser(AutocastModule(denoiser.network, fabric), denoiser.conventions)


class StudentSampler:
    """As many network evaluations per image as the generator has steps, one by default.

    Attributes:
        shape: (C, H, W) of an image.
        complex_valued: whether images are complex.
        evaluations: network evaluations per image.
        last: those of the last step.
        batch: images per network call.

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
        self._generator, self.batch = generator.eval(), batch
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

    def compile(self, device: torch.device) -> None:
        """Compile the network."""
        compile_network(self._generator.denoiser.network, device)

    @property
    def network(self) -> nn.Module:
        """The network as it is called."""
        return self._generator.denoiser.network

    def _drawn(self, part: tuple[int, ...]) -> tuple[list[Tensor], Operator | None]:
        """Noise of every step and Ã for some seeds, drawn here."""
        latents = [
            seeds.seeded_noise(
                list(part),
                self.shape,
                *(("latent", number) if number else ()),
                complex_valued=self.complex_valued,
            )
            for number in range(self.evaluations)
        ]
        if self._objective is None or self._corruption is None:
            return latents, None
        return latents, further_operators(self._objective, self._corruption, list(part))

    @torch.inference_mode()
    def __call__(self, image_seeds: list[int]) -> Iterator[Tensor]:
        """Batches of images, one per seed; noise and Ã of the next ones are drawn while one is computed."""
        device = next(self._generator.parameters()).device
        ahead = Prefetcher(self._drawn)
        depth = 2 if self._corruption is None else 1  # Ã may have coil maps, which are large
        batches = list(map(tuple, full_chunks(image_seeds, self.batch, device)))
        for number, keys in enumerate(batches):
            part = list(keys)
            drawn, operator = ahead.take(keys, batches[number + 1 : number + 1 + depth])
            latents = [to_device(z, device) for z in drawn]
            further = None if operator is None else operator.to_device(device)
            labels = seeded_labels(self._classes, part, self._label)
            device_labels = None if labels is None else to_device(labels, device)
            images = self._generator(latents[0], self._objective, further, device_labels, latents[1:])
            yield images[: len(image_seeds) - number * self.batch]


class TeacherSampler:
    """A diffusion sampler that looks through one Ã per image, fixed along the trajectory.

    Attributes:
        shape: (C, H, W) of an image.
        complex_valued: whether images are complex.
        evaluations: network evaluations per image.
        last: those of the last step.
        batch: images per network call.

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
        self._sampler, self.batch, self._label = sampler, batch, label
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

    def compile(self, device: torch.device) -> None:
        """Compile the network."""
        compile_network(self._denoiser.network, device)

    def early(self, stops: Sequence[float]) -> dict[float, int]:
        """Those of ``stops`` that end a trajectory early, and the network evaluations that each takes."""
        ends = self._sampler.early(self._objective.floor, stops)
        return {stop: self._sampler.spent(steps) for stop, steps in ends.items()}

    def __call__(self, image_seeds: list[int]) -> Iterator[Tensor]:
        """Batches of images, one per seed."""
        return self.ladder(image_seeds, ())

    @torch.no_grad()
    def ladder(self, image_seeds: list[int], stops: Sequence[float]) -> Iterator[Tensor]:
        """Batches of images of stopped trajectories and of the whole one, (B, (stops + 1) C, H, W).

        The channels of one follow those of another. Each stop costs one step more. Ã and the noise from which
        the next batch starts are drawn while one is computed.

        Args:
            image_seeds: seeds.
            stops: levels to stop at, as ``early`` lists them.
        """
        ends = list(self._sampler.early(self._objective.floor, stops).values())
        device = next(self._denoiser.parameters()).device
        ahead = Prefetcher(self._drawn)
        batches = list(map(tuple, full_chunks(image_seeds, self.batch, device)))
        for number, part in enumerate(batches):
            latent, operator = ahead.take(part, batches[number + 1 : number + 2])
            labels = seeded_labels(self._classes, list(part), self._label)
            teacher = SeededTeacher(
                self._denoiser, self._objective, self._corruption, list(part), self.shape, operator, labels
            )
            images = torch.cat(self._sampler.ladder(teacher, to_device(latent, device), ends), 1)
            yield images[: len(image_seeds) - number * self.batch]

    def _drawn(self, part: tuple[int, ...]) -> tuple[Tensor, Operator]:
        """Start noise and Ã of some seeds, drawn here."""
        latent = seeds.seeded_noise(list(part), self.shape, complex_valued=self.complex_valued)
        return latent, further_operators(self._objective, self._corruption, list(part))


class SeededTeacher:
    """A teacher whose randomness belongs to the seeds of a batch; see ``samplers.Teacher``.

    Args:
        denoiser: the teacher.
        objective: its objective.
        corruption: where operators come from.
        image_seeds: a seed per image.
        shape: (C, H, W) of an image.
        operator: Ã of the seeds.
        labels: class labels (B, classes), or None.
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        objective: Objective,
        corruption: Corruption,
        image_seeds: list[int],
        shape: Shape,
        operator: Operator,
        labels: Tensor | None = None,
    ) -> None:
        self._denoiser, self._objective, self._corruption = denoiser, objective, corruption
        self._image_seeds, self._shape = image_seeds, shape
        self._device = next(denoiser.parameters()).device
        self._labels = None if labels is None else to_device(labels, self._device)
        self.floor = objective.floor
        self.predict = self._estimate(operator.to_device(self._device))

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

    def masked(self, step: int, count: int) -> list[tuple[Predict, Tensor]]:
        """Estimates through other masks of pixels, and these masks.

        Raises:
            UsageError: the teacher is not shown masks of pixels.
        """
        parts: list[tuple[Predict, Tensor]] = []
        for number in range(count):
            further = self._operators("masks", step, number)
            if not self._objective.conditions_on_mask or not isinstance(further, PixelMask):
                raise UsageError(
                    "sampler measurement puts images together from those that a teacher makes of its masks' "
                    "pixels, but this teacher is shown no such masks; use heun or tweedie"
                )
            parts.append((self._estimate(further), further.mask))
        return parts

    def _normal(self, *purpose: int | str) -> Tensor:
        complex_valued = self._denoiser.conventions.image == "complex"
        return seeds.seeded_noise(
            self._image_seeds, self._shape, *purpose, complex_valued=complex_valued, device=self._device
        )

    def _through(self, *purpose: int | str) -> Predict:
        """The estimate through the Ã that belong to a purpose."""
        return self._estimate(self._operators(*purpose))

    def _operators(self, *purpose: int | str) -> Operator:
        drawn = further_operators(self._objective, self._corruption, self._image_seeds, *purpose)
        return drawn.to_device(self._device)

    def _estimate(self, further: Operator) -> Predict:
        def predict(x: Tensor, sigma: float) -> Tensor:
            levels = torch.full((len(x),), sigma, device=x.device)
            return self._objective.predict(self._denoiser, x, levels, further, self._labels)

        return predict


def classes(denoiser: NetworkDenoiser) -> int:
    """Number of classes that a denoiser's network knows, 0 for an unconditional one."""
    return cast("Preconditioner", denoiser.network).network.params.label_dim


def random_labels(count: int, batch: int, rng: torch.Generator) -> Tensor | None:
    """Labels (batch, count), each class as likely as the others; None where there are no classes."""
    if not count:
        return None
    return one_hot(torch.randint(count, (batch,), generator=rng), count)


def seeded_labels(count: int, image_seeds: list[int], label: int | None) -> Tensor | None:
    """Labels of seeds: ``label`` for all, or a class that depends on the seed alone.

    Raises:
        UsageError: there is no such class.
    """
    if label is not None and not 0 <= label < count:
        raise UsageError(
            f"class {label}: this model knows {count} classes" + (f" (0 to {count - 1})" * bool(count))
        )
    if not count:
        return None
    if label is not None:
        return one_hot(torch.full((len(image_seeds),), label), count)
    drawn = [int(torch.randint(count, (), generator=seeds.seeded_rng(s, "class"))) for s in image_seeds]
    return one_hot(torch.tensor(drawn, dtype=torch.int64), count)


def one_hot(index: Tensor, count: int) -> Tensor:
    """Class indices (B,) as float32 (B, count)."""
    return functional.one_hot(index, count).float()
