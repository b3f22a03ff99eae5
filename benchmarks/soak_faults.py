"""Commands in forked processes, and what strikes them."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

# what the commands import lazily: a forked process has it already
import mrigen.prep.images.job
import mrigen.prep.kspace.job
import mrigen.recipe.comparison
import mrigen.recipe.distillation
import mrigen.recipe.evaluation
import mrigen.recipe.prepare
import mrigen.recipe.study  # noqa: F401
from mrigen.cli.main import run

KILL, TERM, TORN, FULL, DAMAGE = "SIGKILL", "SIGTERM", "torn write", "disk full", "damage"
PATIENCE = 300.0
ROOM = 256 << 20


def faults_for(*, states: bool) -> list[str]:
    """The kinds of faults that a command can suffer; only some save states that can be damaged."""
    return [KILL, TERM, TORN, FULL, *([DAMAGE] if states else [])]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: which.
        moment: seconds after the start.
    """

    kind: str
    moment: float


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: exit code, negative for a signal.
        struck: whether the fault came before the end.
        stopping: seconds from the signal to the end.
        output: what it printed.
    """

    code: int
    struck: bool
    stopping: float
    output: str


class Place:
    """A folder to work in; where mounting is allowed a file system of its own, whose size can be changed."""

    def __init__(self, folder: Path, *, mounted: bool) -> None:
        self.folder, self.mounted = folder, mounted

    def used(self) -> int:
        """Bytes on the file system."""
        space = os.statvfs(self.folder)
        return (space.f_blocks - space.f_bfree) * space.f_frsize

    @contextmanager
    def limited(self, size: int) -> Iterator[None]:
        """The file system is so large meanwhile."""
        self._resize(size)
        try:
            yield
        finally:
            self._resize(ROOM)

    def _resize(self, size: int) -> None:
        _mount("-o", f"remount,size={size}", str(self.folder))


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A new folder to work in."""
    folder.mkdir(parents=True)
    mounted = os.geteuid() == 0 and _mount("-t", "tmpfs", "-o", f"size={ROOM}", "none", str(folder))
    try:
        yield Place(folder, mounted=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


def run_forked(arguments: list[str], folder: Path, fault: Fault | None = None) -> Ended:
    """Run a command in a process of its own, with a fault on its way or none."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(arguments, folder, write, fault)
    os.close(write)
    os.set_blocking(read, False)
    output, code, signalled, start = b"", None, 0.0, time.monotonic()
    while code is None:
        time.sleep(0.001)
        done, status = os.waitpid(child, os.WNOHANG)
        output += _available(read)
        now = time.monotonic()
        if done:
            code = os.waitstatus_to_exitcode(status)
        elif fault is not None and not signalled and fault.kind in SIGNALS and now - start >= fault.moment:
            os.kill(child, SIGNALS[fault.kind])
            signalled = now
        elif now - start > PATIENCE:
            os.kill(child, signal.SIGKILL)
    output += _available(read)
    os.close(read)
    stopping = time.monotonic() - signalled if signalled else 0.0
    struck = fault is not None and code != 0
    return Ended(code, struck, stopping, output.decode(errors="replace"))


SIGNALS = {KILL: signal.SIGKILL, DAMAGE: signal.SIGKILL, TERM: signal.SIGTERM}


def _available(handle: int) -> bytes:
    try:
        return os.read(handle, 1 << 20)
    except BlockingIOError:
        return b""


def _child(arguments: list[str], folder: Path, write: int, fault: Fault | None) -> None:
    code = 70
    try:
        os.chdir(folder)
        for handle in (1, 2):
            os.dup2(write, handle)
        torch.set_num_threads(1)  # threads do not survive a fork
        warnings.simplefilter("default")  # warnings of a damaged state are no errors
        if fault is not None and fault.kind in (TORN, FULL):
            _arm(fault)
        code = run(arguments)
        sys.stdout.flush()
    finally:
        os._exit(code)


def _arm(fault: Fault) -> None:
    """From the fault's moment on the next flush to the disk fails."""
    start, flush = time.monotonic(), os.fsync

    def fsync(handle: int) -> None:
        if time.monotonic() - start >= fault.moment:
            if fault.kind == FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            _tear(handle)
        flush(handle)

    os.fsync = fsync


def _tear(handle: int) -> None:
    """Die when half of a file is there."""
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode):
        os.truncate(f"/proc/self/fd/{handle}", status.st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def damage_newest_state(folder: Path, draw: random.Random) -> bool:
    """Cut off the newest state of an unfinished stage or its checksum, or turn a bit; False without one."""
    stages = [stage.parent for stage in folder.rglob("stage.json") if not _finished(stage)]
    paths = [path for stage in stages for path in stage.glob("state-*.pt")]
    states = sorted(paths, key=lambda path: path.stat().st_mtime_ns)
    if not states:
        return False
    path = states[-1] if draw.random() < 0.7 else states[-1].with_suffix(".json")
    content = bytearray(path.read_bytes() if path.exists() else b"")
    if not content:
        return False
    if draw.random() < 0.5:
        content = content[: draw.randrange(len(content))]
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return True


def _finished(stage: Path) -> bool:
    return bool(json.loads(stage.read_text(encoding="utf-8"))["finished"])
