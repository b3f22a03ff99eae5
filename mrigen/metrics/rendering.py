"""From images to the pictures that feature extractors and people look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

QUANTILE = 0.99


def magnitude_window(images: Tensor) -> float:
    """Upper end of the grey window: the 99th percentile of the reference's magnitudes."""
    return float(quantile(images.abs().flatten(), QUANTILE))


def streamed_window(batches: Iterable[Tensor], count: int) -> float:
    """``magnitude_window`` of ``count`` numbers that come in batches; holds one in a hundred of them."""
    keep = count - _rank(count, QUANTILE)
    largest = torch.empty(0)
    for batch in batches:
        values = torch.cat([largest, batch.abs().flatten()])
        largest = values.topk(min(keep, len(values)), sorted=False).values
    return float(largest.min())


def pictures(images: Tensor, window: float | None = None) -> Tensor:
    """uint8 (B, 3, H, W) of images (B, C, H, W).

    Args:
        images: complex MR images, shown as magnitudes between 0 and ``window``, or natural images in
            [-1, 1].
        window: needed for complex images.
    """
    if images.is_complex():
        if window is None:
            raise ValueError("complex images need a window")
        grey = images.abs() / window
    else:
        grey = (images + 1) / 2
    return _coloured((grey.clamp(0, 1) * 255).round().to(torch.uint8))


def quantile(values: Tensor, q: float) -> Tensor:
    """Quantile of a vector of any length (torch.quantile stops at 16 million elements)."""
    return values.kthvalue(_rank(len(values), q) + 1).values


@dataclass(frozen=True)
class Rendering:
    """How the images of a set become pictures.

    Attributes:
        window: grey window of magnitudes, None for natural images and for raw magnitudes.
        raw: show magnitudes as they are, as floats: what the published MRI distances did, whose network
            expects 0 ... 255 and was given magnitudes of about 0 ... 1.
    """

    window: float | None = None
    raw: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) of images: uint8, or float32 where they are raw."""
        return _coloured(images.abs().float()) if self.raw else pictures(images, self.window)

    def described(self) -> str:
        """The rule in words; the window itself belongs to the data."""
        if self.raw:
            return "raw float magnitudes"
        return (
            "[-1, 1] to uint8" if self.window is None else f"magnitudes to their {QUANTILE} quantile, uint8"
        )


def _coloured(planes: Tensor) -> Tensor:
    return planes.expand(-1, 3, -1, -1) if planes.shape[1] == 1 else planes


def _rank(count: int, q: float) -> int:
    return min(count - 1, round(q * (count - 1)))
