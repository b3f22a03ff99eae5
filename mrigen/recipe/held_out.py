"""The best of several teachers, by held-out measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mrigen.data.stores import open_store
from mrigen.engine.launch import choose_device
from mrigen.errors import UsageError
from mrigen.metrics.held_out import batches_of, held_out_errors
from mrigen.model import Model
from mrigen.progress import track


@torch.inference_mode()
def rank_teachers(
    teachers: list[Path], store: Path, split: str, seed: int = 0, device: str = "auto"
) -> list[dict[str, Any]]:
    """One row per teacher, the best first: its error at each noise level and their mean.

    Args:
        teachers: model folders.
        store: measurement store.
        split: part of it that the teachers were not trained on.
        seed: key of further masks and noise.
        device: where the networks run.

    Raises:
        UsageError: no teacher, one that is not told what it sees, or one for other data.
    """
    data = open_store(store, split)
    where = choose_device(device)
    rows: list[dict[str, Any]] = []
    for folder in track(teachers, "teachers", len(teachers)):
        model = Model.load(folder, where, role="teacher")
        corruption = model.corruption(data)
        if not model.objective(corruption).conditions_on_mask:
            raise UsageError(f"{folder}: is not told what it sees, so that nothing can be hidden from it")
        errors = held_out_errors(model.denoiser, batches_of(data, where), corruption, seed)
        rows.append(
            {
                "teacher": str(folder),
                **{f"σ = {level:g}": error for level, error in errors.items()},
                "mean": sum(errors.values()) / len(errors),
                "n": len(data),
            }
        )
    return sorted(rows, key=lambda row: row["mean"])
