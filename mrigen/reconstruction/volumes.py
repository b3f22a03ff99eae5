"""Errors of whole volumes, while their slices come in batches."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mrigen.metrics.reconstruction import Errors, mean, through_plane_variation, volume_errors


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
        self._variation: dict[str, float] = {}

    def add(self, volume: str, estimate: Tensor, observed: Tensor, reference: Tensor) -> None:
        """A slice's images (1, H, W), complex, in units that all slices of the volume share."""
        magnitudes = torch.stack([image[0].abs() for image in (estimate, observed, reference)])
        self._kept.setdefault(volume, []).append(magnitudes)
        self._missing[volume] -= 1
        if not self._missing[volume]:
            estimates, seen, target = torch.stack(self._kept.pop(volume), 1)
            self._errors[volume] = volume_errors(estimates, target), volume_errors(seen, target)
            if (variation := through_plane_variation(target)) > 0:
                self._variation[volume] = through_plane_variation(estimates) / variation

    def report(self) -> dict[str, Any]:
        """Errors of each volume and their means over volumes, of the reconstruction and zero-filled.

        ``through_plane`` is the variation between slices over that of the reference; none for one slice.
        """
        rows: list[dict[str, Any]] = [
            {"name": name, "slices": self._slices[name], "errors": own.row(), "zero_filled": zero.row()}
            for name, (own, zero) in self._errors.items()
        ]
        own, zero = zip(*self._errors.values(), strict=True)
        report: dict[str, Any] = {"each": rows, "mean": mean(own), "zero_filled": mean(zero)}
        if self._variation:
            for row in rows:
                row["through_plane"] = self._variation.get(row["name"])
            report["through_plane"] = statistics.fmean(self._variation.values())
        return report
