"""Exponential moving average of weights with a half-life in images."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mrigen.engine.guard import Guard
from mrigen.engine.sharding import whole_parameters

RAMP = 0.05


class EMA:
    """A running average of a module's parameters, whole in every process; its buffers are copied.

    The half-life is at most 5 % of the images seen so far, so that the start is forgotten (EDM).

    Args:
        module: module to average, not yet set up for training.
        halflife: in images.
    """

    def __init__(self, module: nn.Module, halflife: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.halflife = halflife

    @torch.no_grad()
    def update(
        self,
        module: nn.Module,
        images: int,
        batch: int,
        guard: Guard | None = None,
        weights: list[Tensor] | None = None,
    ) -> None:
        """Average in the weights after a step that brought the count to ``images``.

        Args:
            module: the weights.
            images: count.
            batch: images of the step.
            guard: nothing is averaged any more once its flag is up.
            weights: ``whole_parameters`` of the module, for several averages of it.
        """
        weight = 1 - 0.5 ** (batch / max(min(self.halflife, RAMP * images), 1e-8))
        mine: list[Tensor] = list(self.module.parameters())
        theirs = whole_parameters(module) if weights is None else weights
        if guard is None or guard.immediate:
            torch._foreach_lerp_(mine, theirs, weight)
        else:
            shown = weight * (1 - guard.failed)
            torch._foreach_lerp_(mine, theirs, [shown.expand_as(p) for p in mine])
        for old, new in zip(self.module.buffers(), module.buffers(), strict=True):
            old.copy_(new)
