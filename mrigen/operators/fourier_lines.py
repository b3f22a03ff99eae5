"""Cartesian lines of single images, by the mask laws of multi-coil MRI."""

from __future__ import annotations

from typing import Annotated, Any, Self

import torch
from pydantic import AfterValidator
from torch import Tensor

from mrigen.operators.corruption import CORRUPTIONS, Shape
from mrigen.operators.fourier_mask import FourierCorruption, FourierParams
from mrigen.operators.masks import MASKS, MaskLaw
from mrigen.operators.noise import Noise


def _complete(spec: dict[str, Any]) -> dict[str, Any]:
    return {"name": spec.get("name"), **MASKS.params(spec).model_dump(mode="json", exclude_none=True)}


class FourierLinesParams(FourierParams):
    """Lines of k-space.

    Attributes:
        mask: the law of the lines in a recipe's notation, ``name`` and parameters.
    """

    mask: Annotated[dict[str, Any], AfterValidator(_complete)] = {"name": "exact-random", "acceleration": 4}


@CORRUPTIONS.register("fourier-lines")
class FourierLines(FourierCorruption):
    """Lines of k-space along H, drawn by a mask law; that law says whether theorem 4.1 holds.

    For ``exact-random`` with N lines, b of them measured and r dropped further, every line that M̃
    lacks outside the ACS was measured with probability r / (N − b + r).
    """

    Params = FourierLinesParams
    params: FourierLinesParams

    def __init__(self, params: FourierLinesParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self._law: MaskLaw = MASKS.build(params.mask)
        self._law.check(torch.ones(shape[2], dtype=torch.bool))
        self.reason, self.baseline = self._law.reason, self._law.baseline

    def masks(self, batch: int, generator: torch.Generator) -> Tensor:
        """Lines, bool (batch, 1, 1, W)."""
        every = torch.ones(batch, self.shape[2], dtype=torch.bool)
        return self._law.draw(every, generator)[:, None, None]

    def smaller(self, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Drop lines outside the ACS."""
        return self._law.further(mask, generator)

    @classmethod
    def example(cls) -> Self:
        """Complex images of odd width, half of the lines."""
        mask = {"name": "exact-random", "acceleration": 2, "acs_lines": 3, "further_drop": 2}
        return cls(FourierLinesParams(image="complex", mask=mask), (1, 8, 13))
