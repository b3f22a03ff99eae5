"""The stage that distils a teacher."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.snapshots import DENOISER, remove_snapshots
from mrigen.engine.distillation import DistillJob
from mrigen.engine.logs import OpenLog
from mrigen.engine.loop import Snapshot, fit
from mrigen.engine.precision import TRAINED, compiles
from mrigen.engine.processes import on_rank_zero
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.errors import NonFiniteLossError, UsageError
from mrigen.files import write_json
from mrigen.losses import LOSSES
from mrigen.model import Model
from mrigen.recipe.context import StudyContext
from mrigen.recipe.selection import selection_score
from mrigen.recipe.stages import Stage

if TYPE_CHECKING:
    from torch import nn

SECTIONS = {"complex": ["mask"], "real": ["operator", "sigma"]}


def distill(study: StudyContext) -> None:
    """Train the generator; write the best by the selection metric, the last, and the metric's history.

    One that was trained to denoise too is a teacher like any other, ``denoiser``.
    With ``selection.keep`` also every one that was measured, as ``measured/IMAGES-HALFLIFE``.

    Raises:
        UsageError: the teacher is not for such data, ``distill.corruption`` does not fit its own, or the
            folder was made with other settings.
    """
    stage = student_stage(study)
    study.run_stage(stage, lambda: _distill(study))


def student_stage(study: StudyContext) -> Stage:
    """The stage and its settings; the teacher is there."""
    settings = {
        "data": study.data_settings(),
        "teacher": study.best_teacher.fingerprint,
        "distill": study.recipe.distill.stage_settings("first_step_share"),
        "seed": study.recipe.seed,
        "precision": study.recipe.precision,
    }
    return Stage("student", study.out / "student", settings, section="distill", redo="distill")


def require_memory(study: StudyContext, teacher: ModelDescription) -> None:
    """Refuse a distillation that certainly does not fit into memory.

    Raises:
        UsageError: says what to lower.
    """
    params = study.recipe.distill
    averages = len(params.halflives) + (params.selection.every_images is not None)
    uses_fake = LOSSES[params.loss["name"]].uses_fake
    networks = {"trained": 1 + uses_fake, "frozen": 1 + averages}
    study.require_memory("distill", params, teacher, **networks)


def _distill(study: StudyContext) -> None:
    recipe, params = study.recipe, study.recipe.distill
    require_memory(study, study.best_teacher.description)
    teacher = study.best_teacher.copy()
    teacher = teacher.variant(corruption=assumed_corruption(teacher.description, params.corruption))
    store = None if study.data_free else study.store
    objective = teacher.objective(store)
    shape = teacher.image_shape if store is None else store.image_shape
    score = None
    if params.selection.every_images is not None:
        score = selection_score(params, study.store, study.extractor, recipe.seed, objective)
    folder = study.out / "student"
    network = dict(teacher.description.network)
    if params.dropout is not None:
        network["dropout"] = params.dropout

    def student(module: nn.Module, images: float, halflife: float) -> Model:
        return teacher.variant(
            module,
            role="generator",
            network=network,
            image_shape=shape,
            sigma_init=params.sigma_init,
            later_sigmas=params.later_sigmas,
            generator_input=params.generator_input,
            provenance=_provenance(study, teacher.description, images, halflife),
        )

    def keep(images: int, halflife: float, module: nn.Module) -> None:
        student(module, images, halflife).save(measured_folder(folder, images, halflife))

    job = DistillJob(
        params,
        teacher.denoiser,
        LOSSES.build(params.loss, objective=objective),
        objective.corruption,
        shape,
        study.fabric,
        recipe.seed,
        score,
        lambda key: Model.random_init(teacher.description, key).denoiser,
        keep if params.selection.keep else None,
        store,
        compiled=compiles(recipe.compile, study.fabric.device, params.images, TRAINED),
    )

    def sampler() -> TeacherSampler | StudentSampler:
        size = params.micro_batch_size
        return student(job.result, job.images, params.halflives[0]).sampler(store, batch=size)

    def chosen(module: nn.Module) -> Model:
        halflife, images = job.averages.chosen
        return student(module, job.images if images is None else images, halflife)

    def snapshot(images: int) -> None:
        study.save_snapshot(folder, chosen(job.result), images, params)

    ended = _driven(job, folder, study, study.log(sampler), snapshot)

    def write() -> None:
        write_json(folder / "selection.json", {**job.averages.described(), "ended": ended})
        chosen(job.averages.last).save(folder / "last")
        best = chosen(job.result)
        shutil.rmtree(folder / DENOISER, ignore_errors=True)  # of a shorter run, or an earlier version
        if job.loss.params.denoising_weight:
            provenance = best.description.provenance
            teacher.variant(job.result, network=network, provenance=provenance).save(folder / DENOISER)
        best.save(study.student_folder)
        remove_snapshots(folder)

    on_rank_zero(write)


def measured_folder(folder: Path, images: float, halflife: float) -> Path:
    """Where ``selection.keep`` puts the average of a half-life after so many images."""
    return folder / "measured" / f"{images:.0f}-{halflife:g}"


def _driven(
    job: DistillJob, folder: Path, study: StudyContext, log: OpenLog | None, snapshot: Snapshot
) -> str:
    """Run the job; why it ended. A diverged one ends early if the metric has chosen a generator before.

    Raises:
        NonFiniteLossError: it diverged before anything was measured.
    """
    try:
        fit(job, folder, study.fabric, "student", log, snapshot)
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

    A section with another ``name``, another operator or mask distribution, replaces that of the teacher.

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
    study: StudyContext, description: ModelDescription, images: float, halflife: float
) -> dict[str, Any]:
    params = study.recipe.distill
    teacher = dict(description.provenance)
    if "snapshot" in teacher:
        teacher["teacher_snapshot"] = teacher.pop("snapshot")
    return {
        **teacher,
        "recipe": study.recipe.name,
        "distilled": LOSSES.pinned(params.loss),
        "distilled_under": params.corruption,
        "ema_halflife": halflife,
        "images": images,
    }
