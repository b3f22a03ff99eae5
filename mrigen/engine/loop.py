"""The loop of teacher training and distillation: steps, snapshots, resume."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mrigen.engine.guard import NonFiniteGuard
from mrigen.engine.logs import Log, OpenLog, open_logs
from mrigen.engine.params import RunParams
from mrigen.engine.processes import any_rank_each, lost_peer_as_error, on_rank_zero
from mrigen.engine.states import State, newest_state, read_state, remove_remains, save_state
from mrigen.engine.stops import Interrupted, end_requests, graceful_stop, interruptible
from mrigen.errors import NonFiniteLossError
from mrigen.files import locked
from mrigen.progress import bar

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOOK_SECONDS = 1.0

Snapshot = Callable[[int], None]
"""Writes the model of the present weights, after so many images."""


class Job(ABC):
    """What the loop drives: a step on one batch, and a state to save.

    What takes long is no part of a step, so that a signal can end it: ``prepare`` and ``measure``, which a
    continued run does again. Both leave everything as it was until they are through.

    Attributes:
        params: length, batch, snapshots.
        images: images seen so far.
        done: set to end the run early.
        guard: what its steps tell of their losses.
    """

    params: RunParams
    guard: NonFiniteGuard
    images: int = 0
    done: bool = False

    @abstractmethod
    def step(self, number: int) -> dict[str, float | Tensor]:
        """One optimiser step on ``params.batch`` images; returns what to log, on the device or here."""

    def prepare(self) -> None:  # noqa: B027 (most need nothing)
        """Compute what the steps of a new or continued run need; every process does, for itself."""

    @property
    def measuring(self) -> bool:
        """Whether a measurement after the images seen so far has yet to be made."""
        return False

    @property
    def measuring_end(self) -> bool:
        """Whether a measurement is due because the run ends here.

        It is made after the last state is saved and is in no state: a longer run does not have it.
        """
        return False

    def measure(self) -> dict[str, float]:
        """Make it; returns what to log.

        Raises:
            Interrupted: in every process, when a signal has come to the first one, which measures.
        """
        return {}

    @abstractmethod
    def state(self) -> State:
        """Everything that an exact continuation needs, as tensors and plain values."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Continue from ``state``."""


def fit(
    job: Job,
    folder: Path,
    fabric: Fabric,
    title: str,
    log: OpenLog | None = None,
    snapshot: Snapshot | None = None,
) -> None:
    """Run a job to its end, from the newest saved state on.

    States are written at multiples of ``snapshot_images``, at the end, on Ctrl-C and on SIGTERM, which do not
    wait for a measurement. Losses go to ``folder/log.jsonl``, and to ``log`` where there is one. Several
    processes read the state of the first one, which alone writes; a signal to any of them stops all after the
    same step, one to the first also while it measures. ``request_end`` ends the run after a step as if
    ``images`` were reached.

    Args:
        job: what is trained.
        folder: run folder of the stage.
        fabric: device and processes.
        title: word for the progress bar.
        log: another log beside the JSON lines.
        snapshot: writes the model of the present weights; called with the images so far after every saved
            state, in the first process.

    Raises:
        NonFiniteLossError: the state before the offending step is saved.
        Interrupted: by a signal; the state of the last step is saved.
        UsageError: another mrigen is writing to ``folder``.
        LostProcessError: another process of this run has ended.
    """
    with (
        _held(folder) if fabric.is_global_zero else nullcontext(),
        end_requests(folder) if fabric.is_global_zero else nullcontext(lambda: False) as end,
        lost_peer_as_error(),
    ):
        continued = _resume(job, folder)
        with (
            graceful_stop() as stopped,
            open_logs(folder, job.images, log) if fabric.is_global_zero else nullcontext(Log()) as logs,
            bar(title, job.params.images, "img", job.images) as advance,
        ):
            course = _Run(job, folder, logs, stopped, end, snapshot, unsaved=not continued)
            course.begin()
            while not course.over:
                advance(job.params.batch, course.step())
            if course.unsaved:
                course.save()
            course.end()


