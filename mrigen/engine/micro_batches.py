"""How the micro-batches of a step are shared out among processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from mrigen.engine.params import RunParams
from mrigen.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch that a process works on.

    Attributes:
        index: number of the micro-batch in the step; its randomness belongs to it.
        weight: factor of its mean loss before the gradients are averaged over processes. The average is
            then the gradient of the mean over all micro-batches, however they are shared out.
        last: whether gradients meet after it.
    """

    index: int
    weight: float
    last: bool


class MicroBatchPlan:
    """The micro-batches of this process: r, r + W, r + 2W, ... for process r of W.

    Every process has as many, since those with sharded networks meet in every forward pass; where the number
    of processes does not divide the number of micro-batches, some do one again with weight zero.

    Args:
        section: of the recipe, for messages.
        params: batch and micro-batch.
        fabric: number of this process and of all.

    Raises:
        UsageError: fewer micro-batches than processes.
    """

    def __init__(self, section: str, params: RunParams, fabric: Fabric) -> None:
        count, processes = params.micro_batches, fabric.world_size
        if count < processes:
            raise UsageError(
                f"{section}: {count} micro-batch{'es' * (count > 1)} of {params.batch // count} images, "
                f"too few for {processes} processes; {_remedy(section, params.batch, processes)}"
            )
        self._count, self._rank, self._processes, self._fabric = count, fabric.global_rank, processes, fabric

    def __iter__(self) -> Iterator[MicroBatch]:
        rounds = -(-self._count // self._processes)
        for number in range(rounds):
            index = self._rank + number * self._processes
            real = index < self._count
            weight = self._processes / self._count if real else 0.0
            yield MicroBatch(index if real else self._rank, weight, last=number == rounds - 1)

    def accumulate_grad(
        self, micro_batch: MicroBatch, trained: nn.Module, *frozen: nn.Module
    ) -> AbstractContextManager[object]:
        """Context of a forward and backward pass: gradients stay here until the last micro-batch.

        Args:
            micro_batch: which one.
            trained: module, set up by Fabric, whose gradients are collected.
            frozen: further such modules that gradients only flow through.
        """
        stack = ExitStack()
        quiet = frozen if micro_batch.last else (trained, *frozen)
        for module in quiet:
            stack.enter_context(self._fabric.no_backward_sync(module))
        return stack


def _remedy(section: str, batch: int, processes: int) -> str:
    if processes > batch:
        return f"start at most {batch}, one per image of {section}.batch"
    largest = max(size for size in range(1, batch // processes + 1) if batch % size == 0)
    return f"--set {section}.micro_batch={largest} gives work to all"
