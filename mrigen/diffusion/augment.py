"""Non-leaking geometric augmentation with labels that tell the network (EDM, appendix F.2)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from mrigen.denoiser import to_channels, to_complex
from mrigen.errors import UsageError
from mrigen.operators.measurements import Measurements
from mrigen.tensors import mirrored, to_device

LABELS = 9
SCALE = 0.2  # standard deviation of log2 of the scalings
SHIFT = 0.125  # standard deviation of the translation, in image sizes
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


class Augmentation:
    """Mirrors, scaling, rotation, stretching and translation of images, each with probability p.

    The labels are those of EDM, in its order: mirrored along x (always tried, with probability 1/2) and along
    y, log2 of the scale / 0.2, cos − 1 and sin of the rotation, direction and strength of the stretch (2),
    translation / 0.125 of the image (2). All zero is the image itself, and that is what
    sampling and distillation ask for: what the augmented images look like does not leak into it.

    Which objective may use which transform is the objective's to say (``Objective.augment``): images
    that were measured whole may be transformed at will; of masked measurements only the mirrored
    image has a measurement with a mirrored mask.

    Args:
        probability: p of every transform but the mirror along x; EDM: 0.12 for 32×32, 0.15 for 64×64.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Transformed images (B, C, H, W), real or complex, and their labels (B, 9)."""
        batch, _, height, width = images.shape
        flips = self._flips(batch, rng)
        inverse, labels = self._geometry(batch, height, width, rng)
        channels = to_channels(images)
        for axis, which in zip((-1, -2), to_device(flips, images.device), strict=True):
            channels = mirrored(channels, which, axis)
        moved = labels.any(1)
        if bool(moved.any()):
            rows = to_device(moved.nonzero().flatten(), images.device)
            turned = affine(channels[rows], to_device(inverse[moved], images.device))
            channels = channels.index_copy(0, rows, turned)
        labels = to_device(torch.cat([flips.T, labels], 1), images.device)
        return to_complex(channels) if images.is_complex() else channels, labels

    def mirror(self, batch: Measurements, rng: torch.Generator) -> Measurements:
        """Measurements of mirrored images, with their labels.

        Raises:
            UsageError: the operator cannot be mirrored.
        """
        flips = self._flips(len(batch), rng)
        y, operator, further = batch.y, batch.operator, batch.further
        for axis, which in zip((-1, -2), to_device(flips, y.device), strict=True):
            if further is not None:
                _, further = further.mirror(y, which, axis)
            y, operator = operator.mirror(y, which, axis)
        labels = torch.zeros(len(batch), LABELS)
        labels[:, :2] = flips.T
        return replace(batch, y=y, operator=operator, further=further, augment=to_device(labels, y.device))

    def _flips(self, batch: int, rng: torch.Generator) -> Tensor:
        """Whether to mirror along x and y, bool (2, B)."""
        coin = torch.rand(2, batch, generator=rng)
        return coin < torch.tensor([[0.5], [0.5 * self.probability]])

    def _geometry(self, batch: int, height: int, width: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inverse transforms (B, 3, 3) of centred pixel coordinates, and their labels (B, 7)."""
        used = torch.rand(4, batch, generator=rng) < self.probability
        normal = torch.randn(4, batch, generator=rng)
        angle, tilt = (torch.rand(2, batch, generator=rng) * 2 - 1) * math.pi
        tilt = tilt * (torch.rand(batch, generator=rng) < 0.5)
        scale, angle, stretch = normal[0] * used[0], angle * used[1], normal[1] * used[2]
        shift = normal[2:] * used[3]
        zoom, aspect = (scale * SCALE).exp2(), (stretch * SCALE).exp2()
        inverse = scaled(1 / zoom, 1 / zoom) @ rotated(-angle - tilt) @ scaled(1 / aspect, aspect)
        inverse = inverse @ rotated(tilt) @ shifted(-shift[0] * SHIFT * width, -shift[1] * SHIFT * height)
        turn, stretches = [angle.cos() - 1, angle.sin()], [stretch * tilt.cos(), stretch * tilt.sin()]
        return inverse, torch.stack([scale, *turn, *stretches, *shift], 1)


def scaled(x: Tensor, y: Tensor) -> Tensor:
    """Scalings of homogeneous coordinates, (B, 3, 3)."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], -1))


def rotated(angle: Tensor) -> Tensor:
    """Rotations from x to y, (B, 3, 3)."""
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def shifted(x: Tensor, y: Tensor) -> Tensor:
    """Translations, (B, 3, 3)."""
    matrix = torch.eye(3).repeat(len(x), 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


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
    taps = to_device(torch.tensor(SYM6, dtype=like.dtype), like.device)
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
