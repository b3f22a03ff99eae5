"""Images at a lower resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params
from mrigen.tensors import batch_size, mirrored


@dataclass(frozen=True, eq=False)
class Separable(LinearOperator):
    """A x = R x Cᵀ in every channel; the adjoint is Rᵀ y C.

    Attributes:
        rows: R, float (B or 1, h, H).
        columns: C, float (B or 1, w, W).
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> halve = torch.eye(4).view(1, 2, 2, 4).mean(2)
        >>> A = mg.operators.Separable(halve, halve, torch.zeros(1, 1, 4, 4))
        >>> A(torch.ones(1, 1, 4, 4))
        tensor([[[[1., 1.],
                  [1., 1.]]]])
    """

    rows: Tensor
    columns: Tensor
    like: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """R x Cᵀ: (B, C, H, W) to (B, C, h, w)."""
        return self.rows[:, None] @ x @ self.columns[:, None].mT

    def adjoint(self, y: Tensor) -> Tensor:
        """Rᵀ y C."""
        return self.rows[:, None].mT @ y @ self.columns[:, None]

    def norm_bound(self) -> Tensor:
        """The largest eigenvalue itself, ‖R‖² ‖C‖² of the spectral norms."""
        norms: Tensor = torch.linalg.matrix_norm(self.rows, 2) * torch.linalg.matrix_norm(self.columns, 2)
        return norms.square().expand(batch_size(self))

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    @classmethod
    def example(cls) -> Separable:
        """Random matrices, from 7 x 5 to 4 x 3 pixels, another pair for each sample."""
        rng = torch.Generator().manual_seed(0)
        rows = torch.randn(2, 4, 7, generator=rng)
        columns = torch.randn(2, 3, 5, generator=rng)
        return cls(rows, columns, torch.zeros(2, 3, 7, 5))


@dataclass(frozen=True, eq=False)
class LowResolution(Separable):
    """The small image, (B, C, H / s, W / s). As an image of full size it is A† y, and A A† = I.

    Attributes:
        inverse_rows: R† (1, H, H / s).
        inverse_columns: C† (1, W, W / s).
    """

    inverse_rows: Tensor
    inverse_columns: Tensor

    def as_image(self, y: Tensor) -> Tensor:
        """A† y = R† y C†ᵀ."""
        return self.inverse_rows[:, None] @ y @ self.inverse_columns[:, None].mT

    def whitened_image(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Refuse: A† spreads the noise of one small pixel over a block."""
        del y, sigma, rng
        raise UsageError(
            "super-resolution: the noise of small images is correlated at full size, which Tweedie cannot "
            "model; use restored: true, or standard"
        )

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """The small image mirrors like the large one."""
        return mirrored(y, which, axis), self

    @classmethod
    def example(cls) -> LowResolution:
        """Thirds of colour images of odd size."""
        rows, columns = averaging(9, 3).float()[None], averaging(15, 3).float()[None]
        return cls(
            rows, columns, torch.zeros(2, 3, 9, 15), torch.linalg.pinv(rows), torch.linalg.pinv(columns)
        )


@dataclass(frozen=True, eq=False)
class RangeProjection(Separable):
    """A = P = A₀† A₀, the small image brought back to full size; an orthogonal projection."""

    @property
    def is_projection(self) -> bool:
        """Whether N N = N: N = P."""
        return True

    def normal(self, x: Tensor) -> Tensor:
        """P x, for P is a projection."""
        return self.forward(x)

    def as_image(self, y: Tensor) -> Tensor:
        """Return y."""
        return y

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """The measurement mirrors like the image."""
        return mirrored(y, which, axis), self

    @classmethod
    def example(cls) -> RangeProjection:
        """Thirds of colour images of odd size."""
        rows, columns = (projection(averaging(length, 3)).float()[None] for length in (9, 15))
        return cls(rows, columns, torch.zeros(2, 3, 9, 15))


class SuperResolutionParams(Params):
    """Downsampling by a whole factor.

    Attributes:
        factor: s.
        kernel: ``average`` of s x s blocks, or anti-aliased ``bicubic``.
        restored: whether the measurement is A† A x at full size rather than A x. The noise is then
            white in the image that networks see, as DCD assumes and as Tweedie's formula needs; A†
            would spread that of a small image over blocks. Without noise both are the same image.
    """

    factor: Annotated[int, Field(ge=2)] = 2
    kernel: Literal["average", "bicubic"] = "average"
    restored: bool = True


def averaging(length: int, factor: int) -> Tensor:
    """Means of ``factor`` neighbours: float64 (length / factor, length); its R† repeats them."""
    return torch.eye(length // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor


def bicubic(length: int, factor: int) -> Tensor:
    """Keys's cubic kernel (1981, a = −0.5) stretched by ``factor``: float64 (length / factor, length).

    Row i weighs pixel j by w((j + ½)/s − (i + ½)), w(t) = 1.5|t|³ − 2.5|t|² + 1 up to 1 and
    −0.5|t|³ + 2.5|t|² − 4|t| + 2 up to 2; weights beyond the edge are left out and the others
    normalised to sum 1 (``antialias=True`` of torch and Pillow).
    """
    small = torch.arange(length // factor, dtype=torch.float64)[:, None] + 0.5
    t = ((torch.arange(length, dtype=torch.float64) + 0.5) / factor - small).abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))
    return weights / weights.sum(1, keepdim=True)


def projection(matrix: Tensor) -> Tensor:
    """R† R."""
    projected: Tensor = torch.linalg.pinv(matrix) @ matrix
    return projected


KERNELS = {"average": averaging, "bicubic": bicubic}


@CORRUPTIONS.register("super-resolution")
class SuperResolution(ImageCorruption):
    """The same downsampling for every image; nothing is random."""

    Params = SuperResolutionParams
    params: SuperResolutionParams
    ambient_obstacle = f"downsampling {FIXED}"

    def __init__(self, params: SuperResolutionParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        if shape[1] % params.factor or shape[2] % params.factor:
            raise UsageError(
                f"super-resolution: {shape[1]} x {shape[2]} pixels do not divide by factor {params.factor}; "
                "crop the images or change the factor"
            )
        small = [KERNELS[params.kernel](length, params.factor) for length in shape[1:]]
        matrices = [projection(m) for m in small] if params.restored else small
        inverses = [] if params.restored else [torch.linalg.pinv(m) for m in small]
        self._matrices = [m.float()[None] for m in matrices]
        self._inverses = [m.float()[None] for m in inverses]

    def draw(self, batch: int, rng: torch.Generator) -> Separable:
        """The downsampling."""
        del rng
        rows, columns = self._matrices
        if self.params.restored:
            return RangeProjection(rows, columns, self.zeros(batch))
        return LowResolution(rows, columns, self.zeros(batch), *self._inverses)

    @classmethod
    def example(cls) -> Self:
        """Thirds of colour images of odd size, at full size."""
        return cls(SuperResolutionParams(factor=3), (3, 9, 15))
