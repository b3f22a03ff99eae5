"""Saved states of a run: complete or absent, checksummed, the last few kept."""

from __future__ import annotations

import errno
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrigen.errors import UsageError
from mrigen.files import atomic, remove_scratch, sha256, write_json

if TYPE_CHECKING:
    import torch

State = dict[str, Any]


def save_state(folder: Path, images: int, state: State, keep: int) -> None:
    """Write the state reached after ``images`` images and forget all but the last ``keep``.

    The checksum file is written last: a state without one was interrupted and does not count. States of
    more images are those that ``newest_state`` passed over; they go too.

    Raises:
        OSError: it cannot be written, no space is left; earlier states are there.
    """
    import torch

    path = folder / f"state-{images:012d}.pt"
    with atomic(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # a failed write of torch's own file class
            if "inline_container" not in str(error):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    write_json(path.with_suffix(".json"), {"images": images, "sha256": sha256(path)})
    states = _states(folder)
    here = states.index(path) + 1
    for old in states[: max(0, here - keep)] + states[here:]:
        old.with_suffix(".json").unlink()
        old.unlink(missing_ok=True)


def newest_state(folder: Path) -> Path | None:
    """File of the newest state that is whole, or None; a damaged one is passed over with a warning."""
    for path in reversed(_states(folder)):
        if _whole(path):
            return path
        warnings.warn(f"{path}: damaged, falling back to the state before", stacklevel=2)
    return None


def saved_images(folder: Path) -> int | None:
    """Images of the newest saved state by its name, whole or not; None without any."""
    states = _states(folder)
    return int(states[-1].stem.removeprefix("state-")) if states else None


def read_state(path: Path, device: torch.device | str = "cpu") -> State:
    """A state that is known to be whole.

    Raises:
        UsageError: it is not here: each node has a run folder of its own.
    """
    import torch

    if not path.is_file():
        raise UsageError(f"{path}: not on this node; put --out on a file system that all nodes share")
    state: State = torch.load(path, map_location=device, weights_only=True)
    return state


def remove_remains(folder: Path) -> None:
    """Delete what a killed process left half-written, and states without a checksum file."""
    remove_scratch(folder)
    for path in folder.glob("state-*.pt"):
        if not path.with_suffix(".json").exists():
            path.unlink()


def state_faults(folder: Path) -> list[str]:
    """What is wrong with the saved states of a run, one line each; empty where all are whole."""
    return [f"{path}: not what was written (checksum)" for path in _states(folder) if not _whole(path)]


def _states(folder: Path) -> list[Path]:
    return [record.with_suffix(".pt") for record in sorted(folder.glob("state-*.json"))]


def _whole(path: Path) -> bool:
    """Whether a state is what its checksum file says."""
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return bool(sha256(path) == record["sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
