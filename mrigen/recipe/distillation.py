"""The stage that distils a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.folder import save_model
from mrigen.diffusion.denoiser import NetworkDenoiser
from mrigen.distill import LOSSES, Generator
from mrigen.engine import build
from mrigen.engine.distillation import DistillJob
from mrigen.engine.logs import OpenLog
from mrigen.engine.loop import drive
from mrigen.engine.processes import alone
from mrigen.engine.sampling import StudentSampler
from mrigen.errors import NonFiniteLossError, UsageError
from mrigen.files import write_json
from mrigen.recipe.selection import selection_score

if TYPE_CHECKING:
    from torch import nn

    from mrigen.recipe.study import Study

SECTIONS = {"complex": ["mask"], "real": ["operator", "sigma"]}


def distill(study: Study) -> None:
    """Train the generator; write the best by the selection metric, the last, and the metric's history.

    With ``selection.keep`` also every one that was measured, as ``measured/IMAGES-HALFLIFE``.

    Raises:
        UsageError: the teacher is not for such data, or ``distill.corruption`` does not fit its own.
    """
    recipe, params = study.recipe, study.recipe.distill
    teacher, description = build.load_teacher(study.teacher_folder)
    words = assumed_corruption(description, params.corruption)
    assumed = description.model_copy(update={"corruption": words})
    store = None if study.data_free else study.store
    known = build.corruption_of(assumed, store, study.teacher_folder)
    objective = build.objective_of(assumed, known, study.teacher_folder)
    corruption = objective.corruption
    loss = LOSSES.build(params.loss, objective=objective)
    shape = description.image_shape if store is None else store.image_shape
    score = None
    if params.selection.every_images is not None:
        score = selection_score(params, study.store, study.extractor, recipe.seed, objective)
    fresh = partial(build.new_denoiser, description)
    folder = study.out / "student"
    network = dict(description.network)
    if params.dropout is not None:
        network["dropout"] = params.dropout

    def student(images: float, halflife: float) -> ModelDescription:
        provenance = _provenance(study, description, images, halflife)
        return description.model_copy(
            update={
                "role": "generator",
                "network": network,
                "image_shape": shape,
                "corruption": words,
                "sigma_init": params.sigma_init,
                "later_sigmas": params.later_sigmas,
                "generator_input": params.generator_input,
                "provenance": provenance,
            }
        )

    def keep(images: int, halflife: float, module: nn.Module) -> None:
        save_model(measured_folder(folder, images, halflife), module, student(images, halflife))

    kept = keep if params.selection.keep else None
    job = DistillJob(
        params,
        teacher,
        loss,
        corruption,
        shape,
        study.fabric,
        recipe.seed,
        score,
        fresh,
        kept,
        compiled=recipe.compile,
    )

    def sampler() -> StudentSampler:
        averaged = NetworkDenoiser(job.result, description.conventions)
        generator = Generator(averaged, params.sigma_init, params.later_sigmas)
        seen = (objective, corruption) if params.generator_input == "sampled" else ()
        return StudentSampler(generator, shape, params.batch // params.micro_batches, *seen)

    ended = _driven(job, folder, study, study.log(sampler))
    halflife, images = job.averages.chosen
    chosen = student(job.images if images is None else images, halflife)

    def write() -> None:
        write_json(folder / "selection.json", {**job.averages.described(), "ended": ended})
        save_model(folder / "last", job.averages.last, chosen)
        save_model(study.student_folder, job.result, chosen)

    alone(write)


def measured_folder(folder: Path, images: float, halflife: float) -> Path:
    """Where ``selection.keep`` puts the average of a half-life after so many images."""
    return folder / "measured" / f"{images:.0f}-{halflife:g}"


def _driven(job: DistillJob, folder: Path, study: Study, log: OpenLog | None) -> str:
    """Run the job; why it ended. A diverged one ends early if the metric has chosen a generator before.

    Raises:
        NonFiniteLossError: it diverged before anything was measured.
    """
    try:
        drive(job, folder, study.fabric, "student", log)
    except NonFiniteLossError as error:
        if not job.averages.history:
            raise
        ended = f"early: {error}"
    else:
        early = job.images < job.params.images
        reason = job.averages.over if early else job.averages.far
        if not reason:
            return "complete"
        ended = f"early: {reason}" if early else f"complete, but {reason}"
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


def _provenance(
    study: Study, description: ModelDescription, images: float, halflife: float
) -> dict[str, Any]:
    params = study.recipe.distill
    return {
        **description.provenance,
        "recipe": study.recipe.name,
        "distilled": LOSSES.pinned(params.loss),
        "distilled_under": params.corruption,
        "ema_halflife": halflife,
        "images": images,
    }
