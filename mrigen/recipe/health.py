"""What ``mrigen doctor`` finds out: the machine, and whether files are still what was written."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from mrigen import __version__, system
from mrigen.errors import UsageError
from mrigen.files import cache_folder

Check = Callable[[Path], list[str]]

GIB = 1 << 30
DRIVERS = ("nvidiactl", "nvhost-gpu", "nvgpu", "kfd", "dxg")
"""Device files that Linux has for GPUs of NVIDIA (the second and third on Jetsons), of AMD, and under WSL."""


def environment() -> dict[str, str]:
    """Program, interpreter, system and the versions of the libraries that mrigen needs."""
    versions = {
        "mrigen": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
    }
    for requirement in requires("mrigen") or []:
        name, extra = _name(requirement), "extra ==" in requirement
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            if not extra:
                versions[name] = "missing: install mrigen again"
    return versions


def versions() -> dict[str, str]:
    """The same without paths, for pages that are given away."""
    return {name: re.sub(r" \(.*\)$", "", text) for name, text in environment().items()}


def devices() -> dict[str, str]:
    """Processors and accelerators that the networks can run on, with their memory.

    Threads that share cores with busy programs wait for each other: one thread per core that is free. Torch,
    which takes two seconds to import, is asked only where the system has a driver of an accelerator.
    """
    memory = system.physical_memory()
    size = "" if memory is None else f", {memory / GIB:.1f} GiB"
    busy = f", {os.getloadavg()[0]:.1f} busy in the last minute" if hasattr(os, "getloadavg") else ""
    threads = os.environ.get("OMP_NUM_THREADS")
    limit = "OMP_NUM_THREADS not set" if threads is None else f"OMP_NUM_THREADS={threads}"
    rows = {"cpu": f"{system.cores()} cores{busy}, {limit}{size}"}
    if sys.platform.startswith("linux") and not any(Path("/dev", name).exists() for name in DRIVERS):
        return rows
    import torch

    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        free = torch.cuda.mem_get_info(index)[0]
        rows[f"cuda:{index}"] = (
            f"{card.name}, {free / GIB:.1f} of {card.total_memory / GIB:.1f} GiB free, "
            f"compute capability {card.major}.{card.minor}, CUDA {torch.version.cuda}"
        )
    if torch.backends.mps.is_available():
        rows["mps"] = "available"
    return rows


def disks(folders: dict[str, Path]) -> dict[str, str]:
    """Free space of the file systems that folders lie on, and whether they can be written to.

    Args:
        folders: by what they are used for; one that does not exist stands for the one it would be made in.
    """
    rows = {}
    for use, folder in folders.items():
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        usage = shutil.disk_usage(there)
        writable = "" if os.access(there, os.W_OK) else ", cannot be written to"
        rows[use] = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free{writable} ({folder})"
    return rows


def folders_in_use() -> dict[str, Path]:
    """Where mrigen writes: results, temporary files, reference statistics and weights."""
    return {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir()), "cache": cache_folder()}


def check(path: Path) -> dict[Path, list[str]]:
    """Compare everything below a folder with its checksums: stores, references, models, saved states.

    Returns:
        The faults of each thing that was checked, one line each; an empty list where it is sound.

    Raises:
        UsageError: there is nothing to check.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give a store, a model folder or a run folder")
    checks = _checks()
    faults: dict[Path, list[str]] = {}
    for folder in (path, *_folders(path)):
        due = [check for name, check in checks.items() if any(folder.glob(name))]
        if due:
            faults[folder] = [fault for check in due for fault in _faults(check, folder)]
    if not faults:
        raise UsageError(
            f"{path}: holds nothing with checksums; give a store, a model folder or a run folder"
        )
    return faults


def _folders(path: Path) -> Iterator[Path]:
    """All folders below one, in order; links are not followed."""
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield entry
            yield from _folders(entry)


def _faults(check: Check, folder: Path) -> list[str]:
    """What a check finds wrong with a folder; that it cannot be read is a fault too."""
    try:
        return check(folder)
    except (UsageError, OSError) as error:
        return [str(error)]


def _checks() -> dict[str, Check]:
    """What checks a folder that holds a file of this name."""
    from mrigen.checkpoints.description import DESCRIPTION
    from mrigen.checkpoints.folder import verify_model
    from mrigen.data.manifest import NAME, data_kind
    from mrigen.data.mri_manifest import MRIManifest
    from mrigen.engine.states import state_faults

    def store_faults(folder: Path) -> list[str]:
        if data_kind(folder) != "images":
            return MRIManifest.load(folder).faults(folder)
        from mrigen.data.image_manifest import ImageManifest  # which knows operators, and so torch

        return ImageManifest.load(folder).faults(folder)

    def model_faults(folder: Path) -> list[str]:
        verify_model(folder)
        return []

    return {NAME: store_faults, DESCRIPTION: model_faults, "state-*.json": state_faults}


def _name(requirement: str) -> str:
    """``torch`` of ``torch>=2.6; extra == "test"``."""
    end = next((i for i, letter in enumerate(requirement) if letter in "<>=!~;[( "), len(requirement))
    return requirement[:end]
