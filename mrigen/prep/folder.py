"""An output folder that one command writes at a time, and what it says about an earlier run."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mrigen.errors import UsageError
from mrigen.files import locked, remove_scratch

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Create ``folder``, lock it for this process and remove what killed processes left half-written.

    A folder that was created here and is still empty at the end is removed again.

    Raises:
        UsageError: it cannot be written, is a file, or another process is writing it.
    """
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
    except OSError as error:
        raise UsageError(f"{folder}: cannot write there ({error.strerror}); choose another --out") from error
    try:
        with locked(folder):
            remove_scratch(folder)
            try:
                yield
            finally:
                remove_scratch(folder)
    finally:
        if not existed:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a user's error."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UsageError(
            f"{folder}: {os.strerror(error.errno)}; make room and run the same command again to continue"
        ) from error


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The parameters that differ, as ``seed 0 -> 1, snr 50 -> 20``; None where none does."""
    names = sorted(n for n in before.keys() | now.keys() if before.get(n) != now.get(n))
    return ", ".join(f"{n} {before.get(n)} -> {now.get(n)}" for n in names) or None


def refuse_other_parameters(where: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a folder that was written with other parameters.

    Raises:
        UsageError: names the parameters that differ.
    """
    change = difference(before, now)
    if change is not None:
        raise UsageError(f"{where}: written with other parameters ({change}); choose another --out")
