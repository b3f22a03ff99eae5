"""Deterministic samplers of EDM (Karras et al. 2022, algorithm 1)."""

from torch import Tensor

from mrigen.diffusion.samplers.base import SAMPLERS, Predict, Sampler


def slope(predict: Predict, x: Tensor, sigma: float) -> Tensor:
    """dx/dσ = (x − D(x, σ)) / σ (EDM, eq. 3)."""
    return (x - predict(x, sigma)) / sigma


@SAMPLERS.register("euler")
class Euler(Sampler):
    """First order: x + (σ' − σ) dx/dσ."""

    def step(self, predict: Predict, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """One Euler step."""
        return x + (sigma_next - sigma) * slope(predict, x, sigma)

    def evaluations(self) -> int:
        """One per step."""
        return self.params.steps


@SAMPLERS.register("heun")
class Heun(Sampler):
    """Second order: the slope is averaged with the one at the Euler step's end, except at σ' = 0."""

    def step(self, predict: Predict, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """One Heun step."""
        first = slope(predict, x, sigma)
        ahead = x + (sigma_next - sigma) * first
        if sigma_next == 0:
            return ahead
        return x + (sigma_next - sigma) * (first + slope(predict, ahead, sigma_next)) / 2

    def evaluations(self) -> int:
        """Two per step, one in the last."""
        return 2 * self.params.steps - 1
