"""Blur: convolution with a Gaussian kernel, a motion kernel, or a kernel of the user's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params
from mrigen.tensors import mirrored

POINTS_PER_PIXEL = 16


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

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.Blur(torch.full((1, 1, 3, 3), 1 / 9), torch.zeros(1, 1, 8, 8))
        >>> torch.allclose(A(torch.ones(2, 1, 8, 8)), torch.ones(2, 1, 8, 8))
        True
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
        rng = torch.Generator().manual_seed(0)
        return cls(torch.rand(2, 3, 5, 3, generator=rng), torch.zeros(2, 3, 7, 5))


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


class GaussianBlurParams(Params):
    """A truncated Gaussian; the defaults are those of RSD and DCD.

    Attributes:
        size: rows and columns of the kernel, odd.
        std: σ_G in pixels.
    """

    size: Annotated[int, Field(ge=1)] = 9
    std: Annotated[float, Field(gt=0)] = 2.0


def gaussian_kernel(size: int, std: float) -> Tensor:
    """k[i, j] ∝ exp(−(i² + j²) / 2 std²) for |i|, |j| ≤ size // 2, of sum 1; float32 (size, size)."""
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    line = (-0.5 * (offset / std) ** 2).exp()
    line /= line.sum()
    return torch.outer(line, line).float()


