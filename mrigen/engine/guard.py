"""Losses that are no numbers, noticed on the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mrigen.errors import NonFiniteLossError


class NonFiniteGuard:
    """Stops a run at the first loss that is NaN or infinite; shared by all that a run updates.

    Reading a number of a GPU makes the processor wait until all work before it is done. So the flag
    ``failed`` stays on the device and goes into every update: once it is up, weights, moments and averages
    stay what they were before the offending step. The host reads it now and then and learns how many steps
    came before. On the processor itself a look costs nothing, and the first offending loss ends the step.

    Attributes:
        failed: 0, or 1 from the first loss on that was no number; float32 ().
        immediate: raise at once instead of at the next look.

    Args:
        device: where losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self.failed = torch.zeros((), device=device)
        self.immediate = device.type != "cuda"
        self._offending = torch.zeros((), device=device)
        self._steps = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, loss: Tensor) -> None:
        """Raise the flag if ``loss`` (or a gradient's norm) is no number.

        Raises:
            NonFiniteLossError: it is none, and the guard is immediate.
        """
        if self.immediate:
            _check(float(loss))
            return
        bad = (~loss.isfinite()).to(self.failed.dtype)
        self._offending.copy_(torch.where(bad > self.failed, loss, self._offending))
        torch.maximum(self.failed, bad, out=self.failed)

    def finish_step(self) -> None:
        """Count a step, unless the flag is up."""
        self._steps += (1 - self.failed).long()

    def poll(self) -> int:
        """Wait for the device; steps since the last look that were done before the flag went up."""
        steps = int(self._steps)
        self._steps.zero_()
        return steps

    def raise_if_set(self) -> None:
        """Wait for the device.

        Raises:
            NonFiniteLossError: the flag is up.
        """
        if float(self.failed):
            _check(float(self._offending))


def _check(value: float) -> None:
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"the loss or its gradient became {value:.4g}; the state before that step is saved: "
            "see with mrigen doctor whether the data are damaged; lower the learning rate, or set "
            "max_grad_norm"
        )