class _Run:
    """A run from where it is to its end, and what is saved and logged of it.

    Attributes:
        unsaved: whether something has happened since the last state, or there is none.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        logs: Log,
        stopped: Callable[[], bool],
        end: Callable[[], bool],
        snapshot: Snapshot | None,
        *,
        unsaved: bool,
    ) -> None:
        self._job, self._folder, self._logs, self._stopped = job, folder, logs, stopped
        self._end, self._snapshot = end, snapshot
        self._looks = _LossPoller(job)
        self._note = ""
        self._ended = False
        self.unsaved = unsaved

    @property
    def over(self) -> bool:
        return self._ended or self._job.done or self._job.images >= self._job.params.images

    def begin(self) -> None:
        """Make the measurement before which a run was stopped, and what the first step needs."""
        if self._job.measuring:
            self._logs.step(self._job.images, self._job.measure())
            self.unsaved = True
        if not self.over:
            with interruptible():
                self._job.prepare()

    def step(self) -> str:
        """One step, with what is due after it; what a progress bar says then."""
        job = self._job
        try:
            numbers = job.step(job.images // job.params.batch)
            job.images += job.params.batch
            self.unsaved = True
            full = self._full()
            stop, due, self._ended = any_rank_each([self._stopped(), full or self._looks.due(), self._end()])
            due = due or self._ended
            logged = self._looks.take(numbers) if stop or due else {}
            if job.measuring and not stop:
                logged |= job.measure()
        except (NonFiniteLossError, Interrupted):
            self.save(stopping=True)
            raise
        if logged:
            self._logs.step(job.images, logged)
            self._note = "  ".join(f"{name} {value:.4g}" for name, value in logged.items())
        if stop:
            self.save(stopping=True)
            raise Interrupted
        if full:
            self.save()
        return self._note

    def end(self) -> None:
        """Make the measurement that is due at the end of a run, after its last state."""
        if self._job.measuring_end:
            self._logs.step(self._job.images, self._job.measure())

    def save(self, *, stopping: bool = False) -> None:
        """Write a state and its model, after a look at the images unless there is no time for it."""
        job = self._job
        if not stopping:
            with suppress(Interrupted), interruptible():
                self._logs.snapshot(job.images)
        state = {"images": job.images, "job": job.state()}

        def write() -> None:
            save_state(self._folder, job.images, state, job.params.keep)
            if self._snapshot is not None:
                self._snapshot(job.images)

        on_rank_zero(write)
        self.unsaved = False

    def _full(self) -> bool:
        """Whether the last step went past a multiple of ``snapshot_images``, stops or not."""
        images, params = self._job.images, self._job.params
        return images // params.snapshot_images > (images - params.batch) // params.snapshot_images


class _LossPoller:
    """Reads what steps leave on the device: always where that costs nothing, otherwise every second.

    Nothing is measured of a network before its losses were looked at.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._images, self._latest = job, job.images, -LOOK_SECONDS

    def due(self) -> bool:
        job = self._job
        late = time.monotonic() - self._latest >= LOOK_SECONDS
        return job.guard.immediate or job.measuring or job.images >= job.params.images or late

    def take(self, numbers: dict[str, float | Tensor]) -> dict[str, float]:
        """The numbers of the last step; raises if a loss since the last look was none."""
        job = self._job
        self._latest = time.monotonic()
        self._images = job.images = self._images + job.params.batch * job.guard.poll()
        job.guard.raise_if_set()
        return {name: float(value) for name, value in numbers.items()}


def _resume(job: Job, folder: Path) -> bool:
    """Continue from the newest state, if there is one."""
    newest = on_rank_zero(lambda: newest_state(folder))
    if newest is None:
        return False
    saved = read_state(newest)
    job.images = saved["images"]
    job.load(saved["job"])
    return True


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock a run's folder and remove what killed processes left, before a request to end can come."""
    with locked(folder):
        remove_remains(folder)
        yield
