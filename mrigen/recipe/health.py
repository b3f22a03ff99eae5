"""What ``mrigen doctor`` finds out: the machine, and whether files are still what was written."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from mrigen import __version__
from mrigen.checkpoints.description import DESCRIPTION
from mrigen.data.manifest import NAME as MANIFEST
from mrigen.errors import UsageError

GIB = 1 << 30


def environment() -> dict[str, str]:
    """Program, interpreter, system and the versions of the libraries that mrigen needs."""
    found = {
        "mrigen": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
    }
    for requirement in requires("mrigen") or []:
        name, extra = _name(requirement), "extra ==" in requirement
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if not extra:
                found[name] = "missing: install mrigen again"
    return found


def devices() -> dict[str, str]:
    """Processors and accelerators that the networks can run on, with their memory.

    Threads that share cores with busy programs wait for each other: one thread per core that is free.
    """
    import torch

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = f", {os.getloadavg()[0]:.1f} busy in the last minute" if hasattr(os, "getloadavg") else ""
    found = {"cpu": f"{cores} cores{busy}, {torch.get_num_threads()} threads, {pages / GIB:.1f} GiB"}
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        free = torch.cuda.mem_get_info(index)[0]
        found[f"cuda:{index}"] = (
            f"{card.name}, {free / GIB:.1f} of {card.total_memory / GIB:.1f} GiB free, "
            f"compute capability {card.major}.{card.minor}, CUDA {torch.version.cuda}"
        )
    if torch.backends.mps.is_available():
        found["mps"] = "available"
    return found


def disks(folders: dict[str, Path]) -> dict[str, str]:
    """Free space of the file systems that folders lie on, and whether they can be written to.

    Args:
        folders: by what they are used for; one that does not exist stands for the one it would be made in.
    """
    found = {}
    for use, folder in folders.items():
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        usage = shutil.disk_usage(there)
        writable = "" if os.access(there, os.W_OK) else ", cannot be written to"
        found[use] = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free{writable} ({folder})"
    return found


def folders_in_use() -> dict[str, Path]:
    """Where mrigen writes: results, temporary files, reference statistics and weights."""
    from mrigen.metrics.cache import default_folder

    return {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir()), "cache": default_folder()}


def check(path: Path) -> dict[Path, list[str]]:
    """Compare everything below a folder with its checksums: stores, references, models, saved states.

    Returns:
        The faults of each thing that was checked, one line each; an empty list where it is sound.

    Raises:
        UsageError: there is nothing to check.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give a store, a model folder or a run folder")
    found: dict[Path, list[str]] = {}
    for folder in (path, *_folders(path)):
        faults = [faults for name, faults in _CHECKS.items() if any(folder.glob(name))]
        if faults:
            found[folder] = [fault for one in faults for fault in _told(one, folder)]
    if not found:
        raise UsageError(
            f"{path}: holds nothing with checksums; give a store, a model folder or a run folder"
        )
    return found


def _folders(path: Path) -> Iterator[Path]:
    """All folders below one, in order; links are not followed."""
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield entry
            yield from _folders(entry)


def _told(faults: Callable[[Path], list[str]], folder: Path) -> list[str]:
    try:
        return faults(folder)
    except (UsageError, OSError) as error:
        return [str(error)]


def _store(folder: Path) -> list[str]:
    from mrigen.data.stores import store_faults

    return store_faults(folder)


def _model(folder: Path) -> list[str]:
    from mrigen.checkpoints.folder import verify_model

    verify_model(folder)
    return []


def _states(folder: Path) -> list[str]:
    from mrigen.engine.states import state_faults

    return state_faults(folder)


_CHECKS: dict[str, Callable[[Path], list[str]]] = {
    MANIFEST: _store,
    DESCRIPTION: _model,
    "state-*.json": _states,
}
"""What checks a folder that holds a file of this name."""


def _name(requirement: str) -> str:
    """``torch`` of ``torch>=2.6; extra == "test"``."""
    end = next((i for i, letter in enumerate(requirement) if letter in "<>=!~;[( "), len(requirement))
    return requirement[:end]
