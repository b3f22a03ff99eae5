"""Random projections of the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import CORRUPTIONS, NAIVE, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params


@dataclass(frozen=True, eq=False)
class Rows(LinearOperator):
    """A x = K G vec(x): inner products of the image with the kept rows of a matrix.

    Attributes:
        matrix: G, float (B or 1, m, C·H·W).
        kept: rows that are measured, bool (B or 1, m); the others are zero in the measurement.
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.

    The measurement is (B, m).

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.Rows.example()
        >>> A(A.zero_image()).ndim
        2
    """

    matrix: Tensor
    kept: Tensor
    like: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """K G vec(x)."""
        return (self.matrix @ x.flatten(1)[..., None])[..., 0] * self.kept

    def adjoint(self, y: Tensor) -> Tensor:
        """Gᵀ K y as an image."""
        rows = (self.matrix.mT @ (y * self.kept)[..., None])[..., 0]
        return rows.reshape(len(y), *self.like.shape[1:])

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    def noise(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """Noise in the kept rows."""
        return super().noise(y, sigma, rng) * self.kept

    @classmethod
    def example(cls) -> Rows:
        """11 rows for colour images of odd size, another matrix for each sample, some rows dropped."""
        rng = torch.Generator().manual_seed(0)
        kept = torch.rand(2, 11, generator=rng) < 0.8
        return cls(torch.randn(2, 11, 45, generator=rng), kept, torch.zeros(2, 3, 5, 3))


class CompressedSensingParams(Params):
    """Gaussian rows.

    Attributes:
        measurements: m, the number of rows.
        matrix: a new one ``per-sample``, or one ``fixed`` for all. A matrix holds m·C·H·W numbers.
        seed: of the fixed matrix.
        further_drop: rows that the further corruption drops; 0 for the naive masked loss, a baseline.
    """

    measurements: Annotated[int, Field(ge=1)]
    matrix: Literal["per-sample", "fixed"] = "per-sample"
    seed: int = 0
    further_drop: Annotated[int, Field(ge=0)] = 1


@CORRUPTIONS.register("compressed-sensing")
class CompressedSensing(ImageCorruption):
    """m rows of independent N(0, 1/m) entries, so that E[AᵀA] = I and Aᵀy is in the image's units.

    The further corruption drops the last r rows. Given the others they are still independent, and

        E[AᵀA | Ã] = ÃᵀÃ + (r/m) I

    has full rank (Ambient Diffusion, corollary A.2, there with N(0, 1) entries and r = 1). One matrix
    for all samples is known from Ã: then E[AᵀA | Ã] = AᵀA, of rank m.

    Networks are not told the matrix, only what they see through it.
    """

    Params = CompressedSensingParams
    params: CompressedSensingParams

    def __init__(self, params: CompressedSensingParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self._pixels = shape[0] * shape[1] * shape[2]
        if params.further_drop > params.measurements:
            raise UsageError(
                f"compressed-sensing: cannot drop {params.further_drop} of {params.measurements} rows; "
                "lower further_drop"
            )
        self.baseline = "" if params.further_drop else NAIVE
        self._fixed: Tensor | None = None
        if params.matrix == "fixed":
            self._fixed = self._rows(1, seeds.seeded_rng(params.seed, "rows"))
            if params.measurements < self._pixels:
                self.ambient_obstacle = (
                    "what one matrix for all images does not see is never measured; use matrix: per-sample, "
                    "or standard"
                )

    def draw(self, batch: int, rng: torch.Generator) -> Rows:
        """A matrix per sample, or the one for all."""
        kept = torch.ones(batch, self.params.measurements, dtype=torch.bool)
        matrix = self._rows(batch, rng) if self._fixed is None else self._fixed
        return Rows(matrix, kept, self.zeros(batch))

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> Rows:
        """Drop the last kept rows; being independent, they are as good as random ones."""
        del rng
        if not isinstance(operator, Rows):
            raise TypeError(f"CompressedSensing cannot corrupt a {type(operator).__name__} further")
        left = operator.kept.sum(1, keepdim=True) - self.params.further_drop
        return replace(operator, kept=operator.kept & (operator.kept.cumsum(1) <= left))

    def _rows(self, batch: int, rng: torch.Generator) -> Tensor:
        m = self.params.measurements
        scale: float = m**-0.5
        return torch.randn(batch, m, self._pixels, generator=rng) * scale

    @classmethod
    def example(cls) -> Self:
        """20 of 45 numbers of colour images of odd size."""
        return cls(CompressedSensingParams(measurements=20), (3, 5, 3))
