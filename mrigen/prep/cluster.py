"""Tasks on the workers of a Dask cluster.

A task whose worker is lost runs again on another one, and so does a task that takes far longer than the
others once nothing else is left to do. Results are files that appear complete or not at all, and every run
of a task writes the same bytes, so that repeated tasks are harmless.

The workers must see the same folders under the same paths, as a network file system provides, and have
the same version of mrigen: both are checked with every task. Whoever can reach a Dask scheduler can run
programs as its user: one that is started here listens on 127.0.0.1 alone; one that others can reach needs
TLS, which the client takes from Dask's own configuration (``distributed.comm.tls``).
"""

from __future__ import annotations

import queue
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import torch
from distributed import Client, Future, KilledWorker, LocalCluster

import mrigen
from mrigen.errors import UsageError
from mrigen.files import scratch
from mrigen.prep.pool import Work, processes

LOCAL = "local"
HERE = "127.0.0.1"
RETRIES = 2  # of a task that raised an error
AHEAD = 2  # tasks per thread that the cluster is given at a time
CONNECT_SECONDS = 30
WORKERLESS_SECONDS = 300
STRAGGLER_FACTOR, STRAGGLER_SECONDS = 3.0, 60.0
POLL_SECONDS = 1.0
AGAIN = "finished files are kept: run the same command again"


@dataclass(frozen=True)
class DaskCluster:
    """Workers of a Dask cluster.

    Attributes:
        scheduler: its address, or ``local`` for a cluster of this machine that ends with the work.
        jobs: workers of a local cluster; by default as many as the amount of data is worth.
    """

    scheduler: str
    jobs: int | None = None

    def run(self, work: Work) -> Generator[tuple[Any, Any]]:
        """Yield every task with its result, in the order in which they finish.

        Raises:
            UsageError: no scheduler or no worker can be reached, the workers see other folders or have
                another version, or workers died of a task again and again.
        """
        with ExitStack() as stack:
            stack.enter_context(dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}))
            client = stack.enter_context(self._connected(work))
            marks = [stack.enter_context(scratch(folder / "mark")) for folder in work.folders]
            yield from _Run(client, work, marks).results()

    @contextmanager
    def _connected(self, work: Work) -> Iterator[Client]:
        with ExitStack() as stack:
            address: str | LocalCluster = self.scheduler
            if address == LOCAL:
                count = processes(len(work.tasks), work.total_bytes) if self.jobs is None else self.jobs
                address = stack.enter_context(_local(count))
            try:
                client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise UsageError(
                    f"--dask-scheduler {self.scheduler}: no scheduler answers ({reason}); start one with "
                    "`dask scheduler`, or write `local`"
                ) from error
            yield stack.enter_context(client)


@dataclass
class _Run:
    """The state of one run.

    Attributes:
        client: connection to the scheduler.
        work: what is to be done.
        marks: hidden folders of random names, which only workers with the same file system see.
        running: attempts at tasks, by the task's position.
        slowest: seconds of the slowest finished task.
        finished: attempts that have ended, in order.
    """

    client: Client
    work: Work
    marks: list[Path]
    running: dict[Future, int] = field(default_factory=dict)
    slowest: float = 0.0
    finished: queue.SimpleQueue[Future] = field(default_factory=queue.SimpleQueue)

    def results(self) -> Generator[tuple[Any, Any]]:
        """Every task with its result."""
        waiting = iter(range(len(self.work.tasks)))
        left, progress, alive = len(self.work.tasks), time.monotonic(), time.monotonic()
        while left:
            threads = sum(self.client.nthreads().values())
            now = time.monotonic()
            alive = now if threads else alive
            if now - alive > WORKERLESS_SECONDS:
                raise UsageError(f"--dask-scheduler: the cluster has no workers left; start some; {AGAIN}")
            while len(self.running) < AHEAD * max(threads, 1):
                number = next(waiting, None)
                if number is None:
                    break
                self._submit(number)
            if left <= threads and now - progress > max(STRAGGLER_SECONDS, STRAGGLER_FACTOR * self.slowest):
                self._repeat_stragglers()
            try:
                future = self.finished.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if future in self.running:
                progress, left = time.monotonic(), left - 1
                yield self._result(future)

    def _submit(self, number: int) -> None:
        future = self.client.submit(
            _call,
            self.work.function,
            self.work.tasks[number],
            self.marks,
            mrigen.__version__,
            pure=False,
            retries=RETRIES,
        )
        self.running[future] = number
        future.add_done_callback(self.finished.put)

    def _repeat_stragglers(self) -> None:
        """Give every unfinished task that has one attempt to another worker too; the first to end counts."""
        attempts = Counter(self.running.values())
        for number, count in attempts.items():
            if count == 1:
                self._submit(number)

    def _result(self, future: Future) -> tuple[Any, Any]:
        """The outcome of the task; its other attempts are given up."""
        number = self.running[future]
        task = self.work.tasks[number]
        try:
            seconds, result = future.result()
        except KilledWorker as error:
            raise UsageError(
                f"{self.work.label(task)}: several workers were killed over it, for want of memory most "
                f"likely; {AGAIN} with more memory per worker"
            ) from error
        except CancelledError as error:
            raise UsageError(f"--dask-scheduler: the scheduler was lost; {AGAIN}") from error
        self.slowest = max(self.slowest, seconds)
        attempts = [other for other, position in self.running.items() if position == number]
        for other in attempts:
            del self.running[other]
        self.client.cancel([other for other in attempts if other is not future])
        return task, result


def _call(function: Callable[[Any], Any], task: Any, marks: list[Path], version: str) -> tuple[float, Any]:
    """On a worker: the seconds that the task took and its result."""
    if mrigen.__version__ != version:
        raise UsageError(
            f"--dask-scheduler: a worker has mrigen {mrigen.__version__}, not {version}; install the same"
        )
    hidden = [str(mark.parent) for mark in marks if not mark.exists()]
    if hidden:
        raise UsageError(
            f"{hidden[0]}: a worker of the cluster does not see this folder; use a network file system"
        )
    torch.set_num_threads(1)
    start = time.monotonic()
    result = function(task)
    return time.monotonic() - start, result


@contextmanager
def _local(count: int) -> Iterator[LocalCluster]:
    with (
        tempfile.TemporaryDirectory(prefix="mrigen-dask-") as scratch,
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host=HERE,
            dashboard_address=f"{HERE}:0",
            worker_dashboard_address=f"{HERE}:0",
            memory_limit=0,
            local_directory=scratch,
        ) as cluster,
    ):
        yield cluster
