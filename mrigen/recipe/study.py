"""A recipe's stages in a run folder: prepare, train, distil, evaluate."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from mrigen.checkpoints.snapshots import find_model
from mrigen.engine.processes import on_rank_zero
from mrigen.engine.states import saved_images
from mrigen.errors import UsageError
from mrigen.files import locked, scratch
from mrigen.recipe.context import StudyContext
from mrigen.recipe.distillation import distill, require_memory, student_stage
from mrigen.recipe.evaluation import evaluate, require_references
from mrigen.recipe.laps import check_laps, run_laps
from mrigen.recipe.page import NAME as REPORT
from mrigen.recipe.prepare import prepare
from mrigen.recipe.stages import Stage
from mrigen.recipe.training import describe, teacher_stage, train

Redo = Literal["teacher", "laps", "distill", "evaluate"]
"""A stage that is made anew."""


class Study(StudyContext):
    """The stages of a recipe; each needs the ones before it and skips what is finished."""

    def prepare(self) -> None:
        """Simulate and prepare the data, unless a store was given; of several processes the first does it."""
        if self.external_store is None:
            stage = Stage("data", self.out / "data", {"data": self.data_settings()})
            data = self.recipe.data
            self.run_stage(
                stage, lambda: on_rank_zero(lambda: prepare(data, self.out, self.store_folder, self.console))
            )

    def discard(self, stage: Redo) -> None:
        """Delete the results of a stage and of those that build on it, and say so before (``--redo``).

        A stage that is not finished and was begun with these settings stays: it is being made anew.

        Raises:
            UsageError: the teacher was given, another mrigen is writing there, or what is made anew does
                not fit into memory; nothing is deleted then.
        """
        if stage == "teacher" and self.external_teacher is not None:
            raise UsageError("--redo teacher: the teacher is given; leave out --redo or --teacher")
        self.fabric  # noqa: B018
        if stage == "teacher":
            require_memory(self, describe(self))
        elif stage == "distill" and find_model(self.teacher_folder).is_dir():
            require_memory(self, self.best_teacher.description)
        on_rank_zero(lambda: self._discard(stage))
        for name in ("teacher", "laps", "best_teacher"):  # opened to compare settings, and made anew perhaps
            self.__dict__.pop(name, None)

    def _discard(self, stage: Redo) -> None:
        training = {"teacher": self._teacher_stage, "distill": self._student_stage}.get(stage, lambda: None)()
        if training is not None and training.is_started:
            self.console.print(f"{training.name}: not finished yet, continued", highlight=False, markup=False)
            return
        gone = [*self.out.glob("summary*.json"), *self.out.glob("figure*.png"), *self.out.glob(REPORT)]
        gone += [path for path in (self.out / "samples").glob("*") if stage != "distill" or _of_student(path)]
        trainings = {
            "teacher": [*self._used(), self.out / "teacher"],
            "laps": self._used(),
            "distill": [self.out / "student"],
            "evaluate": [],
        }[stage]
        gone += [folder for folder in trainings if folder.is_dir()]
        if gone:
            names = ", ".join(f"{path.relative_to(self.out)}{_trained(path)}" for path in reversed(gone))
            line = f"--redo {stage}: deletes {names} in {self.out}"
            self.console.print(line, highlight=False, markup=False)
        for path in gone:
            with locked(path) if path in trainings else nullcontext(), scratch(path) as temporary:
                path.replace(temporary / path.name)

    def _teacher_stage(self) -> Stage | None:
        return teacher_stage(self) if self.external_teacher is None else None

    def _student_stage(self) -> Stage | None:
        """The student's stage with the teacher as it is; None if that is not finished."""
        teacher = self._teacher_stage()
        return student_stage(self) if teacher is None or teacher.status == "finished" else None

    def _used(self) -> list[Path]:
        """Folders of what was made with the teacher: the student, then the laps."""
        return [self.out / "student", *sorted(self.out.glob("lap-*"), reverse=True)]

    def require_unused_teacher(self, *, student: bool = True) -> None:
        """Refuse to train a teacher on from which others were made, before anything is trained.

        Args:
            student: a student is among the others; it may stay where none is distilled.

        Raises:
            UsageError: says how to make them again.
        """
        stage = self._teacher_stage()
        if stage is None or stage.status != "unfinished":
            return
        for folder in self._used()[0 if student else 1 :]:
            if saved_images(folder) is not None:
                redo = "distill" if folder.name == "student" else "laps"
                raise UsageError(
                    f"{folder}: was made with the teacher as it is, and training that on makes it another: "
                    f"add --redo {redo} to discard what was made, or choose another --out"
                )

    def train(self) -> None:
        """Train the teacher and its laps, unless a teacher was given."""
        check_laps(self)
        train(self)
        run_laps(self)

    def distill(self) -> None:
        """Distil the teacher into a generator of one or a few steps; ``data_free`` ones need no data."""
        distill(self)

    def evaluate(self) -> dict[str, Any]:
        """Compare observations, teacher and student with the references; figure and summary.json."""
        self.fabric  # noqa: B018
        on_rank_zero(self.write_recipe)
        return evaluate(self)

    def run(self, redo: Redo | None = None) -> dict[str, Any]:
        """All stages in order; whether the last one is possible is known before the first network learns.

        Args:
            redo: a stage to make anew, see ``discard``.

        Raises:
            UsageError: the data have nothing to evaluate with.
        """
        self.prepare()
        require_references(self)
        if redo is not None:
            self.discard(redo)
        self.require_unused_teacher()
        self.train()
        self.distill()
        return self.evaluate()


def _of_student(samples: Path) -> bool:
    """Whether a folder of samples, or what is left of an interrupted one, is the student's."""
    return samples.name.partition(".")[0] == "student"


def _trained(folder: Path) -> str:
    """Words for what a training's folder holds."""
    images = saved_images(folder) if folder.is_dir() else None
    return "" if images is None else f" (trained on {images:,} images)"
