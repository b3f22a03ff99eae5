"""Images under affine maps, resampled at twice their resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mrigen.errors import UsageError
from mrigen.tensors import sent

# Low-pass filter of the least asymmetric orthonormal wavelet with six vanishing moments (Daubechies 1992).
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
CENTRE = 5  # the tap that belongs to the pixel itself
REACH = 3  # pixels on each side that an upsampled sample depends on


def affine(images: Tensor, inverse: Tensor) -> Tensor:
    """Images (B, C, H, W) whose pixel at p shows what was at ``inverse`` p; beyond the image it is mirrored.

    Upsampled and downsampled by an orthonormal wavelet filter, which undo each other, with linear
    interpolation in between (EDM, appendix F.2, after Karras et al. 2020).

    Args:
        images: real.
        inverse: (B, 3, 3) on homogeneous pixel coordinates (x to the right, y down, 1) whose origin is the
            centre of the image.

    Raises:
        UsageError: the images have one row or column, which has no mirror image.
    """
    height, width = images.shape[-2:]
    if min(height, width) < 2:
        raise UsageError(f"images of {height}x{width} pixels are too small to be augmented: set augment to 0")
    fine = _upsample(_upsample(images, -2), -1)
    target = torch.stack(
        [
            _fine_positions(width, images).expand(2 * height + 10, -1),
            _fine_positions(height, images)[:, None].expand(-1, 2 * width + 10),
            images.new_ones(2 * height + 10, 2 * width + 10),
        ],
        -1,
    )
    x, y = (target @ inverse[:, None, :2].mT).unbind(-1)
    grid = torch.stack([x / (1.5 * (width - 1)), y / (1.5 * (height - 1))], -1)
    moved = functional.grid_sample(fine, grid, "bilinear", "reflection", align_corners=True)
    return _downsample(_downsample(moved, -2), -1)


def _fine_positions(size: int, like: Tensor) -> Tensor:
    """Centred positions, in pixels, of the upsampled samples that downsampling to ``size`` needs."""
    return (torch.arange(2 * size + 10, dtype=like.dtype, device=like.device) - CENTRE - (size - 1)) / 2


def _filter(axis: int, channels: int, like: Tensor) -> Tensor:
    taps = sent(torch.tensor(SYM6, dtype=like.dtype), like.device)
    shape = (1, 1, 12, 1) if axis == -2 else (1, 1, 1, 12)
    return taps.reshape(shape).expand(channels, -1, -1, -1)


def _upsample(x: Tensor, axis: int) -> Tensor:
    """All n pixels along an axis and their mirror images as 6 n − 5 samples; 2 (n − 1 + i) is on pixel i."""
    size, channels = x.shape[axis], x.shape[1]
    place = torch.arange(1 - size - REACH, 2 * size - 1 + REACH, device=x.device) % (2 * size - 2)
    padded = x.index_select(axis, torch.minimum(place, 2 * size - 2 - place))
    stride = (2, 1) if axis == -2 else (1, 2)
    fine = functional.conv_transpose2d(padded, _filter(axis, channels, x), stride=stride, groups=channels)
    return fine.narrow(axis, CENTRE + 2 * REACH, 6 * size - 5)


def _downsample(x: Tensor, axis: int) -> Tensor:
    """From 2 n + 10 samples along an axis, the sixth of which lies on pixel 0, to n."""
    channels = x.shape[1]
    stride = (2, 1) if axis == -2 else (1, 2)
    return functional.conv2d(x, _filter(axis, channels, x), stride=stride, groups=channels)
