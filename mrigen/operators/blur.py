"""Convolution with a kernel, one per sample if need be; the blurs are made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, mirrored


@dataclass(frozen=True, eq=False)
class Blur(LinearOperator):
    """A x = k * x, with the image continued by reflection about its edge pixels.

    (k * x)[i] = Σ_j k[j] x[i − j], j counted from the kernel's centre. Beyond the edge x[−i] = x[i],
    the edge pixel not repeated: ``reflect`` of torch and numpy, ``mirror`` of scipy. The adjoint is
    the full correlation with k, whose margin is folded back onto the pixels that it was reflected
    from.

    The measurement looks like an image: ``as_image`` returns it.

    Attributes:
        kernel: (B or 1, 1 or C, h, w), h and w odd.
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.

    Raises:
        ValueError: a kernel of even size, or one that reaches further than the image.
    """

    kernel: Tensor
    like: Tensor

    def __post_init__(self) -> None:
        h, w = self.kernel.shape[-2:]
        if h % 2 == 0 or w % 2 == 0:
            raise ValueError(f"kernels need odd sizes, not {h} x {w}")
        H, W = self.like.shape[-2:]
        if h // 2 >= H or w // 2 >= W:
            raise ValueError(f"a {h} x {w} kernel reaches beyond an image of {H} x {W}")

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with k: k * x, of the image's size."""
        h, w = self._margin
        return _correlate(functional.pad(x, (w, w, h, h), mode="reflect"), self.kernel.flip((-2, -1)))

    def adjoint(self, y: Tensor) -> Tensor:
        """Correlate with k over all of its reach and fold the margin back."""
        h, w = self._margin
        full = _correlate(functional.pad(y, (2 * w, 2 * w, 2 * h, 2 * h)), self.kernel)
        return _fold(_fold(full, w).mT, h).mT

    def as_image(self, y: Tensor) -> Tensor:
        """Return y."""
        return y

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """The kernel mirrors with the measurement."""
        return mirrored(y, which, axis), replace(self, kernel=mirrored(self.kernel, which, axis))

    @property
    def _margin(self) -> tuple[int, int]:
        h, w = self.kernel.shape[-2:]
        return h // 2, w // 2

    @classmethod
    def example(cls) -> Blur:
        """Two colour images of odd size, each channel with a kernel of its own."""
        generator = torch.Generator().manual_seed(0)
        return cls(torch.rand(2, 3, 5, 3, generator=generator), torch.zeros(2, 3, 7, 5))


def check_reach(size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    """Refuse kernels that reflection cannot serve.

    Raises:
        UsageError: half of the kernel is as wide as the image.
    """
    if size[0] // 2 >= shape[1] or size[1] // 2 >= shape[2]:
        raise UsageError(
            f"a blur of {size[0]} x {size[1]} pixels is too wide for images of {shape[1]} x {shape[2]}; "
            "make it smaller"
        )


def _correlate(x: Tensor, kernel: Tensor) -> Tensor:
    """Σ_j k[j] x[i + j] where k lies in x; depthwise, which CUDA computes in full float32."""
    batch, channels, height, width = x.shape
    h, w = kernel.shape[-2:]
    each = kernel.expand(batch, channels, h, w).reshape(batch * channels, 1, h, w)
    out: Tensor = functional.conv2d(
        x.reshape(1, batch * channels, height, width), each, groups=batch * channels
    )
    return out.view(batch, channels, *out.shape[-2:])


def _fold(y: Tensor, margin: int) -> Tensor:
    """Adjoint of reflection along the last axis."""
    size = y.shape[-1] - 2 * margin
    left, core, right = y.split([margin, size, margin], -1)
    rest = size - 1 - margin
    folded: Tensor = (
        core + functional.pad(left.flip(-1), (1, rest)) + functional.pad(right.flip(-1), (rest, 1))
    )
    return folded
