"""The stages after the teacher that restore the training data and train on what was restored."""

from __future__ import annotations

from functools import partial
from typing import Any

from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.engine.params import TeacherParams
from mrigen.engine.processes import on_rank_zero
from mrigen.engine.states import saved_images
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.model import Model
from mrigen.recipe.context import SELECTION, StudyContext
from mrigen.recipe.restoring import BATCH, RESTORED, require_noise_levels, restore
from mrigen.recipe.schema import LapsParams
from mrigen.recipe.selection import proximal_distance
from mrigen.recipe.stages import Stage
from mrigen.recipe.training import train_model

FIRST = {"name": "ambient-one-step", "spread": 0.05}


def check_laps(study: StudyContext) -> None:
    """Refuse laps that cannot work, before anything is trained.

    Raises:
        UsageError: micro-batches do not divide batches, or the noise of the measurements is unknown:
            posterior samples would fit it as signal.
    """
    laps, own = study.recipe.laps, study.recipe.teacher
    if laps is None or study.external_teacher is not None:
        return
    batch, part = laps.batch or own.batch, laps.micro_batch or own.micro_batch
    if part is not None and batch % part:
        raise UsageError(
            f"laps: micro-batches of {part} do not divide batches of {batch}; set laps.micro_batch"
        )
    require_noise_levels(study, "laps")


def run_laps(study: StudyContext) -> None:
    """Restore, train and measure, until the laps are done or one is no better than the one before.

    Raises:
        UsageError: a folder was made with other settings, or a solver that is not for such data.
    """
    laps = study.recipe.laps
    if laps is None or study.external_teacher is not None:
        return
    before, least = study.teacher, float("inf")
    for number in range(1, laps.count + 1):
        folder = study.lap_folder(number)
        settings = {
            "data": study.data_settings(),
            "teacher": before.fingerprint,
            "lap": {"number": number, **laps.model_dump(mode="json", exclude={"count"})},
            "seed": study.recipe.seed,
            "precision": study.recipe.precision,
        }
        stage = Stage(folder.name, folder, settings, section="lap", redo="laps", option="laps")
        if stage.status == "unfinished":
            _require_unused(study, number)
        study.run_stage(stage, partial(_lap, study, laps, before, number))
        distance = study.lap_distance(folder.name)
        study.console.print(f"{folder.name}: proximal distance {distance:.4g}", highlight=False)
        if distance >= least and number < laps.count:
            study.console.print(f"{folder.name}: no better than the one before; laps end", highlight=False)
            break
        before, least = Model.load(folder / "model", role="teacher"), distance


def _require_unused(study: StudyContext, number: int) -> None:
    """Refuse to train a lap on from which others were made, before anything is trained.

    Raises:
        UsageError: says how to make them again.
    """
    later = [study.out / "student", study.lap_folder(number + 1)]
    for folder, redo in zip(later, ("distill", "laps"), strict=True):
        if saved_images(folder) is not None:
            again = "and what was made of it" if redo == "distill" else f"lap {number} and those after it"
            raise UsageError(
                f"{folder}: was made with lap {number} as it is, and training that on makes it another: add "
                f"--redo {redo} to discard the {folder.name} {again}, or choose another --out"
            )


def _lap(study: StudyContext, laps: LapsParams, before: Model, number: int) -> None:
    folder = study.lap_folder(number)
    spec = laps.solver
    if number == 1:
        spec = laps.first or (FIRST if before.conditions_on_mask else laps.solver)
    weighted = laps.unmeasured_weight is not None
    store = restore(study, spec, before, folder / RESTORED, laps.usable_from or 0.0, operators=weighted)
    if laps.usable_from and not bool((store.noise_levels(list(range(len(store)))) == 0).any()):
        raise UsageError(
            "laps.usable_from: no image was measured whole, from which to learn below it; add a store of "
            "such ones to data.store, or leave it out"
        )
    own = study.recipe.teacher
    sigma_data = OBJECTIVES.params(own.objective).model_dump()["sigma_data"]
    objective: dict[str, Any] = {
        "name": "standard",
        "noise": laps.noise.model_dump(mode="json"),
        "sigma_data": sigma_data,
    }
    params = TeacherParams(
        **own.model_dump(include={"network", "preconditioning", "snapshot_images", "keep"}),
        objective=objective,
        images=laps.images,
        batch=laps.batch or own.batch,
        micro_batch=laps.micro_batch or own.micro_batch,
        optimizer=laps.optimizer or own.optimizer,
        ema_halflife=laps.ema_halflife,
    )
    model = before.copy().variant(
        objective=OBJECTIVES.pinned(objective),
        corruption=store.described(),
        provenance={**before.description.provenance, "lap": number},
    )
    model.denoiser.requires_grad_(requires_grad=True)
    learned = objective
    if laps.usable_from is not None:
        learned = {**objective, "name": "tweedie"}
    elif weighted:
        learned = {**objective, "name": "reconstructed", "unmeasured_weight": laps.unmeasured_weight}
    trained_by = OBJECTIVES.build(learned, corruption=store.corruption())
    train_model(study, model, trained_by, store, params, folder)
    trained = Model.load(folder / "model", study.fabric.device)
    sampler = trained.sampler(study.store, study.recipe.evaluate.of_laps, BATCH)
    distance = proximal_distance(study.store, study.extractor, laps.samples, study.recipe.seed)
    on_rank_zero(lambda: write_json(folder / SELECTION, {"proximal": distance(sampler)}))
