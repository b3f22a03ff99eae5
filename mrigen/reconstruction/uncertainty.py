"""Intervals of magnitudes, where brightness may be wrong, and whether that holds where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mrigen.metrics.rendering import magnitude_window, pictures
from mrigen.report.figures import comparison

FILE = "uncertainty.png"
SMOOTHED = 3  # pixels: side of the square over which variances are averaged
OFF = 0.1  # of the slice's grey window: what counts as a wrong brightness
CHANCES = (0.05, 0.2, 0.5)  # where yellow, orange and red begin
COLOURS = ((255, 221, 51), (255, 136, 17), (221, 0, 34))
HEAD = 0.1  # of the brightest pixel, above which a pixel of the truth counts
LEGEND = "yellow, orange, red: a chance of 5, 20, 50 % that brightness is off by a tenth of the grey window"


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What posterior samples with a calibrated spread say of the magnitude of an image.

    A pixel's variance is averaged over its neighbours', 3 x 3, because few samples say little of one alone.

    Attributes:
        magnitude: mean of the samples' magnitudes, (n, 1, H, W).
        lower: lower end of its 90 % interval.
        upper: upper end.
        limit: a tenth of each slice's grey window, the 99th percentile of its magnitudes, (n, 1, 1, 1).
        exceedance: probability that the magnitude is off by more than the limit, by a normal law.
    """

    magnitude: Tensor
    lower: Tensor
    upper: Tensor
    limit: Tensor
    exceedance: Tensor

    @classmethod
    def of(cls, images: Tensor, calibrated: Tensor, quantile: float) -> Uncertainty:
        """Of samples (n, S, 1, H, W), as they are and with a calibrated spread, and intervals ± q of it."""
        mean, variance = images.abs().mean(1), calibrated.abs().var(1)
        around = SMOOTHED // 2
        deviation = avg_pool2d(variance, SMOOTHED, 1, around, count_include_pad=False).sqrt()
        limit = OFF * torch.tensor([magnitude_window(one) for one in mean]).view(-1, 1, 1, 1)
        smallest = torch.finfo(deviation.dtype).tiny
        exceedance = torch.erfc(limit / (2**0.5 * deviation).clamp(min=smallest))
        half = quantile * deviation
        return cls(mean, (mean - half).clamp(min=0), mean + half, limit, exceedance)

    def wrong(self, truth: Tensor) -> Tensor:
        """Where the magnitude is off by more than the limit, of true images (n, 1, H, W)."""
        return (self.magnitude - truth.abs()).abs() > self.limit


class Reliability:
    """How often calibrated intervals and probabilities are right, over the pixels of many heads.

    A head's pixels are brighter in the truth than a tenth of its brightest.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._classes = torch.zeros(len(CHANCES) + 1, 3, dtype=torch.float64)  # pixels, chances, wrong

    def add(self, uncertainty: Uncertainty, truth: Tensor) -> None:
        """Some images, and the true ones (n, 1, H, W)."""
        magnitude = truth.abs()
        head = magnitude > HEAD * magnitude.amax((1, 2, 3), keepdim=True)
        self._inside += int(
            (head & (uncertainty.lower <= magnitude) & (magnitude <= uncertainty.upper)).sum()
        )
        chances, wrong = uncertainty.exceedance[head].double(), uncertainty.wrong(truth)[head].double()
        rows = torch.stack([torch.ones_like(chances), chances, wrong], 1)
        self._classes.index_add_(0, torch.bucketize(chances, torch.tensor(CHANCES).double()), rows)

    def row(self) -> dict[str, Any]:
        """Share of pixels inside their intervals; predicted and observed share of wrong ones, by colour."""
        pixels = self._classes[:, 0].sum().clamp(min=1)
        classes = [
            {"pixels": int(count), "predicted": chances / max(count, 1), "observed": wrong / max(count, 1)}
            for count, chances, wrong in self._classes.tolist()
        ]
        return {"coverage_image": self._inside / float(pixels), "exceedance": classes}


class Pictures:
    """Slices of ``uncertainty.png``: the measurement, its reconstruction, and where that may be wrong."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Tensor]] = {}

    def add(
        self, uncertainty: Uncertainty, row: int, observed: Tensor, mean: Tensor, reference: Tensor | None
    ) -> None:
        """A slice of a batch: zero-filled measurement, reconstruction and truth of all, (n, 1, H, W)."""
        rows = {
            "zero-filled": observed,
            "reconstruction": mean,
            "where it may be wrong": uncertainty.exceedance,
        }
        if reference is not None:
            rows |= {"reference": reference, "where it is wrong": uncertainty.wrong(reference).float()}
        for name, images in rows.items():
            self._rows.setdefault(name, []).append(images[row])

    def write(self, folder: Path, window: float, title: str) -> None:
        """Draw them, in one grey window."""
        rows = {name: torch.stack(images) for name, images in self._rows.items()}
        for name in ("where it may be wrong", "where it is wrong"):
            if name in rows:
                rows[name] = overlaid(rows["reconstruction"], rows[name], window)
        comparison(rows, window, folder / FILE, f"{title}\n{LEGEND}")


def overlaid(images: Tensor, chances: Tensor, window: float) -> Tensor:
    """Grey magnitudes of (n, 1, H, W), coloured where chances reach ``CHANCES``; (n, 3, H, W) in [-1, 1]."""
    grey = pictures(images, window).float()
    colours = torch.tensor(((0, 0, 0), *COLOURS), dtype=torch.float32)
    classes = torch.bucketize(chances[:, 0], torch.tensor(CHANCES), right=True)
    mixed = torch.where((classes > 0)[:, None], 0.35 * grey + 0.65 * colours[classes].movedim(-1, 1), grey)
    return mixed / 127.5 - 1
