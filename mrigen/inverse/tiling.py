"""A denoiser of small images on large ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mrigen.denoiser import Denoiser
from mrigen.errors import UsageError

Shape = tuple[int, int, int]


class TiledDenoiser(nn.Module):
    """Denoises overlapping windows and blends them, so that a large image needs no large network.

    Windows are spread evenly and overlap by an eighth of their side at least; a window's weight falls
    linearly towards its edges, and the weights at a pixel sum to 1. A window knows nothing of the others:
    what spans several of them (folding of undersampled k-space, for example) is beyond such a prior.

    Args:
        denoiser: of images of ``size``.
        size: H and W of a window.
    """

    def __init__(self, denoiser: Denoiser, size: tuple[int, int]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.size = size

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        A_tilde: Any = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Denoise x (B, C, H, W), at least as large as a window.

        Raises:
            UsageError: the denoiser would be shown the mask of the whole image.
        """
        if A_tilde is not None:
            raise UsageError("the scan is larger than the model's images, and a mask has no tiles")
        (height, width), total = self.size, torch.zeros_like(x)
        weights = torch.zeros_like(x.real[:1, :1])
        window = ramp(height)[:, None] * ramp(width)
        window = window.to(weights)
        for top in places(x.shape[-2], height):
            for left in places(x.shape[-1], width):
                rows, columns = slice(top, top + height), slice(left, left + width)
                clean = self.denoiser(x[..., rows, columns], sigma, None, labels, augment)
                total[..., rows, columns] += window * clean
                weights[..., rows, columns] += window
        return total / weights


def places(extent: int, size: int) -> list[int]:
    """First pixels of the windows along an axis."""
    if extent == size:
        return [0]
    step = size - max(1, size // 8)
    count = 1 + -(-(extent - size) // step)
    return [round(i * (extent - size) / (count - 1)) for i in range(count)]


def ramp(size: int) -> Tensor:
    """Weights of a window along an axis: 1 in the middle, falling over an eighth at each end."""
    edge = max(1, size // 8)
    index = torch.arange(size)
    distance = torch.minimum(index, size - 1 - index) + 1
    return (distance / (edge + 1)).clamp(max=1.0)


def tiled(denoiser: Denoiser, own: Shape, shape: Shape, name: str, *, behind_masks: bool) -> Denoiser:
    """A denoiser of images (C, H, W) of a shape ``own`` on those of a larger one; on its own as it is.

    Raises:
        UsageError: they are smaller, have other channels, or the denoiser, called ``name``, was trained
            behind masks.
    """
    if shape == own:
        return denoiser
    if behind_masks:
        raise UsageError(
            f"{name}: was trained behind masks on whole images of {size_text(own)}, and the scan's are "
            f"{size_text(shape)}: a tile has no mask and another scale, and what comes of it is stripes; "
            "train on this size, or tile a teacher with objective standard"
        )
    (channels, *sides), (own_channels, height, width) = shape, own
    if channels != own_channels or sides[0] < height or sides[1] < width:
        raise UsageError(
            f"{name}: was trained on images of {size_text(own)}, and the scan's are {size_text(shape)}: they "
            "cannot be tiled with larger ones; train on this size"
        )
    return TiledDenoiser(denoiser, (height, width))


def size_text(shape: Shape) -> str:
    """A shape (C, H, W) for messages."""
    channels, height, width = shape
    return f"{height}x{width}" if channels == 1 else f"{channels}x{height}x{width}"
