"""SIGTERM and Ctrl-C: noted by a run between its steps, ignored by a process that is ending."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, and nothing of it is lost."""


class _Signals:
    """What this process has been sent, and whether it is in the middle of something that can be left."""

    noted = False
    at_once = False

    def note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.noted = True
        if self.at_once:
            raise Interrupted


_signals = _Signals()


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a flag that is looked at between steps."""
    _signals.noted = False
    numbers = (signal.SIGTERM, signal.SIGINT)
    try:
        before = [signal.signal(number, _signals.note) for number in numbers]
    except ValueError:  # not in the main thread: nothing can interrupt here
        before = []
    try:
        yield lambda: _signals.noted
    finally:
        for number, handler in zip(numbers, before, strict=False):
            signal.signal(number, handler)


@contextmanager
def left_at_once() -> Iterator[None]:
    """Under ``stop_requested``: for long work that may be left at any moment, since it is done again.

    Raises:
        Interrupted: a signal has come, before or now.
    """
    _signals.at_once = True
    try:
        if _signals.noted:
            raise Interrupted
        yield
    finally:
        _signals.at_once = False


def end_undisturbed() -> None:
    """Ignore SIGTERM from now on.

    When a process dies, ``torchrun`` sends SIGTERM to all others, which must not keep them from telling what
    they were doing. Those that do not end by themselves it kills.
    """
    with suppress(ValueError):  # not in the main thread: nothing can interrupt here
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
