"""What the stages of a study share: the recipe, the run folder, and what lies in it, opened once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from mrigen import ranks
from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.snapshots import save_snapshot
from mrigen.data.manifest import NAME as MANIFEST
from mrigen.data.mixed_store import MixedStore
from mrigen.data.stores import Store, open_store
from mrigen.engine.footprint import Footprint, free_memory, require_memory
from mrigen.engine.launch import Spread, open_device
from mrigen.engine.logs import OpenLog
from mrigen.engine.params import RunParams
from mrigen.engine.processes import is_rank_zero, on_rank_zero
from mrigen.errors import UsageError
from mrigen.files import sha256, write_text
from mrigen.metrics.features import AnyExtractor, extractors
from mrigen.model import Model
from mrigen.recipe.loggers import NewSampler, open_loggers, require
from mrigen.recipe.schema import Recipe
from mrigen.recipe.stages import Stage

if TYPE_CHECKING:
    from lightning_fabric import Fabric

RECIPE = "recipe.yaml"
SELECTION = "selection.json"


class StudyContext:
    """The recipe, the run folder and everything in it, opened when a stage first asks for it.

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
        self.external_teacher = teacher
        self.external_stores = recipe.data.stores
        self.external_store = self.external_stores[0].path if self.external_stores else None
        self._external_reference = reference if reference is not None else recipe.data.reference

    @cached_property
    def fabric(self) -> Fabric:
        """Lightning Fabric on the chosen device; several processes meet when it is first asked for."""
        return open_device(
            self._device, self.recipe.precision, self._strategy, deterministic=self.recipe.deterministic
        )

    @property
    def store_folder(self) -> Path:
        """Where the measurement store is."""
        return self.external_store if self.external_store is not None else self.out / "store"

    @property
    def reference_folder(self) -> Path:
        """Where the references are: given, or beside the store."""
        if self._external_reference is not None:
            return self._external_reference
        return self.store_folder.with_name(f"{self.store_folder.name}-reference")

    @property
    def teacher_folder(self) -> Path:
        """Where the teacher's model folder is."""
        return self.external_teacher if self.external_teacher is not None else self.out / "teacher" / "model"

    @property
    def student_folder(self) -> Path:
        """Where the student's model folder is."""
        return self.out / "student" / "model"

    @cached_property
    def store(self) -> Store:
        """The training part of the measurement store."""
        parts = self.external_stores
        if len(parts) < 2 and not any(part.usable_from for part in parts):
            return open_store(self.store_folder)
        return MixedStore([open_store(part.path) for part in parts], [part.usable_from for part in parts])

    @cached_property
    def initial_model(self) -> Model | None:
        """The model that the teacher's training starts from; None for random weights.

        Raises:
            UsageError: no model folder, or a generator.
        """
        folder = self.recipe.teacher.init
        return None if folder is None else Model.load(folder, role="teacher")

    @cached_property
    def teacher(self) -> Model:
        """The trained or given teacher."""
        return Model.load(self.teacher_folder, role="teacher")

    def lap_folder(self, number: int) -> Path:
        """Where a lap's restored images, states and model are; laps count from 1."""
        return self.out / f"lap-{number}"

    @cached_property
    def laps(self) -> dict[str, Model]:
        """The teachers of the finished laps by the names of their folders, in order."""
        count = 0 if self.recipe.laps is None or self.external_teacher is not None else self.recipe.laps.count
        folders = [self.lap_folder(number + 1) for number in range(count)]
        done = takewhile(lambda folder: (folder / SELECTION).is_file(), folders)
        return {folder.name: Model.load(folder / "model", role="teacher") for folder in done}

    @cached_property
    def best_teacher(self) -> Model:
        """What is distilled: the teacher, or that of the lap whose proximal distance is least."""
        return self.laps[self.best_lap] if self.laps else self.teacher

    @property
    def best_lap(self) -> str:
        """Name of the folder of the finished lap whose proximal distance is least."""
        return min(self.laps, key=self.lap_distance)

    @property
    def best_teacher_folder(self) -> Path:
        """Where the model folder of what is distilled is."""
        return self.out / self.best_lap / "model" if self.laps else self.teacher_folder

    def lap_distance(self, name: str) -> float:
        """Proximal distance of the teacher of a finished lap, the selection metric."""
        record = (self.out / name / SELECTION).read_text(encoding="utf-8")
        return float(json.loads(record)["proximal"])

    @cached_property
    def student(self) -> Model:
        """The distilled generator."""
        return Model.load(self.student_folder, role="generator")

    @cached_property
    def data_free(self) -> bool:
        """Whether distillation needs no measurement at all.

        A given teacher of natural images knows shape and corruption; MRI takes coil maps and masks from a
        store, and the selection metric compares with one.
        """
        if self.external_teacher is None or self.external_store is not None:
            return False
        return not self.teacher.complex_valued and self.recipe.distill.selection.every_images is None

    @cached_property
    def extractors(self) -> dict[str, AnyExtractor]:
        """The feature spaces of Fréchet distances by their names, on the chosen device."""
        evaluation = self.recipe.evaluate
        networks = extractors(evaluation.features, evaluation.weights)
        return {name: each.to(self.fabric.device) for name, each in networks.items()}

    @property
    def extractor(self) -> AnyExtractor:
        """The first of them, of the headline and of the selection metric."""
        return next(iter(self.extractors.values()))

    def data_settings(self) -> dict[str, Any]:
        """What decides the data, for the records of stages: not the references of the evaluation.

        Raises:
            UsageError: the given store is none.
        """
        if self.data_free:
            return {}
        if self.external_store is None:
            return {**self.recipe.data.model_dump(mode="json"), "reference": None}
        digests = []
        for folder in [part.path for part in self.external_stores]:
            if not (folder / MANIFEST).is_file():
                raise UsageError(
                    f"{folder}: no {MANIFEST} here; give a folder written by mrigen prep-fastmri or "
                    "prep-images"
                )
            digests.append(sha256(folder / MANIFEST))
        levels = [part.usable_from for part in self.external_stores]
        if digests[1:] or any(levels):
            return {"manifests": digests, "usable_from": levels}
        return {"manifest": digests[0]}

    def write_recipe(self) -> None:
        """Write the resolved recipe into the run folder."""
        tree = self.recipe.model_dump(mode="json", exclude={"name"})
        write_text(self.out / RECIPE, yaml.safe_dump(tree, sort_keys=False))

    def run_stage(self, stage: Stage, action: Callable[[], None]) -> None:
        """Run a stage; a run folder that a mistake left without any stage is removed again."""

        def begin() -> None:
            on_rank_zero(self.write_recipe)
            action()

        self.fabric  # noqa: B018
        try:
            stage.run(begin, self.console)
        except UsageError:
            if (
                is_rank_zero()
                and self.out.is_dir()
                and [path.name for path in self.out.iterdir()] == [RECIPE]
            ):
                shutil.rmtree(self.out)
            raise

    def require_memory(
        self, section: str, params: RunParams, model: ModelDescription, trained: int, frozen: int
    ) -> None:
        """Refuse a training that certainly does not fit into memory; see ``mrigen.engine.footprint``.

        Args:
            section: of the recipe, for messages.
            params: batch and micro-batch.
            model: whose network is trained.
            trained: number of networks that are trained.
            frozen: number of networks beside them, averages included.

        Raises:
            UsageError: says what to lower.
        """
        sharded = ranks.world_size() if self._strategy == "fsdp" else 1
        height, width = model.image_shape[1:]
        needed = Footprint.of(model, height, width)
        free = free_memory(self.fabric.device)
        require_memory(section, params, needed, free, trained=trained, frozen=frozen, sharded=sharded)

    def save_snapshot(self, stage: Path, model: Model, images: int, params: RunParams) -> Model:
        """Write the model of a stage that is not finished, beside its state after so many images."""
        reached = {"images": images, "of": params.images}
        model = model.variant(provenance={**model.description.provenance, "snapshot": reached})
        save_snapshot(stage, images, model.save, params.keep)
        return model

    def log(self, sampler: NewSampler) -> OpenLog | None:
        """The chosen loggers, with images of a sampler."""
        return open_loggers(self._loggers, sampler) if self._loggers else None
