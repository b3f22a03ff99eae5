"""How much memory there is to spend, and what becomes of memory that was freed."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

from mrigen.system import physical_memory

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
MMAP_THRESHOLD, TRIM_THRESHOLD, ARENA_MAX = -3, -1, -8  # names of mallopt, malloc.h
SIZES = (1 << 30, 32 << 20)  # newer and older versions of glibc allow this much
NEVER = (1 << 31) - 1


def available(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that can be allocated without swapping: of the machine, and of the job's own share of it.

    Args:
        cgroup: folder of the control group, version 2, that a container or a Slurm job has.
        meminfo: the kernel's account of the machine.
    """
    limits = [physical_memory() or sys.maxsize]
    with suppress(OSError, ValueError, StopIteration):
        lines = meminfo.read_text(encoding="ascii").splitlines()
        limits.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        limits.append(max(0, limit - used))
    return min(limits)


def malloc_keep_freed(*, one_arena: bool = False) -> bool:
    """Let glibc keep large freed blocks for the next request of this process.

    By default it gives arrays of more than a few MiB back to the system when they are freed, and the system
    clears every page of the next one. A network's activations and the arrays of a slice come and go all the
    time: that is several per cent of the time, up to a quarter.

    Args:
        one_arena: what one thread frees is kept for the others too. To be said before they start.

    Returns:
        Whether this is such a system.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    if one_arena:
        mallopt(ARENA_MAX, 1)
    mapped = any(mallopt(MMAP_THRESHOLD, size) for size in SIZES)
    return bool(mapped and mallopt(TRIM_THRESHOLD, NEVER))
