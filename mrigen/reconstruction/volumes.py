"""Errors of whole volumes, while their slices come in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mrigen.metrics.reconstruction import Errors, mean, volume_errors


class VolumeErrors:
    """Errors as fastMRI defines them: the slices of a volume share the largest value and the norms.

    Slices are kept until those of their volume are complete.

    Args:
        volumes: name of the volume of each slice that will come.
    """

    def __init__(self, volumes: Sequence[str]) -> None:
        self._missing = Counter(volumes)
        self._slices = dict(self._missing)
        self._kept: dict[str, list[Tensor]] = {}
        self._errors: dict[str, tuple[Errors, Errors]] = {}

    def add(self, volume: str, estimate: Tensor, observed: Tensor, reference: Tensor) -> None:
        """A slice's images (1, H, W), complex, in units that all slices of the volume share."""
        magnitudes = torch.stack([image[0].abs() for image in (estimate, observed, reference)])
        self._kept.setdefault(volume, []).append(magnitudes)
        self._missing[volume] -= 1
        if not self._missing[volume]:
            estimates, seen, target = torch.stack(self._kept.pop(volume), 1)
            self._errors[volume] = volume_errors(estimates, target), volume_errors(seen, target)

    def report(self) -> dict[str, Any]:
        """Errors of each volume and their means over volumes, of the reconstruction and zero-filled."""
        rows = [
            {"name": name, "slices": self._slices[name], "errors": own.row(), "zero_filled": zero.row()}
            for name, (own, zero) in self._errors.items()
        ]
        own, zero = zip(*self._errors.values(), strict=True)
        return {"each": rows, "mean": mean(own), "zero_filled": mean(zero)}
