"""What systems differ in: locks between processes, memory, cores, open files.

Windows has none of the calls of POSIX below: there are no locks then, so that nothing keeps two commands from
writing into one folder.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any


def _optional(name: str) -> Any:
    """A module that not every system has."""
    try:
        return import_module(name)
    except ImportError:
        return None


def lock(handle: int, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file or folder for this process.

    Args:
        handle: its descriptor.
        shared: with others that lock it so.
        wait: until it is free.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the system, or its file system, has no locks.
    """
    fcntl = _optional("fcntl")
    if fcntl is None:
        raise OSError("this system has no locks")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)


def open_folder(folder: Path, *, follow: bool = True) -> int | None:
    """A descriptor of a folder, to be locked and closed; None where the system opens no folders.

    Raises:
        OSError: it is none.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return None
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW))


def physical_memory() -> int | None:
    """Bytes of memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def open_files() -> int | None:
    """How many files a process may have open; None for any number."""
    resource = _optional("resource")
    if resource is None:
        return 512  # of the C library of Windows
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft
