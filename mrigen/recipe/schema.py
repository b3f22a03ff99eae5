"""The schema of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from mrigen.engine.params import Count, DistillParams, SamplerSpec, TeacherParams
from mrigen.metrics.features import R64
from mrigen.registry import Params


def _preparation(value: dict[str, Any]) -> dict[str, Any]:
    from mrigen.data_prep.options import Options

    Options(**value)
    return value


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
        anatomy: own head instead of the bundled one.
    """

    volumes: Count = 10
    slices: Count = 16
    matrix: tuple[Count, Count] = (128, 128)
    coils: Count = 4
    snr: Annotated[float, Field(gt=0)] = 50.0
    seed: int = 0
    slice_range: tuple[float, float] | None = None
    slice_thickness: Annotated[float, Field(gt=0)] = 3.0
    anatomy: Path | None = None


class DataParams(Params):
    """Where the measurements come from; ``--data`` on the command line replaces all of it.

    Attributes:
        simulate: simulated volumes; None to start from files.
        source: files or folders of raw data, when nothing is simulated.
        prep: options of ``mrigen prep-fastmri``, with underscores.
        store: a finished measurement store; nothing is prepared then.
        reference: its reference folder, for evaluation; None to look beside the store.
    """

    simulate: SimulateParams | None = None
    source: list[Path] = []
    prep: Annotated[dict[str, Any], AfterValidator(_preparation)] = {}
    store: Path | None = None
    reference: Path | None = None


class EvaluateParams(SamplerSpec):
    """Comparison of observations, teacher and student with held-out references.

    Attributes:
        samples: images of each kind.
        features: feature extractor of the Fréchet distance.
        split: part of the reference folder to compare with.
    """

    samples: Count = 1000
    features: str = R64
    split: str = "test"


class Recipe(Params):
    """A study from raw data to a one-step generator and its evaluation.

    Attributes:
        name: the recipe's name; also the name of its folder under ``runs``.
        title: one line.
        seed: key of all randomness.
        precision: Lightning Fabric's precision of the networks; physics stays in complex64.
        data: raw data and their preparation.
        teacher: training of the teacher.
        distill: distillation.
        evaluate: evaluation.
        next: what to try next, printed at the end.
    """

    name: str
    title: str = ""
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    data: DataParams = DataParams()
    teacher: TeacherParams
    distill: DistillParams
    evaluate: Annotated[EvaluateParams, Field(default_factory=EvaluateParams)]
    next: list[str] = []
