"""The stage that trains a teacher."""

from __future__ import annotations

from pathlib import Path

import torch

from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.snapshots import remove_snapshots
from mrigen.data.mixed_store import MixedStore
from mrigen.data.stores import Store
from mrigen.diffusion.objectives import OBJECTIVES, Objective
from mrigen.engine.loop import fit
from mrigen.engine.params import TeacherParams
from mrigen.engine.precision import TRAINED, compiles
from mrigen.engine.processes import on_rank_zero
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.engine.teacher import TeacherJob, describe_teacher
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS
from mrigen.model import Model
from mrigen.recipe.context import StudyContext
from mrigen.recipe.initial import describe_fine_tuned, fine_tuned
from mrigen.recipe.restoring import RESTORED, require_noise_levels, restore
from mrigen.recipe.stages import Stage


def train(study: StudyContext) -> None:
    """Train the teacher, unless one was given, and write its average.

    Raises:
        UsageError: the objective is not for such data, or the folder was made with other settings.
    """
    if study.external_teacher is not None:
        return
    solver = study.recipe.teacher.restore
    if solver is not None and SOLVERS[solver["name"]].needs:
        require_noise_levels(study, "teacher.restore")
    study.run_stage(teacher_stage(study), lambda: _train(study))


def teacher_stage(study: StudyContext) -> Stage:
    """The stage and its settings, for which the data have to be there if they are given."""
    start = study.initial_model
    own = study.recipe.teacher.model_dump(mode="json")
    if OBJECTIVES[study.recipe.teacher.objective["name"]].least_levels is Objective.least_levels:
        del own["most_repeats"]  # where noise does not limit what an image is good for
    settings = {
        "data": study.data_settings(),
        "teacher": own if start is None else {**own, "init": start.fingerprint},
        "seed": study.recipe.seed,
        "precision": study.recipe.precision,
    }
    return Stage("teacher", study.out / "teacher", settings, section="teacher", redo="teacher")


def describe(study: StudyContext) -> ModelDescription:
    """The teacher of the recipe and the store.

    Raises:
        UsageError: its training certainly does not fit into memory, or not the model that it starts from.
    """
    params, start = study.recipe.teacher, study.initial_model
    provenance = {"recipe": study.recipe.name, "seed": study.recipe.seed}
    if start is None:
        description = describe_teacher(params, study.store, provenance)
    else:
        provenance["init"] = start.fingerprint
        description = describe_fine_tuned(start, params, study.store, provenance)
    study.require_memory("teacher", params, description, trained=1, frozen=1)
    return description


def _train(study: StudyContext) -> None:
    params, store, start = study.recipe.teacher, study.store, study.initial_model
    description, folder = describe(study), study.out / "teacher"
    if params.restore is not None:
        weighted = params.objective["name"] == "reconstructed"
        store = restore(study, params.restore, start, folder / RESTORED, operators=weighted)
        description = description.model_copy(update={"corruption": store.described()})
    seed = study.recipe.seed
    model = Model.random_init(description, seed) if start is None else fine_tuned(start, description)
    objective = model.objective(store)
    raised = isinstance(store, MixedStore) and any(store.usable_from)
    if raised and not bool(objective.least_levels(torch.ones(1)).any()):
        raise UsageError(
            f"data.store: usable_from adds noise, which objective {params.objective['name']} would take "
            "for signal; use tweedie or ambient-tweedie, or leave it out"
        )
    if objective.conditions_on_mask and objective.corruption.baseline:
        study.console.print(f"teacher: {objective.corruption.baseline}", highlight=False)
    train_model(study, model, objective, store, params, folder)


def train_model(
    study: StudyContext,
    model: Model,
    objective: Objective,
    store: Store,
    params: TeacherParams,
    folder: Path,
) -> None:
    """Train a teacher on a store and write its average to ``folder/model``; continues from saved states.

    Args:
        study: device, precision, seed and loggers.
        model: where the training starts; its weights change.
        objective: of the training.
        store: training data.
        params: length, batch and optimiser.
        folder: of the stage, whose name the progress bar has.
    """
    recipe = study.recipe
    compiled = compiles(recipe.compile, study.fabric.device, params.images, TRAINED)
    job = TeacherJob(params, model.denoiser, objective, store, study.fabric, recipe.seed, compiled=compiled)

    def sampler() -> TeacherSampler | StudentSampler:
        size = params.micro_batch_size
        return model.variant(job.result).sampler(store, recipe.evaluate.sampler, size)

    def average(images: int) -> Model:
        return model.variant(job.result, provenance={**model.description.provenance, "images": images})

    def snapshot(images: int) -> None:
        study.save_snapshot(folder, average(images), images, params)

    def write() -> None:
        average(job.images).save(folder / "model")
        remove_snapshots(folder)

    fit(job, folder, study.fabric, folder.name, study.log(sampler), snapshot)
    on_rank_zero(write)
