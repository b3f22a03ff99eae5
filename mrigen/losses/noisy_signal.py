"""A generated image as a distillation loss looks at it, with all that was drawn for the look."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrigen.diffusion.schedules import per_sample
from mrigen.operators.base import Operator


@dataclass(frozen=True, eq=False)
class NoisySignal:
    """What the teacher models of generated images, and the randomness of one evaluation of a loss.

    Attributes:
        signal: s, what the teacher models of the generated image; carries its gradient.
        operator: A, which says what the data can judge.
        further: Ã, through which the denoisers see.
        sigma: noise levels (B,).
        noise: standard normal ε, like ``signal``.
        labels: class labels (B, classes), or None.
    """

    signal: Tensor
    operator: Operator
    further: Operator
    sigma: Tensor
    noise: Tensor
    labels: Tensor | None = None

    @property
    def noisy(self) -> Tensor:
        """The noisy signal s + σ ε that the denoisers are asked about."""
        return self.signal + per_sample(self.sigma) * self.noise
