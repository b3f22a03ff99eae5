"""A mask law: which phase-encode lines are measured, and which of those are dropped further."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.corruption import NAIVE
from mrigen.registry import Params, Registry

MASKS: Registry[MaskLaw] = Registry("mask", "mrigen.operators.masks")


class MaskParams(Params):
    """Parameters that every mask law shares.

    Attributes:
        acceleration: R, the factor by which lines are saved.
        acs_lines: fully sampled lines around DC; give this or ``center_fraction``.
        center_fraction: the same as a fraction of W; by default 0.32 / R, which gives fastMRI's
            pairs 0.08 with 4x and 0.04 with 8x.
        further_drop: non-ACS lines that the further corruption drops; by default
            m - floor(m R / (R + 1)) of m measured lines, which gives 54, 16, 8, 5 for
            R = 2, 4, 6, 8 at W = 320 as the released Ambient-MRI models use; 0 for the naive masked loss,
            a baseline.
    """

    acceleration: Annotated[float, Field(gt=1)] = 4
    acs_lines: Annotated[int, Field(ge=0)] | None = None
    center_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    further_drop: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_centre(self) -> MaskParams:
        if self.acs_lines is not None and self.center_fraction is not None:
            raise ValueError("give acs_lines or center_fraction, not both")
        return self

    def centre(self, width: int) -> int:
        """Number of ACS lines of a k-space that is ``width`` lines wide."""
        if self.acs_lines is not None:
            return self.acs_lines
        fraction = self.center_fraction if self.center_fraction is not None else 0.32 / self.acceleration
        return round(width * fraction)

    def dropped(self, measured: int) -> int:
        """Number of lines (or points) that the further corruption drops from ``measured`` ones."""
        if self.further_drop is not None:
            return self.further_drop
        return measured - int(measured * self.acceleration / (self.acceleration + 1))


class MaskLaw(ABC):
    """Distribution over masks of phase-encode lines, DC at index W // 2.

    Attributes:
        reason: why ambient training cannot use these masks; empty where every line that is not in
            the further mask could still have been measured, P(M=1 | M̃) > 0 everywhere (Ambient
            Diffusion, theorem 4.1).
    """

    Params: ClassVar[type[MaskParams]] = MaskParams
    reason: ClassVar[str] = ""

    def __init__(self, params: MaskParams) -> None:
        self.params = params

    @property
    def baseline(self) -> str:
        """What ambient training with these masks is if they drop nothing further; empty if they do."""
        return NAIVE if self.params.further_drop == 0 else ""

    @abstractmethod
    def draw(self, acquired: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one mask per row of ``acquired``.

        Args:
            acquired: lines that the scanner can measure, bool (n, W), contiguous around DC;
                zero-padded edges are False.
            generator: source of randomness, on the CPU.

        Returns:
            Masks, bool (n, W), each a subset of its row of ``acquired``.
        """

    def check(self, acquired: Tensor) -> None:
        """Refuse a law that cannot be drawn or corrupted further.

        Args:
            acquired: lines that the scanner can measure, bool (W,).

        Raises:
            UsageError: the budget has no room for the ACS lines or for the further corruption.
        """
        budget = int(int(acquired.sum()) // self.params.acceleration)
        centre, drop = int((self.acs(1, len(acquired)) & acquired).sum()), self.params.dropped(budget)
        if centre + drop > budget:
            raise UsageError(
                f"acceleration {self.params.acceleration:g} measures {budget} of {int(acquired.sum())} "
                f"lines: too few for {centre} ACS lines and {drop} that the further corruption drops; "
                "lower the acceleration or the ACS lines"
            )

    def further(self, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Drop random points outside the ACS: M̃ ~ p(M̃ | M), M̃ ⊂ M.

        Args:
            mask: bool (n, 1, 1, W) for lines or (n, 1, H, W) for points.
            generator: source of randomness, on the CPU.

        Returns:
            M̃ of the same shape with ``params.dropped`` fewer points, or none outside the ACS where
            there were fewer.
        """
        free = (mask & ~self.acs(*mask.shape[-2:])).flatten(1)
        count = torch.tensor([self.params.dropped(int(m)) for m in mask.flatten(1).sum(1)])
        return mask & ~random_subset(free, count, generator).view(mask.shape)

    def acs(self, height: int, width: int) -> Tensor:
        """The fully sampled centre: lines (1, W) for ``height`` 1, otherwise a square (H, W)."""
        lines = self.params.centre(width)
        columns = centred(width, lines)[None, :]
        return columns if height == 1 else columns & centred(height, lines)[:, None]

    @classmethod
    def example(cls) -> MaskLaw:
        """R = 4 with 8 ACS lines."""
        return cls(cls.Params(acceleration=4, acs_lines=8))


def centred(width: int, lines: int) -> Tensor:
    """``lines`` lines around DC at W // 2, bool (W,): from (W - n + 1) // 2 as fastMRI places them."""
    first = (width - lines + 1) // 2
    index = torch.arange(width)
    return (index >= first) & (index < first + lines)


def random_subset(candidates: Tensor, count: Tensor, generator: torch.Generator) -> Tensor:
    """Uniformly random subset of each row of ``candidates`` (n, points), of ``count`` (n,) elements."""
    score = torch.rand(candidates.shape, generator=generator).masked_fill(~candidates, 2.0)
    rank = score.argsort(1).argsort(1)
    return candidates & (rank < count[:, None])
