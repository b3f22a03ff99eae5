"""The loop of teacher training and distillation: steps, snapshots, resume."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from pathlib import Path

from lightning_fabric import Fabric
from torch import Tensor

from mrigen.engine.guard import Guard
from mrigen.engine.logs import Log, OpenLog, open_logs
from mrigen.engine.memory import keep_freed
from mrigen.engine.params import RunParams
from mrigen.engine.processes import alone, any_of_each, watched
from mrigen.engine.states import State, newest_state, read_state, remove_remains, save_state
from mrigen.engine.stops import stop_requested
from mrigen.errors import NonFiniteLossError
from mrigen.files import locked
from mrigen.progress import bar

LOOK_SECONDS = 1.0


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has saved its state."""


class Job(ABC):
    """What the loop drives: a step on one batch, and a state to save.

    Attributes:
        params: length, batch, snapshots.
        images: images seen so far.
        done: set to end the run early.
        guard: what its steps tell of their losses.
    """

    params: RunParams
    guard: Guard
    images: int = 0
    done: bool = False

    @abstractmethod
    def step(self, number: int) -> dict[str, float | Tensor]:
        """One optimiser step on ``params.batch`` images; returns what to log, on the device or here."""

    @abstractmethod
    def state(self) -> State:
        """Everything that an exact continuation needs, as tensors and plain values."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Continue from ``state``."""


def drive(job: Job, folder: Path, fabric: Fabric, title: str, log: OpenLog | None = None) -> None:
    """Run a job to its end, from the newest saved state on.

    States are written every ``snapshot_images``, at the end, on Ctrl-C and on SIGTERM. Losses go to
    ``folder/log.jsonl``, and to ``log`` where there is one. Several processes read the state of the first
    one, which alone writes; a signal to any of them stops all after the same step.

    Raises:
        NonFiniteLossError: the state before the offending step is saved.
        Interrupted: after the state was saved.
        UsageError: another mrigen is writing to ``folder``.
        LostProcessError: another process of this run has ended.
    """
    if fabric.device.type == "cpu":
        keep_freed()
    with locked(folder) if fabric.is_global_zero else nullcontext(), watched():
        _drive(job, folder, fabric, title, log)


def _drive(job: Job, folder: Path, fabric: Fabric, title: str, log: OpenLog | None) -> None:
    params = job.params
    continued = _resume(job, folder)
    with (
        stop_requested() as stopped,
        open_logs(folder, job.images, log) if fabric.is_global_zero else nullcontext(Log()) as logs,
        bar(title, params.images, "img", job.images) as advance,
    ):
        last = job.images
        looks = _Looks(job)

        def save(*, stopping: bool = False) -> None:
            nonlocal last
            last = job.images
            if not stopping:
                logs.snapshot(last)
            state = {"images": job.images, "job": job.state()}
            alone(lambda: save_state(folder, job.images, state, params.keep))

        while job.images < params.images and not job.done:
            try:
                numbers = job.step(job.images // params.batch)
                job.images += params.batch
                full = job.images - last >= params.snapshot_images
                stop, due = any_of_each([stopped(), full or looks.due(numbers)])
                told = looks.take(numbers) if stop or due else {}
            except NonFiniteLossError:
                save(stopping=True)
                raise
            if told:
                logs.step(job.images, told)
            advance(params.batch, looks.note)
            if stop:
                save(stopping=True)
                raise Interrupted
            if full:
                save()
        if last != job.images or not continued:
            save()


class _Looks:
    """Reads what steps leave on the device: always where that costs nothing, otherwise every second.

    A number that is here already, such as a measured metric, is not to be missed.

    Attributes:
        note: the numbers that were read last, for a progress bar.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._images, self._latest = job, job.images, -LOOK_SECONDS
        self.note = ""

    def due(self, numbers: dict[str, float | Tensor]) -> bool:
        job = self._job
        here = any(not isinstance(value, Tensor) for value in numbers.values())
        ends = job.done or job.images >= job.params.images
        late = time.monotonic() - self._latest >= LOOK_SECONDS
        return job.guard.immediate or here or ends or late

    def take(self, numbers: dict[str, float | Tensor]) -> dict[str, float]:
        """The numbers of the last step; raises if a loss since the last look was none."""
        job = self._job
        self._latest = time.monotonic()
        self._images = job.images = self._images + job.params.batch * job.guard.look()
        job.guard.check()
        told = {name: float(value) for name, value in numbers.items()}
        self.note = "  ".join(f"{name} {value:.4g}" for name, value in told.items())
        return told


def _resume(job: Job, folder: Path) -> bool:
    """Continue from the newest state, if there is one."""
    newest = alone(lambda: _newest(folder))
    if newest is None:
        return False
    saved = read_state(newest)
    job.images = saved["images"]
    job.load(saved["job"])
    return True


def _newest(folder: Path) -> Path | None:
    """The newest whole state of a run, after tidying up what a killed process left."""
    remove_remains(folder)
    return newest_state(folder)
