"""Tasks on several processes, one thread each, with the same results whatever their number and place.

``Processes`` of this machine and ``cluster.DaskCluster`` are the two kinds of ``Workers``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from mrigen.errors import UsageError

T = TypeVar("T")
R = TypeVar("R")
BYTES_PER_PROCESS = 128 << 20


@dataclass(frozen=True)
class Work:
    """One function on many tasks.

    Attributes:
        function: of a module's top level, so that another process can import it. It may be called for
            the same task again, here or elsewhere, because a process was lost.
        tasks: picklable, with absolute paths.
        total_bytes: of the data, which say how many processes are worth starting.
        folders: where the function writes.
        label: what a task is called in messages.
    """

    function: Callable[[Any], Any]
    tasks: Sequence[Any]
    total_bytes: int
    folders: Sequence[Path]
    label: Callable[[Any], str]


class Workers(Protocol):
    """Where tasks run."""

    def run(self, work: Work) -> Generator[tuple[Any, Any]]:
        """Yield every task with its result, in the order in which they finish."""
        ...


@dataclass(frozen=True)
class Processes:
    """Processes of this machine.

    Attributes:
        jobs: their number; by default as many as the amount of data is worth.
    """

    jobs: int | None = None

    def run(self, work: Work) -> Generator[tuple[Any, Any]]:
        """Yield every task with its result, in the order in which they finish."""
        tasks, jobs = work.tasks, self.jobs
        return run(work.function, tasks, processes(len(tasks), work.total_bytes) if jobs is None else jobs)


def processes(tasks: int, total_bytes: int) -> int:
    """How many processes are worth starting: no more than cores, tasks and 128 MiB portions of the data."""
    return max(1, min(len(os.sched_getaffinity(0)), tasks, 1 + total_bytes // BYTES_PER_PROCESS))


def run(function: Callable[[T], R], tasks: Sequence[T], jobs: int) -> Generator[tuple[T, R]]:
    """Yield every task with its result, in the order in which they finish.

    Args:
        function: of a module's top level, so that another process can import it.
        tasks: picklable.
        jobs: processes; with one the tasks run in this process. Every process computes with one
            thread, so that sums are formed in the same order whatever ``jobs`` is.

    Raises:
        UsageError: a process was killed, by the system for want of memory most likely.
    """
    if jobs == 1 or len(tasks) <= 1:
        with _one_thread():
            for task in tasks:
                yield task, function(task)
        return
    executor = ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn"), initializer=_start)
    try:
        pending = {executor.submit(function, task): task for task in tasks}
        for future in as_completed(pending):
            yield pending.pop(future), future.result()
    except BrokenProcessPool as error:
        raise UsageError(
            "a worker process was killed, for want of memory most likely; finished volumes are kept: "
            "run the same command again with fewer --jobs"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _start() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
