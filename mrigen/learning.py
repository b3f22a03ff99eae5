"""Training of a teacher and its distillation as functions: a store and a few settings in, a model out.

They are the stages of a recipe, with the same states, records and logs, and continue like these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from rich.console import Console

from mrigen import ranks
from mrigen.checkpoints.snapshots import DENOISER
from mrigen.data.manifest import NAME as MANIFEST
from mrigen.data.mixed_store import MixedStore
from mrigen.data.stores import Store, Stores, as_store
from mrigen.data.tensor_store import TensorStore
from mrigen.engine.logs import Log, OpenLog
from mrigen.engine.params import RunParams
from mrigen.engine.precision import Compile
from mrigen.errors import UsageError
from mrigen.files import sha256
from mrigen.model import Model
from mrigen.recipe import distillation, training
from mrigen.recipe.context import StudyContext
from mrigen.recipe.loggers import NewSampler
from mrigen.recipe.schema import Recipe
from mrigen.registry import describe

OnStep = Callable[[dict[str, float]], None]
OnSnapshot = Callable[[int, Model], None]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Spec = str | Mapping[str, Any]
LOOKED_AT = 16  # slices whose brightness is measured
SCALES = (0.01, 100.0)  # brightness that noise levels from 0.002 to 80 can serve


def train(
    store: Stores,
    *,
    images: int,
    objective: Spec = "ambient",
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "32-true",
    compiled: Compile | None = None,
    deterministic: bool = False,
    loggers: Sequence[str] = (),
    on_step: OnStep | None = None,
    on_snapshot: OnSnapshot | None = None,
    **params: Any,
) -> Model:
    """A diffusion teacher of clean images, trained on measurements alone.

    Args:
        store: measurements with their operators: a ``TensorStore``, an open store, the folder of one, or a
            list of these (``MixedStore``).
        images: length of the training in images; the last batch is a whole one.
        objective: name (``mrigen list objectives``), ``"mine.py:Objective"``, or a recipe's mapping.
        out: run folder; its ``teacher`` holds states, ``log.jsonl`` and the model. The same call continues an
            interrupted training, and returns the model of a finished one. None keeps nothing.
        seed: key of all randomness.
        device: ``auto``, ``cpu``, ``cuda`` ...
        precision: of the network.
        compiled: compile the network with torch.compile; by default in long runs on one GPU.
        deterministic: a GPU trains to the same bits every time, more slowly; it stays so in this process.
        loggers: ``tensorboard``, ``csv``, ``wandb``, ``mlflow``; they need ``out``.
        on_step: called with ``images`` so far and the losses: after every step on a CPU, about once a second
            on a GPU, in the first process.
        on_snapshot: called with the images so far and the model as it is then, after every saved state (every
            ``snapshot_images`` and at the end), in the first process; ``copy`` what you keep of a training
            in memory.
        params: others of a recipe's section ``teacher``: ``batch``, ``network`` (a name, or a mapping with
            parameters), ``optimizer``, ``ema_halflife`` ...

    Returns:
        The model with averaged weights.

    Raises:
        UsageError: a parameter that is unknown or does not fit, an objective that is not for such data, or a
            folder with a training of other settings.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=3)
        >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask)
        >>> teacher = mg.train(store, images=4, batch=2, network={"name": "mlp", "hidden": 8}, device="cpu")
        >>> teacher.role, teacher.description.provenance["seed"]
        ('teacher', 0)
    """
    common = {"seed": seed, "precision": precision, "compile": compiled, "deterministic": deterministic}
    spec = {"name": objective} if isinstance(objective, str) else dict(objective)
    if isinstance(params.get("network"), str):
        params["network"] = {"name": params["network"]}
    settings = {"images": images, "objective": spec, **params}
    data = as_store(store)
    _require_scale(data)
    recipe = _recipe("train", settings, {"images": 1}, **common)
    with _run_folder(out, loggers) as folder:
        context = _Context(recipe, folder, device, data, None, loggers, on_step, on_snapshot)
        training.train(context)
        return _detached(context.teacher, out)


def _require_scale(store: Store | None) -> None:
    """Refuse tensors whose images are far from 1; the commands that prepare data scale them."""
    if not isinstance(store, TensorStore):
        return
    data = store.measurements(list(range(min(len(store), LOOKED_AT))))
    level = float(data.operator.as_image(data.y).abs().flatten().quantile(0.99))
    if level and not SCALES[0] <= level <= SCALES[1]:
        raise UsageError(
            f"train: images of this store reach {level:.2g} (99th percentile), and teachers are trained on "
            f"images of about 1; divide y and sigma of the TensorStore by {level:.2g}"
        )


def distill(
    teacher: Model | str | Path,
    store: Stores | None = None,
    *,
    images: int,
    loss: Spec = "sid",
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "32-true",
    compiled: Compile | None = None,
    deterministic: bool = False,
    loggers: Sequence[str] = (),
    on_step: OnStep | None = None,
    on_snapshot: OnSnapshot | None = None,
    **params: Any,
) -> Model:
    """A generator of one step, or of a few, from a teacher, under the teacher's corruption.

    Args:
        teacher: the teacher, or its model folder; it does not change.
        store: coil maps, masks and the selection metric come from it; a teacher of natural images needs none
            where nothing is selected.
        images: length of the distillation in generated images.
        loss: name (``mrigen list losses``), ``"mine.py:Loss"``, or a recipe's mapping.
        out: run folder; its ``student`` holds states, ``log.jsonl``, the selection's history and the models,
            with ``denoising_weight`` of the loss the generator's network as a teacher too, ``denoiser``.
            The same call continues an interrupted distillation, and returns the model of a finished one. None
            keeps nothing.
        seed: key of all randomness.
        device: ``auto``, ``cpu``, ``cuda`` ...
        precision: of the networks.
        compiled: compile the networks with torch.compile; by default in long runs on one GPU.
        deterministic: a GPU trains to the same bits every time, more slowly; it stays so in this process.
        loggers: ``tensorboard``, ``csv``, ``wandb``, ``mlflow``; they need ``out``.
        on_step: called with ``images`` so far, the losses and the selection metric, as by ``train``.
        on_snapshot: as by ``train``, with the generator that would be kept.
        params: others of a recipe's section ``distill``: ``batch``, ``generator`` and ``fake`` (optimisers),
            ``steps``, ``selection={"every_images": 10_000}`` ...

    Returns:
        The generator: the best by the selection metric where there is one, otherwise the last.

    Raises:
        UsageError: a parameter that is unknown or does not fit, a generator instead of a teacher, a store of
            other data, a folder with a distillation of other settings, or ``denoising_weight`` without one.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=3)
        >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask)
        >>> teacher = mg.train(store, images=4, batch=2, network={"name": "mlp", "hidden": 8}, device="cpu")
        >>> student = mg.distill(teacher, store, images=4, batch=2, device="cpu")
        >>> student.sample(3, seed=0).shape
        torch.Size([3, 1, 12, 9])
    """
    common = {"seed": seed, "precision": precision, "compile": compiled, "deterministic": deterministic}
    spec = {"name": loss} if isinstance(loss, str) else dict(loss)
    if spec.get("denoising_weight") and out is None:
        raise UsageError(f"distill: denoising_weight leaves a teacher in out/student/{DENOISER}: give out")
    settings = {"images": images, "loss": spec, **params}
    model = Model.load(teacher) if isinstance(teacher, str | Path) else teacher
    data = as_store(store)
    recipe = _recipe("distill", {"images": 1}, settings, **common)
    with _run_folder(out, loggers) as folder:
        network = model.require("teacher")
        context = _Context(recipe, folder, device, data, network, loggers, on_step, on_snapshot)
        distillation.distill(context)
        return _detached(context.student, out)


class _Context(StudyContext):
    """A study whose store and teacher are given as objects, and which is silent."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        device: str,
        store: Store | None,
        teacher: Model | None,
        loggers: Sequence[str],
        on_step: OnStep | None,
        on_snapshot: OnSnapshot | None,
    ) -> None:
        super().__init__(recipe, out, Console(quiet=True), device, loggers=loggers)
        self._data, self._on_step, self._on_snapshot = store, on_step, on_snapshot
        if store is not None:
            self.store = store
        if teacher is not None:
            self.teacher = teacher
        self.data_free = store is None

    def data_settings(self) -> dict[str, Any]:
        """Checksum of the measurements, or of the manifest of their store."""
        store = self._data
        if store is None:
            if self.teacher.complex_valued:
                raise UsageError("distill: a teacher of MRI takes coil maps and masks from a store; give one")
            if self.recipe.distill.selection.every_images is not None:
                raise UsageError("distill: the selection metric compares with measurements; give a store")
            return {}
        return _identity(store)

    def write_recipe(self) -> None:
        """There is none: ``stage.json`` says what was done."""

    def save_snapshot(self, stage: Path, model: Model, images: int, params: RunParams) -> Model:
        """As of a study; the caller's function gets the model too."""
        saved = super().save_snapshot(stage, model, images, params)
        if self._on_snapshot is not None:
            self._on_snapshot(images, saved)
        return saved

    def log(self, sampler: NewSampler) -> OpenLog | None:
        """The chosen loggers, and the caller's function."""
        on_step, chosen = self._on_step, super().log(sampler)
        if on_step is None:
            return chosen

        @contextmanager
        def opened(folder: Path, images: int) -> Iterator[Log]:
            with nullcontext(Log()) if chosen is None else chosen(folder, images) as log:
                yield _CallbackLog(log, on_step)

        return opened


