"""What the processes of a run tell each other beside gradients: flags, losses, small objects.

Everything here but ``all_reduce_mean`` goes through the CPU (gloo), waits as long as it takes (the first
process may prepare data for hours while NCCL's watchdog sleeps), and is nothing at all in a run of one
process. Every process has to make the same calls in the same order.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from mrigen import ranks
from mrigen.engine.stops import ignore_sigterm
from mrigen.errors import LostProcessError

T = TypeVar("T")

PATIENCE = timedelta(days=30)
LOST = ("closed by peer", "reset by peer", "broken pipe", "socket closed", "connection refused", "nccl")


def is_rank_zero() -> bool:
    """Whether this process is the one that writes files and talks to the user."""
    return ranks.rank() == 0


def all_reduce_sum(values: list[float]) -> list[float]:
    """Sums over all processes."""
    if not is_distributed():
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    with lost_peer_as_error():
        distributed.all_reduce(sums, group=_group())
    return cast("list[float]", sums.tolist())


def all_reduce_mean(value: Tensor) -> Tensor:
    """Mean over all processes, on the device, which nobody waits for."""
    if not is_distributed():
        return value
    with lost_peer_as_error():
        distributed.all_reduce(value)
    return value / ranks.world_size()


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in one process at least."""
    return any_rank_each([flag])[0]


def any_rank_each(flags: list[bool]) -> list[bool]:
    """Which of the flags are set in one process at least."""
    return [count > 0 for count in all_reduce_sum([float(flag) for flag in flags])]


def barrier() -> None:
    """Wait until every process has come here."""
    all_reduce_sum([0.0])


def broadcast(value: T) -> T:
    """The first process's value."""
    box = [value]
    if is_distributed():
        with lost_peer_as_error():
            distributed.broadcast_object_list(box, group=_group())
    return box[0]


def all_gather(value: T) -> list[T]:
    """Every process's value, in order."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * ranks.world_size()
    with lost_peer_as_error():
        distributed.all_gather_object(values, value, group=_group())
    return values


def on_rank_zero(action: Callable[[], T]) -> T:
    """What the first process gets from an action, while the others wait for it.

    When the action fails, the first process ends with its error, and the others with ``LostProcessError``.
    """
    return broadcast(action() if is_rank_zero() else cast("T", None))


@contextmanager
def lost_peer_as_error() -> Iterator[None]:
    """Turn the failed communication with a process that has ended into one line.

    SIGTERM, which the launcher then sends to those that are left, is ignored from then on.

    Raises:
        LostProcessError: another process has ended.
    """
    try:
        yield
    except LostProcessError:  # told further in, under the signal handlers of a run
        ignore_sigterm()
        raise
    except RuntimeError as error:
        if is_distributed() and any(words in str(error).lower() for words in LOST):
            ignore_sigterm()
            raise LostProcessError(
                "another process of this run has ended, see what it says; what was saved is whole, and the "
                "same command continues it"
            ) from error
        raise


def is_distributed() -> bool:
    """Whether the run has several processes."""
    return ranks.world_size() > 1


@cache
def _group() -> Any:
    atexit.register(_leave)
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


def _leave() -> None:
    """End the group's threads while Python still runs.

    Gloo (torch 2.15) may free the tensors of a collective after its caller goes on; a thread that does so
    while the interpreter ends aborts the process, whose work is done, with SIGABRT.
    """
    if distributed.is_initialized():  # a script may have left already
        distributed.destroy_process_group()
    _group.cache_clear()  # the last reference, which waits for the threads
