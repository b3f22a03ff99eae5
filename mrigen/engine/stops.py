"""What ends a run before its time: SIGTERM and Ctrl-C, and the request of ``mrigen stop``."""

from __future__ import annotations

import json
import os
import platform
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from mrigen.files import write_text
from mrigen.system import lock

RUNNING, REQUEST = "running.json", "end-request"
RECORD = 1024  # bytes
SECONDS = 1.0

Answer = Literal["ending", "over", "silent"]
"""A run's answer to a request: it ends after its step, it was over before, or it says nothing."""


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
def graceful_stop() -> Iterator[Callable[[], bool]]:
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
def interruptible() -> Iterator[None]:
    """Under ``graceful_stop``: for long work that may be left at any moment, since it is done again.

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


def ignore_sigterm() -> None:
    """Ignore SIGTERM from now on.

    When a process dies, ``torchrun`` sends SIGTERM to all others, which must not keep them from telling what
    they were doing. Those that do not end by themselves it kills.
    """
    with suppress(ValueError):  # not in the main thread: nothing can interrupt here
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def end_requests(folder: Path) -> Iterator[Callable[[], bool]]:
    """Take the requests of ``request_end`` for the run in ``folder``, which is locked.

    ``running.json`` is there, and locked, as long as this block lasts. It names the run by a token, which a
    request repeats: one that comes too late ends no later run. Taking a request removes it, which answers it.

    Yields:
        Whether the run is asked to end; looks at the folder once a second at most.
    """
    path, request, token = folder / RUNNING, folder / REQUEST, secrets.token_hex(8)
    record = json.dumps({"token": token, "process": os.getpid(), "host": platform.node()})
    latest = -SECONDS
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)

    def asked() -> bool:
        nonlocal latest
        if time.monotonic() - latest < SECONDS:
            return False
        latest = time.monotonic()
        with suppress(FileNotFoundError):
            if request.read_text(encoding="utf-8", errors="replace") == token:
                request.unlink()
                return True
        return False

    try:
        os.write(handle, record.encode().ljust(RECORD))  # as a whole, for who reads it now
        with suppress(OSError):  # a file system without locks
            lock(handle, wait=True)
        yield asked
    finally:
        with suppress(PermissionError):  # Windows removes no open files
            path.unlink(missing_ok=True)
        os.close(handle)
        if os.name == "nt":
            path.unlink(missing_ok=True)


def running(folder: Path) -> dict[str, Any] | None:
    """The record of the run in ``folder``: its token, process and host; None if none is running."""
    try:
        handle = os.open(folder / RUNNING, os.O_RDONLY)
    except OSError:
        return None
    try:
        try:
            lock(handle, shared=True)
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks
            pass
        else:
            return None
        record = json.loads(os.read(handle, RECORD))
        return record if isinstance(record, dict) else None
    except ValueError:
        return None
    finally:
        os.close(handle)


def request_end(folder: Path, record: dict[str, Any], patience: float) -> Answer:
    """Ask the run that ``running`` found in ``folder`` to end after its step, and wait for its answer.

    Args:
        folder: of the stage.
        record: which run.
        patience: seconds to wait; a request that was not answered stays.
    """
    request = folder / REQUEST
    write_text(request, str(record["token"]))
    end = time.monotonic() + patience
    while True:
        now = running(folder)
        if not request.exists():
            return "ending"
        if now is None or now.get("token") != record["token"]:
            request.unlink(missing_ok=True)
            return "over"
        if time.monotonic() > end:
            return "silent"
        time.sleep(0.05)