class _CallbackLog(Log):
    """A log that calls a function with the numbers of every step."""

    def __init__(self, log: Log, on_step: OnStep) -> None:
        self._log, self._on_step = log, on_step

    def step(self, images: int, logs: dict[str, float]) -> None:
        self._log.step(images, logs)
        self._on_step({"images": images, **logs})

    def snapshot(self, images: int) -> None:
        self._log.snapshot(images)


def _identity(store: Store) -> dict[str, Any]:
    """Checksums of a store's measurements."""
    if isinstance(store, MixedStore):
        return {"stores": [_identity(part) for part in store.stores], "usable_from": store.usable_from}
    if isinstance(store, TensorStore):
        return {"tensors": store.fingerprint}
    return {"manifest": sha256(store.folder / MANIFEST)}


def _recipe(name: str, teacher: dict[str, Any], distill: dict[str, Any], **more: Any) -> Recipe:
    """Settings, checked.

    Raises:
        UsageError: one is unknown or does not fit.
    """
    try:
        return Recipe(**{"name": f"mrigen.{name}", "teacher": teacher, "distill": distill, **more})
    except ValidationError as error:
        raise UsageError(f"{name}: {describe(error)}") from error


@contextmanager
def _run_folder(out: str | Path | None, loggers: Sequence[str]) -> Iterator[Path]:
    """The given folder, or one that lasts as long as the training."""
    if out is not None:
        yield Path(out)
        return
    if loggers or ranks.world_size() > 1:
        raise UsageError("loggers, and several processes, need a run folder: give out=")
    with tempfile.TemporaryDirectory(prefix="mrigen-") as folder:
        yield Path(folder)


def _detached(model: Model, out: str | Path | None) -> Model:
    """The model of a run folder, or one that does not need it."""
    return model if out is not None else Model(model.description, model.copy().denoiser)
