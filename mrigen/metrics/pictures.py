"""From images to the uint8 pictures that feature extractors and people look at."""

import torch
from torch import Tensor

QUANTILE = 0.99


def magnitude_window(images: Tensor) -> float:
    """Upper end of the grey window: the 99th percentile of the reference's magnitudes."""
    return float(quantile(images.abs().flatten(), QUANTILE))


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
    bytes_ = (grey.clamp(0, 1) * 255).round().to(torch.uint8)
    return bytes_.expand(-1, 3, -1, -1) if bytes_.shape[1] == 1 else bytes_


def quantile(values: Tensor, q: float) -> Tensor:
    """Quantile of a vector of any length (torch.quantile stops at 16 million elements)."""
    rank = min(len(values) - 1, round(q * (len(values) - 1)))
    return values.kthvalue(rank + 1).values
