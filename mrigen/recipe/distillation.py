"""The stage that distils a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.folder import save_model
from mrigen.distill import LOSSES
from mrigen.engine import build
from mrigen.engine.distillation import DistillJob
from mrigen.engine.loop import drive
from mrigen.errors import NonFiniteLossError, UsageError
from mrigen.files import write_json
from mrigen.recipe.selection import selection_score

if TYPE_CHECKING:
    from mrigen.recipe.study import Study

SECTIONS = {"complex": ["mask"], "real": ["operator", "sigma"]}


def distill(study: Study) -> None:
    """Train the generator; write the best by the selection metric, the last, and the metric's history.

    Raises:
        UsageError: the teacher is not for such data, or ``distill.corruption`` does not fit its own.
    """
    recipe, params = study.recipe, study.recipe.distill
    teacher, description = build.load_teacher(study.teacher_folder)
    words = assumed_corruption(description, params.corruption)
    assumed = description.model_copy(update={"corruption": words})
    corruption = build.corruption_of(assumed, study.store, study.teacher_folder)
    objective = build.objective_of(assumed, corruption, study.teacher_folder)
    loss = LOSSES.build(params.loss, objective=objective)
    score = selection_score(params, study.store, recipe.evaluate.features, recipe.seed, objective)
    shape = study.store.image_shape
    fresh = partial(build.new_denoiser, description)
    job = DistillJob(params, teacher, loss, corruption, shape, study.fabric, recipe.seed, score, fresh)
    folder = study.out / "student"
    ended = _driven(job, folder, study)
    student = description.model_copy(
        update={
            "role": "generator",
            "image_shape": shape,
            "corruption": words,
            "sigma_init": params.sigma_init,
            "later_sigmas": params.later_sigmas,
            "generator_input": params.generator_input,
            "provenance": _provenance(study, description, job),
        }
    )
    write_json(folder / "selection.json", {**job.averages.described(), "ended": ended})
    save_model(folder / "last", job.averages.last, student)
    save_model(study.student_folder, job.result, student)


def _driven(job: DistillJob, folder: Path, study: Study) -> str:
    """Run the job; why it ended. A diverged one ends early if the metric has chosen a generator before.

    Raises:
        NonFiniteLossError: it diverged before anything was measured.
    """
    try:
        drive(job, folder, study.fabric, "student")
    except NonFiniteLossError as error:
        if not job.averages.history:
            raise
        ended = f"early: {error}"
    else:
        if job.images >= job.params.images:
            return "complete"
        ended = "early: the selection metric found nothing better any more"
    study.console.print(f"student ended {ended}; the best generator is kept", highlight=False, markup=False)
    return ended


def assumed_corruption(description: ModelDescription, by: Mapping[str, Any]) -> dict[str, Any] | None:
    """The teacher's corruption in words, with some values changed on purpose, section by section.

    A section with another ``name``, another operator or mask law, replaces that of the teacher.

    Raises:
        UsageError: there is no such section; the parameters in them are checked where they are used.
    """
    if not by:
        return description.corruption
    sections = SECTIONS[description.conventions.image]
    unknown = [key for key in by if key not in sections]
    if unknown:
        raise UsageError(f"distill.corruption.{unknown[0]}: change {' or '.join(sections)} of this teacher")
    return merged(description.corruption or {"operator": {"name": "identity"}}, by)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A section with its values replaced by those of ``new``."""
    both = dict(old)
    for key, value in new.items():
        before = old.get(key)
        both[key] = value
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            renamed = value.get("name", before.get("name")) != before.get("name")
            both[key] = dict(value) if renamed else merged(before, value)
    return both


def _provenance(study: Study, description: ModelDescription, job: DistillJob) -> dict[str, Any]:
    params = study.recipe.distill
    halflife, images = job.averages.chosen
    return {
        **description.provenance,
        "recipe": study.recipe.name,
        "distilled": params.loss,
        "distilled_under": params.corruption,
        "ema_halflife": halflife,
        "images": job.images if images is None else images,
    }
