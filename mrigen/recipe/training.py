"""The stage that trains a teacher."""

from __future__ import annotations

from mrigen.checkpoints.snapshots import remove_snapshots
from mrigen.engine.loop import drive
from mrigen.engine.processes import alone
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.engine.teacher import TeacherJob
from mrigen.model import Model, describe_teacher
from mrigen.recipe.context import StudyContext
from mrigen.recipe.stages import Stage


def train(study: StudyContext) -> None:
    """Train the teacher, unless one was given, and write its average.

    Raises:
        UsageError: the objective is not for such data, or the folder was made with other settings.
    """
    if study.given_teacher is not None:
        return
    settings = {
        "data": study.data_settings(),
        "teacher": study.recipe.teacher.model_dump(mode="json"),
        "seed": study.recipe.seed,
        "precision": study.recipe.precision,
    }
    study.run_stage(Stage("teacher", study.out / "teacher", settings), lambda: _train(study))


def _train(study: StudyContext) -> None:
    recipe, params, store = study.recipe, study.recipe.teacher, study.store
    provenance = {"recipe": recipe.name, "seed": recipe.seed}
    model = Model.random_init(describe_teacher(params, store, provenance), recipe.seed)
    objective = model.objective(store)
    if objective.shows_mask and objective.corruption.baseline:
        study.console.print(f"teacher: {objective.corruption.baseline}", highlight=False)
    job = TeacherJob(
        params, model.denoiser, objective, store, study.fabric, recipe.seed, compiled=recipe.compile
    )

    def sampler() -> TeacherSampler | StudentSampler:
        size = params.batch // params.micro_batches
        return model.variant(job.result).sampler(store, recipe.evaluate.sampler, size)

    def average(images: int) -> Model:
        return model.variant(job.result, provenance={**model.description.provenance, "images": images})

    def snapshot(images: int) -> None:
        study.save_snapshot(folder, average(images), images, params)

    def write() -> None:
        average(job.images).save(study.teacher_folder)
        remove_snapshots(folder)

    folder = study.out / "teacher"
    drive(job, folder, study.fabric, "teacher", study.log(sampler), snapshot)
    alone(write)
