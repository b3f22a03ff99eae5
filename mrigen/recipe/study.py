"""A recipe's stages in a run folder: prepare, train, distil, evaluate."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from mrigen.checkpoints.description import read_description
from mrigen.checkpoints.folder import save_model
from mrigen.data.manifest import NAME as MANIFEST
from mrigen.data.stores import Store, open_store
from mrigen.diffusion.denoiser import NetworkDenoiser
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.engine import build
from mrigen.engine.launch import Spread, open_device
from mrigen.engine.logs import OpenLog
from mrigen.engine.loop import drive
from mrigen.engine.processes import alone, first
from mrigen.engine.sampling import TeacherSampler
from mrigen.engine.teacher import TeacherJob
from mrigen.errors import UsageError
from mrigen.files import write_text
from mrigen.metrics.features import AnyExtractor, extractors
from mrigen.recipe.loggers import NewSampler, open_loggers, require
from mrigen.recipe.prepare import prepare
from mrigen.recipe.schema import Recipe
from mrigen.recipe.stages import Stage

if TYPE_CHECKING:
    from lightning_fabric import Fabric

RECIPE = "recipe.yaml"


class Study:
    """The stages of a recipe; each needs the ones before it and skips what is finished.

    Args:
        recipe: the checked recipe.
        out: run folder.
        console: where progress is told.
        device: ``auto``, ``cpu``, ``cuda`` ...
        teacher: folder of a given teacher, instead of training one.
        reference: folder of references for evaluation, instead of the one beside the store.
        strategy: how several processes train one network, ``ddp`` or ``fsdp``.
        loggers: names of ``mrigen.recipe.loggers.KINDS``, to which trainings log beside ``log.jsonl``.

    Raises:
        UsageError: a logger is unknown, or its package not installed.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        console: Console,
        device: str = "auto",
        teacher: Path | None = None,
        reference: Path | None = None,
        strategy: Spread = "ddp",
        *,
        loggers: Sequence[str] = (),
    ) -> None:
        require(loggers)
        self._loggers = loggers
        self.recipe, self.out, self.console = recipe, out, console
        self._device, self._strategy = device, strategy
        self._given_teacher = teacher
        self._given_store = recipe.data.store
        self._given_reference = reference if reference is not None else recipe.data.reference

    @cached_property
    def fabric(self) -> Fabric:
        """Lightning Fabric on the chosen device; several processes meet when it is first asked for."""
        return open_device(self._device, self.recipe.precision, self._strategy)

    @property
    def store_folder(self) -> Path:
        """Where the measurement store is."""
        return self._given_store if self._given_store is not None else self.out / "store"

    @property
    def reference_folder(self) -> Path:
        """Where the references are: given, or beside the store."""
        if self._given_reference is not None:
            return self._given_reference
        return self.store_folder.with_name(f"{self.store_folder.name}-reference")

    @property
    def teacher_folder(self) -> Path:
        """Where the teacher's model folder is."""
        return self._given_teacher if self._given_teacher is not None else self.out / "teacher" / "model"

    @property
    def student_folder(self) -> Path:
        """Where the student's model folder is."""
        return self.out / "student" / "model"

    @cached_property
    def store(self) -> Store:
        """The training part of the measurement store."""
        return open_store(self.store_folder)

    @cached_property
    def data_free(self) -> bool:
        """Whether distillation needs no measurement at all.

        A given teacher of natural images knows shape and corruption; MRI takes coil maps and masks from a
        store, and the selection metric compares with one.
        """
        if self._given_teacher is None or self._given_store is not None:
            return False
        kind = read_description(self._given_teacher).conventions.image
        return kind == "real" and self.recipe.distill.selection.every_images is None

    @cached_property
    def extractors(self) -> dict[str, AnyExtractor]:
        """The feature spaces of Fréchet distances by their names, on the chosen device."""
        wanted = self.recipe.evaluate
        found = extractors(wanted.features, wanted.weights)
        return {name: each.to(self.fabric.device) for name, each in found.items()}

    @property
    def extractor(self) -> AnyExtractor:
        """The first of them, of the headline and of the selection metric."""
        return next(iter(self.extractors.values()))

    def _data_settings(self) -> dict[str, Any]:
        if self.data_free:
            return {}
        if self._given_store is None:
            return self.recipe.data.model_dump(mode="json")
        manifest = self._given_store / MANIFEST
        if not manifest.is_file():
            raise UsageError(
                f"{self._given_store}: no {MANIFEST} here; give a folder written by mrigen prep-fastmri "
                "or prep-images"
            )
        return {"manifest": hashlib.sha256(manifest.read_bytes()).hexdigest()}

    def _write_recipe(self) -> None:
        """Write the resolved recipe into the run folder."""
        tree = self.recipe.model_dump(mode="json", exclude={"name"})
        write_text(self.out / RECIPE, yaml.safe_dump(tree, sort_keys=False))

    def _run(self, stage: Stage, action: Callable[[], None]) -> None:
        """Run a stage; a run folder that a mistake left without any stage is removed again."""

        def begin() -> None:
            alone(self._write_recipe)
            action()

        self.fabric  # noqa: B018
        try:
            stage.run(begin, self.console)
        except UsageError:
            if first() and self.out.is_dir() and [path.name for path in self.out.iterdir()] == [RECIPE]:
                shutil.rmtree(self.out)
            raise

    def prepare(self) -> None:
        """Simulate and prepare the data, unless a store was given; of several processes the first does it."""
        if self._given_store is None:
            stage = Stage("data", self.out / "data", {"data": self._data_settings()})
            data = self.recipe.data
            self._run(stage, lambda: alone(lambda: prepare(data, self.out, self.store_folder, self.console)))

    def _teacher_stage(self) -> Stage:
        settings = {
            "data": self._data_settings(),
            "teacher": self.recipe.teacher.model_dump(mode="json"),
            "seed": self.recipe.seed,
            "precision": self.recipe.precision,
        }
        return Stage("teacher", self.out / "teacher", settings)

    def _student_stage(self) -> Stage:
        settings = {
            "data": self._data_settings(),
            "teacher": self.fingerprint("teacher"),
            "distill": self.recipe.distill.model_dump(mode="json"),
            "seed": self.recipe.seed,
            "precision": self.recipe.precision,
        }
        return Stage("student", self.out / "student", settings)

    def log(self, sampler: NewSampler) -> OpenLog | None:
        """The chosen loggers, with images of a sampler."""
        return open_loggers(self._loggers, sampler) if self._loggers else None

    def fingerprint(self, name: str) -> str:
        """Checksum of the weights of ``teacher`` or ``student``."""
        folder = self.teacher_folder if name == "teacher" else self.student_folder
        return read_description(folder).weights_sha256

    def train(self) -> None:
        """Train the teacher, unless one was given."""
        if self._given_teacher is None:
            self._run(self._teacher_stage(), self._train)

    def _train(self) -> None:
        recipe = self.recipe
        provenance = {"recipe": recipe.name, "seed": recipe.seed}
        description = build.describe_teacher(recipe.teacher, self.store, provenance)
        denoiser = build.new_denoiser(description, recipe.seed)
        objective = build.objective_of(description, self.store.corruption(), self.teacher_folder)
        if objective.shows_mask and objective.corruption.baseline:
            self.console.print(f"teacher: {objective.corruption.baseline}", highlight=False)
        job = TeacherJob(
            recipe.teacher,
            denoiser,
            objective,
            self.store,
            self.fabric,
            recipe.seed,
            compiled=recipe.compile,
        )
        size = recipe.teacher.batch // recipe.teacher.micro_batches

        def sampler() -> TeacherSampler:
            average = NetworkDenoiser(job.result, description.conventions)
            reverse = SAMPLERS.build(recipe.evaluate.sampler)
            corruption = self.store.corruption()
            return TeacherSampler(average, objective, corruption, reverse, self.store.image_shape, size)

        drive(job, self.out / "teacher", self.fabric, "teacher", self.log(sampler))
        alone(lambda: save_model(self.teacher_folder, job.result, description))

    def distill(self) -> None:
        """Distil the teacher into a generator of one or a few steps; ``data_free`` ones need no data."""
        from mrigen.recipe.distillation import distill

        self._run(self._student_stage(), lambda: distill(self))

    def evaluate(self) -> dict[str, Any]:
        """Compare observations, teacher and student with the references; figure and summary.json."""
        from mrigen.recipe.evaluation import evaluate

        self.fabric  # noqa: B018
        alone(self._write_recipe)
        return evaluate(self)

    def run(self) -> dict[str, Any]:
        """All stages in order."""
        self.prepare()
        self.train()
        self.distill()
        return self.evaluate()
