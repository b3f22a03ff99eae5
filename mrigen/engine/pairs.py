"""Latents and the teacher's images of them, for losses with a regression term."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.engine.sampling import TeacherSampler, classes, further_operators, seeded_labels
from mrigen.losses.base import RegressionParams
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.progress import bar
from mrigen.tensors import to_device


@dataclass(frozen=True)
class Pair:
    """A batch of latents z with the teacher's images of them.

    Attributes:
        z: standard normal (B, C, H, W).
        target: the teacher's images.
        further: Ã through which the teacher saw each.
        labels: class labels (B, classes), or None.
    """

    z: Tensor
    target: Tensor
    further: Operator
    labels: Tensor | None


class Pairs:
    """A fixed set of pairs; the teacher is sampled when it is prepared, or the first batch is asked for.

    Every pair belongs to a seed of its own (none that ``mrigen sample`` uses), so that a continued run has
    the same pairs.

    Args:
        params: number of pairs, sampler.
        teacher: the teacher; its mode (training or not) is the same afterwards.
        objective: its objective.
        corruption: where its operators come from.
        shape: (C, H, W) of an image.
        seed: key of the set.
        batch: images per call of the teacher.
    """

    def __init__(
        self,
        params: RegressionParams,
        teacher: NetworkDenoiser,
        objective: Objective,
        corruption: Corruption,
        shape: tuple[int, int, int],
        seed: int,
        batch: int,
    ) -> None:
        self._params, self._teacher, self._batch = params, teacher, batch
        self._objective, self._corruption, self._shape = objective, corruption, shape
        self._seeds = [seeds.key(seed, "pair", number) for number in range(params.pairs)]
        self._targets: Tensor | None = None

    def draw(self, count: int, rng: torch.Generator, device: torch.device) -> Pair:
        """Random pairs, with replacement."""
        targets = self.prepare()
        index = torch.randint(len(self._seeds), (count,), generator=rng)
        part = [self._seeds[i] for i in index.tolist()]
        labels = seeded_labels(classes(self._teacher), part, None)
        z = seeds.seeded_noise(part, self._shape, complex_valued=targets.is_complex())
        return Pair(
            to_device(z, device),
            to_device(targets[index], device),
            further_operators(self._objective, self._corruption, part).to_device(device),
            None if labels is None else to_device(labels, device),
        )

    def prepare(self) -> Tensor:
        """The teacher's images of all latents."""
        if self._targets is None:
            training = self._teacher.training
            sampler = TeacherSampler(
                self._teacher,
                self._objective,
                self._corruption,
                SAMPLERS.build(self._params.sampler),
                self._shape,
                self._batch,
            )
            parts = []
            try:
                with bar("teacher's pairs", len(self._seeds), "img") as advance:
                    for images in sampler(self._seeds):
                        parts.append(images.cpu())
                        advance(len(images))
            finally:
                self._teacher.train(training)
            self._targets = torch.cat(parts)
        return self._targets
