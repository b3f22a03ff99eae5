"""Memory of a run on the processor."""

from __future__ import annotations

import ctypes
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of mallopt, malloc.h
SIZES = (1 << 30, 32 << 20)  # newer and older versions of glibc allow this much
NEVER = (1 << 31) - 1


def keep_freed() -> bool:
    """Let glibc keep large freed blocks for the next request of this process.

    By default it gives arrays of more than a few MiB back to the system when they are freed, and the system
    clears every page of the next one. A network's activations come and go with every step: that is several
    per cent of a step's time, up to a quarter.

    Returns:
        Whether this is such a system.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mapped = any(mallopt(MMAP_THRESHOLD, size) for size in SIZES)
    return bool(mapped and mallopt(TRIM_THRESHOLD, NEVER))
