"""Models of a run that is not finished: one model folder per saved state, and the newest of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mrigen.checkpoints.description import DESCRIPTION
from mrigen.checkpoints.hub import named
from mrigen.errors import UsageError
from mrigen.files import scratch

MODEL = "model"
DENOISER = "denoiser"
STAGES = ("student", "teacher")
RECORD = "stage.json"


def save_snapshot(stage: Path, images: int, save: Callable[[Path], object], keep: int) -> None:
    """Write the model of the state after ``images`` images as ``model-IMAGES``; complete or absent.

    Args:
        stage: folder of the stage, where its states are.
        images: training images so far.
        save: writes the model into a folder that it makes.
        keep: number of snapshots that remain, this one included; those of more images were of states that
            are gone, and go too.
    """
    path = stage / f"{MODEL}-{images:012d}"
    with scratch(path) as temporary:
        save(temporary / MODEL)
        if path.exists():
            path.replace(temporary / "before")
        (temporary / MODEL).replace(path)
        kept = snapshots(stage)
        here = kept.index(path) + 1
        for old in kept[: max(0, here - keep)] + kept[here:]:
            old.replace(temporary / old.name)


def remove_snapshots(stage: Path) -> None:
    """Delete all snapshots: the stage has its final model."""
    for path in snapshots(stage):
        with scratch(path) as temporary:
            path.replace(temporary / path.name)


def snapshots(stage: Path) -> list[Path]:
    """Model folders of the snapshots of a stage, the newest last."""
    return sorted(path.parent for path in stage.glob(f"{MODEL}-*/{DESCRIPTION}"))


def find_model(path: str | Path) -> Path:
    """The model folder that a path means.

    A model folder is meant itself. Of a stage, such as ``RUN/teacher``, it is the newest model: the newest
    snapshot while the stage is not finished, then the final one. Of a run it is that of the student, or of
    the teacher as long as there is no student. A name that is no path is that of a model which the package
    ships or which was downloaded, see ``mrigen models``.

    Raises:
        UsageError: a stage or a run without any model yet.
    """
    if not Path(path).exists() and (known := named(str(path))) is not None:
        return known
    path = Path(path)
    if not path.is_dir() or (path / DESCRIPTION).is_file():
        return path
    stages = [path, *(path / name for name in STAGES)]
    for stage in stages:
        kept = snapshots(stage)
        if kept:
            return kept[-1]
        if (stage / MODEL / DESCRIPTION).is_file():
            return stage / MODEL
    if any((stage / RECORD).is_file() for stage in stages):
        raise UsageError(
            f"{path}: has no model yet; one is written with every saved state (snapshot_images), and when "
            "the run is interrupted"
        )
    return path
