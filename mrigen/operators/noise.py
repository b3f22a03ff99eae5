"""How strong the measurement noise is."""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor

from mrigen.registry import Params


class Noise(Params):
    """σ of each sample: one value, or uniform between two; zero for noiseless data.

    Attributes:
        low: smallest standard deviation per real component, in image units.
        high: largest; None for ``low`` always.
    """

    low: float = 0.0
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Noise:
        if self.low < 0 or (self.high is not None and self.high < self.low):
            raise ValueError("noise levels must not be negative, the lower first")
        return self

    def __bool__(self) -> bool:
        return self.top > 0

    @property
    def top(self) -> float:
        """The largest standard deviation."""
        return self.low if self.high is None else self.high

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """σ of each sample, (batch,)."""
        if self.high is None:
            return torch.full((batch,), self.low)
        return self.low + (self.high - self.low) * torch.rand(batch, generator=generator)
