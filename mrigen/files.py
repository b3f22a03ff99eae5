"""Files that are complete or absent: temporary folder, fsync, rename."""

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mrigen.errors import UsageError
from mrigen.system import lock, open_folder

CHUNK = 1 << 22
HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # locks hold on one machine


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path and move it to ``path`` when the block ends without error.

    The data are on disk before the rename, and nothing is left when the block fails. Errors of the system
    name ``path``.

    Raises:
        UsageError: torch could not write all of it, which is all that it says of a full disk.
    """
    with scratch(path) as folder:
        temporary = folder / path.name
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        except OSError as error:
            if error.filename is None or Path(os.fsdecode(error.filename)) == temporary:
                error.filename = str(path)
            raise
        except RuntimeError as error:
            if "inline_container" not in str(error):
                raise
            left = shutil.disk_usage(path.parent).free
            raise UsageError(
                f"{path}: could not be written, with {left / 1e6:.1f} MB left on the disk; make room and run "
                "the same command again"
            ) from error


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path``, of a name that cannot be guessed, for what is to become it.

    It goes when the block ends. What processes of this machine left here when they were killed goes first:
    a process that lives holds its folder locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".*.{HERE}-????????.tmp"):
        with _claimed(left) as mine:
            if mine:
                shutil.rmtree(left, ignore_errors=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.{HERE}-", suffix=".tmp", dir=path.parent))
        with _claimed(folder) as mine:
            if mine is False or not folder.is_dir():  # taken for a dead one before it was locked
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def remove_scratch(folder: Path) -> None:
    """Remove what killed processes, of any machine, left in a folder that nobody else writes to now."""
    for left in folder.glob(".*.????????-????????.tmp"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; it is made if it does not exist.

    Raises:
        UsageError: another process holds it.
        OSError: it cannot be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = open_folder(folder)
    if handle is None:  # nothing to hold on to
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            _lock(handle, folder)
        yield
    finally:
        os.close(handle)


@contextmanager
def _claimed(folder: Path) -> Iterator[bool | None]:
    """Hold a temporary folder: True, False if another process does, None where that cannot be known."""
    with ExitStack() as stack:
        mine: bool | None = None
        with suppress(OSError):
            handle = open_folder(folder, follow=False)
            if handle is None:
                raise OSError("this system opens no folders")
            stack.callback(os.close, handle)
            try:
                lock(handle)
                mine = True
            except BlockingIOError:
                mine = False
        yield mine


def _lock(handle: int, folder: Path) -> None:
    try:
        lock(handle)
    except BlockingIOError as error:
        raise UsageError(
            f"{folder}: another mrigen is writing there; wait for it or choose another --out"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; halves of letters (undecodable file names) become escapes."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    posix = hasattr(os, "O_DIRECTORY")  # elsewhere only what is written can be flushed
    handle = open_folder(path) if path.is_dir() else os.open(path, os.O_RDONLY if posix else os.O_RDWR)
    if handle is None:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """Folder of what is kept between commands: ``$XDG_CACHE_HOME/mrigen``, by default ``~/.cache/mrigen``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mrigen"
