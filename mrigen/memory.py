"""How much memory there is to spend."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that can be allocated without swapping: of the machine, and of the job's own share of it.

    Args:
        cgroup: folder of the control group, version 2, that a container or a Slurm job has.
        meminfo: the kernel's account of the machine.
    """
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError, StopIteration):
        lines = meminfo.read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        found.append(max(0, limit - used))
    return min(found)
