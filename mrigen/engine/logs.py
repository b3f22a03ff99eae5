"""What is kept of a run's course: JSON lines, and whatever else wants to be told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO

from mrigen.files import write_text

NAME = "log.jsonl"
SECONDS = 10.0


class Log:
    """Is told of a run's steps and snapshots; this one keeps nothing."""

    def step(self, images: int, logs: dict[str, float]) -> None:
        """A step brought the run to ``images`` images, with these numbers."""

    def snapshot(self, images: int) -> None:
        """The run has reached ``images`` images and its state is about to be saved; there is time to look."""


OpenLog = Callable[[Path, int], AbstractContextManager[Log]]
"""A log of a run folder that goes on after so many images: what comes after them is to be forgotten."""


@contextmanager
def open_logs(folder: Path, images: int, more: OpenLog | None = None) -> Iterator[Log]:
    """The logs of a run that goes on after ``images`` images.

    Args:
        folder: run folder, made if it does not exist.
        images: what a killed run logged beyond them is dropped, since it will be logged again.
        more: another log beside the JSON lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        logs = [stack.enter_context(_json_lines(folder / NAME, images))]
        if more is not None:
            logs.append(stack.enter_context(more(folder, images)))
        yield _Logs(logs)


class _Logs(Log):
    def __init__(self, logs: list[Log]) -> None:
        self._logs = logs

    def step(self, images: int, logs: dict[str, float]) -> None:
        for log in self._logs:
            log.step(images, logs)

    def snapshot(self, images: int) -> None:
        for log in self._logs:
            log.snapshot(images)


class _JsonLines(Log):
    def __init__(self, file: IO[str]) -> None:
        self._file, self._latest = file, -SECONDS

    def step(self, images: int, logs: dict[str, float]) -> None:
        if time.monotonic() - self._latest >= SECONDS:
            self._latest = time.monotonic()
            self._file.write(json.dumps({"images": images, **logs}) + "\n")
            self._file.flush()


@contextmanager
def _json_lines(path: Path, images: int) -> Iterator[Log]:
    """Append lines to a file, at most one every few seconds."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _reached(line) <= images]
        if kept != lines:
            write_text(path, "".join(f"{line}\n" for line in kept))
    with path.open("a", encoding="utf-8") as file:
        yield _JsonLines(file)


def _reached(line: str) -> float:
    """The images of a line; infinite for one that was cut off."""
    try:
        return float(json.loads(line)["images"])
    except (ValueError, TypeError, KeyError):
        return float("inf")
