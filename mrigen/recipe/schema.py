"""The schema of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from mrigen.data.manifest import NAME as MANIFEST
from mrigen.diffusion.schedules import LogNormal
from mrigen.engine.params import (
    Count,
    DistillParams,
    OptimizerParams,
    SamplerChoice,
    SamplerSpec,
    SolverSpec,
    TeacherParams,
)
from mrigen.engine.precision import Compile
from mrigen.metrics.features import DEFAULT, key_of
from mrigen.prep.images.options import ImageOptions
from mrigen.prep.simulate.heads import Heads
from mrigen.registry import Params

T = TypeVar("T")
Contrast = Literal["t1", "t2", "pd", "random"]


def _preparation(value: dict[str, Any]) -> dict[str, Any]:
    from mrigen.prep.kspace.options import Options

    Options(**value)
    return value


def _several(value: T | list[T] | None) -> tuple[T, ...]:
    return () if value is None else tuple(value) if isinstance(value, list) else (value,)


def _names(value: object) -> object:
    """Feature spaces by their short names; a single one needs no list."""
    names = [value] if isinstance(value, str) else value
    return [key_of(n) if isinstance(n, str) else n for n in names] if isinstance(names, list) else names


class SimulateParams(Params):
    """Options of ``mrigen simulate``, by their names there with underscores.

    Attributes:
        volumes: their number.
        slices: axial slices per volume.
        matrix: readout samples and phase-encode lines.
        coils: receive coils.
        snr: of the coil images.
        seed: key of the volumes.
        slice_range: part of the head's height that the slices cover.
        slice_thickness: in mm.
        anatomy: own heads instead of the bundled one, files and folders.
        heads: which of their files, such as ``1-14``.
        labels: table of labels that the package does not know.
        contrast: what label maps are painted as, one or several.
    """

    volumes: Count = 10
    slices: Count = 16
    matrix: tuple[Count, Count] = (128, 128)
    coils: Count = 4
    snr: Annotated[float, Field(gt=0)] = 50.0
    seed: int = 0
    slice_range: tuple[float, float] | None = None
    slice_thickness: Annotated[float, Field(gt=0)] = 3.0
    anatomy: Path | list[Path] | None = None
    heads: str | None = None
    labels: Path | None = None
    contrast: Contrast | list[Contrast] | None = None

    @property
    def chosen(self) -> Heads:
        """The heads of the simulation."""
        contrasts = self.contrast if isinstance(self.contrast, list) else [self.contrast or "t1"]
        chosen = () if self.contrast is None else tuple(contrasts)
        return Heads(_several(self.anatomy), self.heads, self.labels, chosen)


class ImagesParams(ImageOptions):
    """Options of ``mrigen prep-images``, with underscores.

    Attributes:
        source: what that command takes as SRC; None where the user has to say.
    """

    source: str | None = None

    @property
    def options(self) -> ImageOptions:
        """The options alone."""
        return ImageOptions(**self.model_dump(exclude={"source"}))


class StoreParams(Params):
    """A store among others.

    Attributes:
        path: its folder.
        usable_from: noise level from which on its images are as good as those of the first store, although
            they are of another contrast, sharpness or kind; 0 for images that are wanted as they are.
    """

    path: Path
    usable_from: Annotated[float, Field(ge=0)] = 0.0


def _part(value: object) -> object:
    return {"path": value} if isinstance(value, str | Path) else value


class DataParams(Params):
    """Where the measurements come from; ``--data`` on the command line replaces source or store.

    Attributes:
        images: natural images and how they are corrupted; None for MRI.
        simulate: simulated volumes; None to start from files.
        source: files or folders of raw MRI data, when nothing is simulated.
        prep: options of ``mrigen prep-fastmri``, with underscores.
        store: a finished measurement store; nothing is prepared then. Several are one training set of images
            of different quality: a list of folders, or of mappings with ``path`` and ``usable_from``; the
            first is that of the data which are wanted.
        reference: its reference folder, for evaluation; None to look beside the store.
    """

    images: ImagesParams | None = None
    simulate: SimulateParams | None = None
    source: list[Path] = []
    prep: Annotated[dict[str, Any], AfterValidator(_preparation)] = {}
    store: Path | list[Annotated[StoreParams, BeforeValidator(_part)]] | None = None
    reference: Path | None = None

    @property
    def stores(self) -> list[StoreParams]:
        """The finished stores; none where data are prepared."""
        if self.store is None:
            return []
        return self.store if isinstance(self.store, list) else [StoreParams(path=self.store)]

    @model_validator(mode="after")
    def _one_kind(self) -> DataParams:
        if self.images is not None and (self.simulate is not None or self.source or self.prep):
            raise ValueError("images and MRI data (simulate, source, prep) do not go together")
        return self

    def of_source(self, source: Path) -> DataParams:
        """The same with other data: a finished store, or what the recipe prepares one from."""
        if (source / MANIFEST).is_file():
            return self.model_copy(update={"store": source})
        if self.images is not None:
            images = self.images.model_copy(update={"source": str(source)})
            return self.model_copy(update={"images": images, "store": None})
        return self.model_copy(update={"source": [source], "simulate": None, "store": None})


class LapsParams(Params):
    """Expectation-maximisation after the teacher (EM-Diffusion, Bai et al. 2024).

    A lap restores the training data with the teacher of the lap before and trains that teacher further on
    the restored images, as if they had been measured whole. The first one starts from what an ambient teacher
    is good at, its estimate E[x | y] of each image; later ones draw posterior samples, as
    expectation-maximisation does, unless ``solver`` says otherwise. Laps end early when the selection metric
    of one is no better than that of the one before; the best is distilled. A number of laps on its own,
    ``laps: 2``, stands for ``{count: 2}``.

    Attributes:
        count: number of laps at most.
        images: training images of each; in a recipe by default the teacher's.
        batch: images per optimiser step; None for the teacher's.
        micro_batch: images per forward pass, which divide ``batch``; None for the teacher's.
        noise: distribution of training noise levels.
        usable_from: noise level from which on restored images count as true ones; below it a lap learns from
            those alone that were measured whole, which the data need to have some of. None to learn from all
            of them at all levels.
        unmeasured_weight: weight of a restored image's squared errors in what was not measured of it, of
            which those in what was measured have 1 (objective ``reconstructed``); None for the same weight
            everywhere, which is expectation-maximisation.
        optimizer: of each; None for the teacher's.
        ema_halflife: half-life of the weight average, in images, at most 5 % of those so far (EDM); in a
            recipe by default the teacher's.
        first: solver of the first lap, in a recipe's words; None for ``ambient-one-step`` where the teacher
            is told masks, and for ``solver`` elsewhere.
        solver: solver of the other laps: a posterior sampler, or, where ``unmeasured_weight`` is small, one
            whose estimates are sharp and have a dark background, such as ``pnp``. What an estimate lacks of
            the variance of a draw is missing from the law that is learnt in as far as it counts.
        samples: generated images of the selection metric.
    """

    count: Count = 1
    images: Count
    batch: Count | None = None
    micro_batch: Count | None = None
    noise: LogNormal = LogNormal()
    usable_from: Annotated[float, Field(gt=0)] | None = None
    unmeasured_weight: Annotated[float, Field(ge=0, le=1)] | None = None
    optimizer: OptimizerParams | None = None
    ema_halflife: Annotated[float, Field(gt=0)]
    first: SolverSpec | None = None
    solver: SolverSpec = {"name": "mmps", "steps": 20}
    samples: Count = 500

    @model_validator(mode="after")
    def _one_rule(self) -> LapsParams:
        if self.usable_from is not None and self.unmeasured_weight is not None:
            raise ValueError("usable_from and unmeasured_weight exclude each other; leave one of them out")
        return self


def _laps(value: object, info: ValidationInfo) -> object:
    """A number of laps as a section; each as long as the teacher's training where it does not say."""
    laps = {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(laps, dict):
        return laps
    teacher = info.data.get("teacher")
    if teacher is None:  # refused already, and one fault is enough
        return {"images": 1, "ema_halflife": 1.0, **laps}
    return {"images": teacher.images, "ema_halflife": teacher.ema_halflife, **laps}


class EvaluateParams(SamplerSpec):
    """Comparison of observations, teacher and student with held-out references.

    Attributes:
        samples: images of each kind.
        features: feature spaces of the Fréchet distances, one or several; the first is that of the number
            ``fd`` and of the selection metric, and another one, say r64, of ``fd_r64``.
        weights: file of published weights, for ``inception``, ``dinov2`` or ``vgg16``; None to take those
            that were downloaded before.
        split: part of the reference folder to compare with.
        samplers: the teacher once more by other samplers; ``{full: ...}`` is the row ``teacher-full``.
        lap_sampler: sampler of teachers after laps, also where laps are compared; None for ``sampler``.
        stops: noise levels at which the trajectories of ``sampler`` are also stopped, with the denoiser's
            estimate there. The row ``teacher-stopped`` is the one of them whose images, corrupted again, are
            closest to the training data (the selection metric: no reference decides); ``summary.json`` has
            all of them.
        radius: for data so small that distances between images mean something, points of the plane: also
            measure the mean distance from the references, and the fraction of the references that are
            within this radius of a sample; None for neither.
    """

    samples: Count = 1000
    features: Annotated[list[str], BeforeValidator(_names), Field(min_length=1)] = list(DEFAULT)
    weights: Path | None = None
    split: str = "test"
    samplers: dict[Annotated[str, Field(pattern="^[a-z0-9-]+$")], SamplerChoice] = {}
    lap_sampler: SamplerChoice | None = None
    stops: list[Annotated[float, Field(gt=0)]] = [0.05, 0.2, 0.5]
    radius: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _own_rows(self) -> EvaluateParams:
        if "stopped" in self.samplers and self.stops:
            raise ValueError("samplers: teacher-stopped is the row of stops; choose another name")
        return self

    @property
    def teachers(self) -> dict[str, dict[str, Any]]:
        """All samplers of the teacher, by the names of their rows."""
        return {"teacher": self.sampler, **{f"teacher-{name}": spec for name, spec in self.samplers.items()}}

    @property
    def of_laps(self) -> dict[str, Any]:
        """The sampler of the teachers after laps."""
        spec: dict[str, Any] = self.sampler if self.lap_sampler is None else self.lap_sampler
        return spec


class Recipe(Params):
    """A study from raw data to a one-step generator and its evaluation.

    Attributes:
        name: the recipe's name; also the name of its folder under ``runs``.
        title: one line.
        seed: key of all randomness.
        precision: Lightning Fabric's precision of the networks; physics stays in complex64. ``bf16-mixed``
            is for GPUs and for processors with AVX512-BF16 or AMX; others emulate it slowly.
        compile: compile the networks with torch.compile while they are trained; the first steps take
            minutes. Results differ by rounding. By default in long runs on one GPU.
            ``graphs`` replays a network's kernels at once (CUDA graphs), which is faster for small networks.
        deterministic: a GPU trains to the same bits every time, more slowly: no kernel is chosen by
            measuring, none adds in an order that changes. On a processor that is so anyway.
        data: raw data and their preparation.
        teacher: training of the teacher.
        laps: further training of the teacher on what it restores, a section or a number of laps; None for
            none.
        distill: distillation.
        evaluate: evaluation.
        next: what to try next, printed at the end with the run folder for the word RUN.
    """

    name: str
    title: str = ""
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: Compile | None = None
    deterministic: bool = False
    data: DataParams = DataParams()
    teacher: TeacherParams
    laps: Annotated[LapsParams | None, BeforeValidator(_laps)] = None
    distill: DistillParams
    evaluate: Annotated[EvaluateParams, Field(default_factory=EvaluateParams)]
    next: list[str] = []
