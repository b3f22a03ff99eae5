"""What a command costs with all processes that it starts (Linux)."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Cost:
    """What one run cost.

    Attributes:
        seconds: wall time from start to end.
        processor_seconds: user and system time of all processes.
        peak_mib: largest sum over the processes of their proportional set sizes, looked at every 0.1 s.
    """

    seconds: float
    processor_seconds: float
    peak_mib: float


def measure(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; what it wrote to standard error is quoted.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks: list[float] = []
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, ended, peaks))
    watch.start()
    assert process.stderr is not None
    with process.stderr as stream:
        said = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    watch.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{said}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, max(peaks, default=0.0))


def _watch(root: int, ended: threading.Event, peaks: list[float]) -> None:
    while not ended.wait(POLL_SECONDS):
        peaks.append(sum(_proportional(pid) for pid in _tree(root)) / 1024)


def _tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    pids = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                pids += _tree(int(child))
    return pids


def _proportional(pid: int) -> int:
    """KiB of a process, pages that several processes share divided among them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
