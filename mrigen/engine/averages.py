"""Exponential moving average of weights with a half-life in images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mrigen.engine.guard import NonFiniteGuard
from mrigen.engine.params import SelectionParams
from mrigen.engine.processes import is_rank_zero, on_rank_zero
from mrigen.engine.sharding import whole_parameters
from mrigen.engine.states import State
from mrigen.engine.stops import Interrupted, interruptible

RAMP = 0.05
ModuleScore = Callable[[nn.Module], float]
"""Distance of a generator's corrupted samples from the corrupted training data, less is better."""
OnMeasured = Callable[[int, float, nn.Module], None]
"""Puts away the average of a half-life after so many images."""


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
        guard: NonFiniteGuard | None = None,
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


class EMASelection:
    """Averages one run with several half-lives, measures each, keeps the best, says when to stop.

    The network is also measured before its first step, so that a run whose every measurement is bad is
    known to have diverged. Every process has the averages; the first one measures and tells the others.

    Attributes:
        history: images and the metric of every average, one row per measurement.
        start: the metric before the first step; None if that was not measured.

    Args:
        module: the network, not yet set up for training.
        halflives: in images; without a metric the first one is the result.
        params: when to measure and when to stop.
        score: metric of an averaged network; None for no selection.
        keep: told of every average whose metric is a number.
    """

    def __init__(
        self,
        module: nn.Module,
        halflives: tuple[float, ...],
        params: SelectionParams,
        score: ModuleScore | None,
        keep: OnMeasured | None = None,
    ) -> None:
        self.averages = [EMA(module, halflife) for halflife in halflives]
        self.params = params
        self.score = score if params.every_images is not None else None
        self._keep = keep
        self._best = None if self.score is None else copy.deepcopy(self.averages[0].module)
        self.history: list[list[float]] = []
        self.start: float | None = None

    def update(self, module: nn.Module, images: int, batch: int, guard: NonFiniteGuard | None = None) -> None:
        """Average the weights in."""
        weights = whole_parameters(module)
        for average in self.averages:
            average.update(module, images, batch, guard, weights)

    def due(self, images: int, batch: int) -> bool:
        """Whether the last ``batch`` of ``images`` images asks for a measurement that was not made yet."""
        every = self.params.every_images
        if self.score is None or every is None:
            return False
        if images == 0:
            return self.start is None
        return images // every > max(images - batch, 0) // every and self.missing(images)

    def missing(self, images: int) -> bool:
        """Whether the weights after so many images were not measured."""
        return self.score is not None and not (self.history and self.history[-1][0] == images)

    def measure(self, images: int) -> float:
        """The metric of the best average; all of them go into the history.

        Raises:
            Interrupted: in every process, when a signal has come to the first one; nothing has changed.
        """
        values = on_rank_zero(self._values)
        if values is None:
            raise Interrupted
        best = min(values)
        if images == 0:
            self.start = best
            return best
        if self._keep is not None and is_rank_zero():
            for average, value in zip(self.averages, values, strict=True):
                if math.isfinite(value):
                    self._keep(images, average.halflife, average.module)
        if self._best is not None and (not self.history or best < self._lowest()):
            self._best.load_state_dict(self.averages[values.index(best)].module.state_dict())
        self.history.append([float(images), *values])
        return best

    def _values(self) -> list[float] | None:
        """The metric of every average; None if the run is to stop."""
        assert self.score is not None
        try:
            with interruptible():
                return [_finite(self.score, average.module) for average in self.averages]
        except Interrupted:
            return None

    def _lowest(self) -> float:
        return min(min(values) for _, *values in self.history)

    @property
    def over(self) -> str:
        """Why the metric says to stop, empty if it does not: diverged, or no new best for too long."""
        values = [min(row[1:]) for row in self.history]
        if not values:
            return ""
        patience, late = self.params.patience, len(values) - 1 - values.index(min(values))
        if math.isinf(values[-1]):
            return "diverged, the selection metric is no number any more; lower the learning rates"
        if len(values) > 1 and all(map(self._far, values[-2:])):
            return f"diverged, {self.far}; lower the learning rates, or set distill.selection.diverged"
        if patience is not None and late >= patience:
            return "the selection metric found nothing better any more"
        return ""

    @property
    def far(self) -> str:
        """Words for a last measurement that is far above the best one, empty if it is not."""
        if not self.history or not self._far(min(self.history[-1][1:])):
            return ""
        before = "" if self.start is None else f" and {self.start:.4g} before the first step"
        last, best = min(self.history[-1][1:]), self._lowest()
        return f"the selection metric was {last:.4g} at last, {best:.4g} at its best{before}"

    def _far(self, value: float) -> bool:
        """Whether a value is far above the best one there was, the untrained network's included."""
        best = self._lowest() if self.start is None else min(self.start, self._lowest())
        limit = self.params.diverged
        return math.isinf(value) or (limit is not None and 0 < limit * best < value)

    @property
    def chosen(self) -> tuple[float, float | None]:
        """Half-life of the result, and after how many images it was best; None without a metric."""
        if not self.history:
            return self.averages[0].halflife, None
        images, *values = min(self.history, key=lambda row: min(row[1:]))
        return self.averages[values.index(min(values))].halflife, images

    @property
    def result(self) -> nn.Module:
        """The best average by the metric; without one the last of the first half-life."""
        return self._best if self._best is not None and self.history else self.averages[0].module

    @property
    def last(self) -> nn.Module:
        """The last average of the half-life of the result."""
        return next(a.module for a in self.averages if a.halflife == self.chosen[0])

    def described(self) -> dict[str, Any]:
        """The metric's history and the choice, for a file."""
        halflife, images = self.chosen
        measured = [
            {"images": row[0], **{f"{a.halflife:g}": v for a, v in zip(self.averages, row[1:], strict=True)}}
            for row in self.history
        ]
        return {"ema_halflife": halflife, "images": images, "start": self.start, "measured": measured}

    def state(self) -> State:
        """All averages, the best one and the history."""
        return {
            "averages": [average.module.state_dict() for average in self.averages],
            "best": None if self._best is None else self._best.state_dict(),
            "history": self.history,
            "start": self.start,
        }

    def load(self, state: State) -> None:
        """Continue from a saved state."""
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.module.load_state_dict(saved)
        if self._best is not None:
            self._best.load_state_dict(state["best"])
        self.history, self.start = state["history"], state.get("start")


def _finite(score: ModuleScore, module: nn.Module) -> float:
    """The metric; infinite for weights or a value that are no numbers."""
    if not all(bool(parameter.isfinite().all()) for parameter in module.parameters()):
        return math.inf
    value = score(module)
    return value if math.isfinite(value) else math.inf
