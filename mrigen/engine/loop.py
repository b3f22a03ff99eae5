"""The loop of teacher training and distillation: steps, snapshots, resume."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from lightning_fabric import Fabric

from mrigen.engine.logs import Log, OpenLog, open_logs
from mrigen.engine.params import RunParams
from mrigen.engine.processes import alone, any_of, watched
from mrigen.engine.states import State, newest_state, read_state, remove_remains, save_state
from mrigen.errors import NonFiniteLossError
from mrigen.files import locked
from mrigen.progress import bar


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has saved its state."""


class Job(ABC):
    """What the loop drives: a step on one batch, and a state to save.

    Attributes:
        params: length, batch, snapshots.
        images: images seen so far.
        done: set to end the run early.
    """

    params: RunParams
    images: int = 0
    done: bool = False

    @abstractmethod
    def step(self, number: int) -> dict[str, float]:
        """One optimiser step on ``params.batch`` images; returns what to log."""

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
    with locked(folder) if fabric.is_global_zero else nullcontext(), watched():
        _drive(job, folder, fabric, title, log)


def _drive(job: Job, folder: Path, fabric: Fabric, title: str, log: OpenLog | None) -> None:
    params = job.params
    continued = _resume(job, folder)
    with (
        open_logs(folder, job.images, log) if fabric.is_global_zero else nullcontext(Log()) as logs,
        _stop_requested() as stopped,
        bar(title, params.images, "img", job.images) as advance,
    ):
        last = job.images

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
            except NonFiniteLossError:
                save(stopping=True)
                raise
            job.images += params.batch
            advance(params.batch, "  ".join(f"{k} {v:.4g}" for k, v in numbers.items()))
            logs.step(job.images, numbers)
            if any_of(stopped()):
                save(stopping=True)
                raise Interrupted
            if job.images - last >= params.snapshot_images:
                save()
        if last != job.images or not continued:
            save()


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


@contextmanager
def _stop_requested() -> Iterator[Any]:
    """Turn SIGTERM and SIGINT into a flag that is looked at between steps."""
    flag: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        flag.append(number)

    signals = (signal.SIGTERM, signal.SIGINT)
    try:
        before = [signal.signal(number, note) for number in signals]
    except ValueError:  # not in the main thread: nothing can interrupt here
        before = []
    try:
        yield lambda: bool(flag)
    finally:
        for number, handler in zip(signals, before, strict=False):
            signal.signal(number, handler)