@CORRUPTIONS.register("gaussian-blur")
class GaussianBlur(ImageCorruption):
    """The same Gaussian kernel for every image; nothing is random."""

    Params = GaussianBlurParams
    ambient_obstacle = f"a Gaussian blur {FIXED}"

    def __init__(self, params: GaussianBlurParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        if params.size % 2 == 0:
            raise UsageError(f"gaussian-blur: size {params.size} must be odd; take {params.size + 1}")
        check_reach((params.size, params.size), shape)
        self._kernel = gaussian_kernel(params.size, params.std)[None, None]

    def draw(self, batch: int, rng: torch.Generator) -> Blur:
        """The blur."""
        del rng
        return Blur(self._kernel, self.zeros(batch))

    @classmethod
    def example(cls) -> Self:
        """Colour images of odd size."""
        return cls(GaussianBlurParams(size=5, std=1.5), (3, 7, 5))


def _ordered(value: float | tuple[float, float]) -> float | tuple[float, float]:
    low, high = bounds(value)
    if not -math.inf < low <= high < math.inf:
        raise ValueError("needs one finite number, or two with the lower first")
    return value


def _positive(value: float | tuple[float, float]) -> float | tuple[float, float]:
    if bounds(value)[0] <= 0:
        raise ValueError("must be positive")
    return value


Range = Annotated[float | tuple[float, float], AfterValidator(_ordered)]
"""One number, or two for a uniform draw between them."""


class MotionBlurParams(Params):
    """A movement at constant speed along a straight line.

    Attributes:
        length: of the line in pixels; two numbers draw it uniformly between them for each sample.
        angle: of the line in degrees, counter-clockwise from the horizontal; two numbers as above.
    """

    length: Annotated[Range, AfterValidator(_positive)] = 9.0
    angle: Range = (0.0, 180.0)


def bounds(value: float | tuple[float, float]) -> tuple[float, float]:
    """Both ends of a range."""
    return value if isinstance(value, tuple) else (value, value)


def motion_kernel(length: Tensor, angle: Tensor, reach: int) -> Tensor:
    """Kernels of straight movements.

    k[i, j] = ∫ tri(i − v(t)) tri(j − u(t)) dt over t in [−½, ½], with (u, v) = length · t ·
    (cos angle, −sin angle) and the triangle tri(a) = max(0, 1 − |a|) of bilinear interpolation, by
    the midpoint rule with 16 points to the pixel. The sum is 1 and the centre of mass is the centre.

    Args:
        length: in pixels, (B,).
        angle: in degrees, (B,).
        reach: half of the kernel's size; at least length / 2 + 1.

    Returns:
        float32 (B, 1, 2 reach + 1, 2 reach + 1).
    """
    count = POINTS_PER_PIXEL * math.ceil(float(length.max()))
    t = (torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5
    radians = torch.deg2rad(angle.double())[:, None]
    along = length.double()[:, None] * t
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    rows = (1 - (offset + (along * radians.sin())[..., None]).abs()).relu()
    columns = (1 - (offset - (along * radians.cos())[..., None]).abs()).relu()
    return (rows.mT @ columns / count)[:, None].float()


@CORRUPTIONS.register("motion-blur")
class MotionBlur(ImageCorruption):
    """Straight movements, the same for all samples or of random length and direction.

    A random blur is no further corruption of another: what one of them removes cannot be
    predicted from what another leaves.
    """

    Params = MotionBlurParams
    params: MotionBlurParams
    ambient_obstacle = f"a motion blur {FIXED}"

    def __init__(self, params: MotionBlurParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self._reach = math.floor(bounds(params.length)[1] / 2) + 1
        check_reach((2 * self._reach + 1, 2 * self._reach + 1), shape)

    def draw(self, batch: int, rng: torch.Generator) -> Blur:
        """One movement per sample."""
        length, angle = (
            low + (high - low) * torch.rand(batch, generator=rng)
            for low, high in (bounds(self.params.length), bounds(self.params.angle))
        )
        return Blur(motion_kernel(length, angle, self._reach), self.zeros(batch))

    @classmethod
    def example(cls) -> Self:
        """Random movements in colour images of odd size."""
        return cls(MotionBlurParams(length=(2.0, 5.0)), (3, 7, 5))


def _absolute(value: list[list[float]] | Path) -> list[list[float]] | Path:
    return value.expanduser().resolve() if isinstance(value, Path) else value


class KernelBlurParams(Params):
    """A kernel of odd size.

    Attributes:
        kernel: its rows, or a ``.npy`` file with an array (h, w).
        normalise: divide it by its sum, so that a constant image stays as it is.
    """

    kernel: Annotated[list[list[float]] | Path, AfterValidator(_absolute)]
    normalise: bool = True


@CORRUPTIONS.register("blur")
class KernelBlur(ImageCorruption):
    """The same kernel for every image; nothing is random."""

    Params = KernelBlurParams
    ambient_obstacle = f"a blur {FIXED}"

    def __init__(self, params: KernelBlurParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        kernel = read_kernel(params.kernel)
        check_reach((kernel.shape[0], kernel.shape[1]), shape)
        if params.normalise:
            if abs(kernel.sum()) < 1e-6 * np.abs(kernel).sum():
                raise UsageError(
                    "blur: the kernel sums to zero and cannot be normalised; set normalise: false"
                )
            kernel = kernel / kernel.sum()
        self._kernel: Tensor = torch.from_numpy(kernel).float()[None, None]

    def draw(self, batch: int, rng: torch.Generator) -> Blur:
        """The blur."""
        del rng
        return Blur(self._kernel, self.zeros(batch))

    @classmethod
    def files(cls, params: Any) -> list[Path]:
        """The kernel's file, if it has one."""
        return [params.kernel] if isinstance(params.kernel, Path) else []

    @classmethod
    def example(cls) -> Self:
        """A kernel without any symmetry, on colour images of odd size."""
        return cls(KernelBlurParams(kernel=[[1, 2, 3], [0, 5, 1], [4, 0, 0]]), (3, 7, 5))


def read_kernel(source: list[list[float]] | Path) -> NDArray[np.float64]:
    """A kernel as float64 (h, w), h and w odd.

    Raises:
        UsageError: no such file, or no kernel.
    """
    name = source if isinstance(source, Path) else "blur: the kernel"
    try:
        rows = np.load(source, allow_pickle=False) if isinstance(source, Path) else np.array(source)
        kernel = np.asarray(rows, np.float64)
    except (OSError, ValueError, TypeError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"{name}: {what}; give rows of equal length, or a .npy file") from error
    if kernel.ndim != 2 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise UsageError(f"{name}: needs odd numbers of rows and columns, not shape {kernel.shape}")
    if not np.isfinite(kernel).all() or not kernel.any():
        raise UsageError(f"{name}: holds values that are not finite, or only zeros; give a real kernel")
    return kernel
