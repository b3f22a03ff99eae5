"""Training data restored by a solver: images that are trained on as if they had been measured whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mrigen import seeds
from mrigen.data.images import write_images
from mrigen.data.restored_store import RestoredStore
from mrigen.engine.processes import barrier, on_rank_zero
from mrigen.engine.resumable import ResumableSampling, discard
from mrigen.engine.sampling import chunks
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Task
from mrigen.model import Model
from mrigen.recipe.context import StudyContext

BATCH = 100
RESTORED = "restored.h5"


def require_noise_levels(study: StudyContext, section: str) -> None:
    """Refuse MRI data whose noise level is unknown: posterior samples would fit their noise as signal.

    Args:
        study: of the data.
        section: of the recipe, for messages.

    Raises:
        UsageError: says how to mend it.
    """
    store = study.store
    if store.complex_valued and not bool((store.noise_levels(list(range(len(store)))) > 0).all()):
        raise UsageError(
            f"{section}: the noise level of some slices of {study.store_folder} is unknown; prepare the data "
            f"with noise_whitening: true, or leave {section} out"
        )


def restore(
    study: StudyContext,
    spec: Mapping[str, Any],
    model: Model | None,
    path: Path,
    usable_from: float = 0.0,
    *,
    operators: bool = False,
) -> RestoredStore:
    """Every sample of the study's store, restored by a solver; what was interrupted is continued.

    Several processes share the work. Images depend on the study's seed and the name of the file's folder.

    Args:
        study: measurements, seed and device.
        spec: the solver, in a recipe's words.
        model: prior of solvers that need one.
        path: file of the images; where it is there, nothing is made again.
        usable_from: see ``RestoredStore``.
        operators: see ``RestoredStore``.

    Raises:
        UsageError: the solver is not for such data.
    """
    used = {} if model is None else {"teacher": model.fingerprint}
    if not on_rank_zero(path.is_file):
        _restore(study, spec, model, path, used)
    return RestoredStore(
        path, study.store, {"solver": SOLVERS.pinned(spec), **used}, usable_from, operators=operators
    )


def _restore(
    study: StudyContext, spec: Mapping[str, Any], model: Model | None, path: Path, used: Mapping[str, str]
) -> None:
    store, device = study.store, study.fabric.device
    solver = SOLVERS.build(spec)
    prior = None
    if model is not None:
        prior = model.copy().to(device).prior(store.image_shape, differentiated=solver.differentiates)

    def solve(indices: list[int]) -> Iterator[Tensor]:
        for part in chunks(indices, BATCH):
            data = replace(store.measurements(part), sigma=store.noise_levels(part)).to(device=device)
            keys = [seeds.key(study.recipe.seed, "lap", path.parent.name, index) for index in part]
            yield solver.solve(Task(data, keys, prior)).image.cpu()

    settings = {**used, "solver": SOLVERS.pinned(spec)}
    every = list(range(len(store)))
    parts = ResumableSampling(
        path, settings, every, BATCH, store.image_shape, complex_valued=store.complex_valued
    )
    parts.make(solve, f"{path.parent.name}: restoring")
    barrier()

    def collect() -> None:
        write_images(path, every, parts.read())
        discard(path)

    on_rank_zero(collect)
