"""Tasks on several processes, one thread each, with the same results whatever their number and place.

joblib's loky workers would do the same with fewer lines and more time: the first process waits there, and
one more process imports torch. For 6 volumes of 4 slices, 8 coils, 128 × 128, with ``jobs`` 2 on one core of
an AMD EPYC (Milan), joblib 1.6 took 10.6 to 12.2 s of processor time, this pool 7.8 to 9.3 s (three runs).

``Processes`` of this machine and ``cluster.DaskCluster`` are the two kinds of ``Workers``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import torch

from mrigen.errors import UsageError
from mrigen.memory import malloc_keep_freed
from mrigen.system import cores

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
    return max(1, min(cores(), tasks, 1 + total_bytes // BYTES_PER_PROCESS))


def run(function: Callable[[T], R], tasks: Sequence[T], jobs: int) -> Generator[tuple[T, R]]:
    """Yield every task with its result, in the order in which they finish.

    Args:
        function: of a module's top level, so that another process can import it.
        tasks: picklable.
        jobs: processes, this one among them. Every process computes with one thread, so that sums are
            formed in the same order whatever ``jobs`` is.

    Raises:
        UsageError: a process was killed, by the system for want of memory most likely.
    """
    if jobs == 1 or len(tasks) <= 1:
        with _one_thread():
            for task in tasks:
                yield task, function(task)
        return
    others = min(jobs, len(tasks)) - 1
    executor = ProcessPoolExecutor(others, mp_context=get_context("spawn"), initializer=_start)
    try:
        with _one_thread():
            yield from _share(function, tasks, executor, others)
    except BrokenProcessPool as error:
        raise UsageError(
            "a worker process was killed, for want of memory most likely; finished volumes are kept: "
            "run the same command again with fewer --jobs"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _share(
    function: Callable[[T], R], tasks: Sequence[T], executor: ProcessPoolExecutor, others: int
) -> Generator[tuple[T, R]]:
    """Work in this process too, which has begun before the others have imported anything.

    Each of the others is given a task at a time: what an executor has accepted cannot be taken back.
    """
    waiting = deque(tasks)
    finished: SimpleQueue[tuple[T, Future[R]]] = SimpleQueue()

    def next_task() -> list[T]:
        try:
            return [waiting.popleft()]
        except IndexError:
            return []

    def give() -> None:
        with suppress(RuntimeError):  # broken or shut down, which this process learns of by itself
            for task in next_task():
                executor.submit(function, task).add_done_callback(partial(take, task))

    def take(task: T, future: Future[R]) -> None:
        finished.put((task, future))
        give()

    for _ in range(others):
        give()
    for _ in tasks:
        own = next_task() if finished.empty() else []
        for task in own:
            yield task, function(task)
        if not own:
            task, future = finished.get()
            yield task, future.result()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _start() -> None:
    malloc_keep_freed(one_arena=True)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
