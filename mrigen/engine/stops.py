"""SIGTERM and Ctrl-C: noted by a run between its steps, ignored by a process that is ending."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
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


def end_undisturbed() -> None:
    """Ignore SIGTERM from now on.

    When a process dies, ``torchrun`` sends SIGTERM to all others, which must not keep them from telling what
    they were doing. Those that do not end by themselves it kills.
    """
    with suppress(ValueError):  # not in the main thread: nothing can interrupt here
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
