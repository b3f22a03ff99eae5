"""Tissues of the head: numbers of label maps, relaxation at 3 T, and the contrast that a sequence gives."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mrigen.errors import UsageError
from mrigen.seeds import seeded_rng

VARIATION = 0.08
RANDOM = "random"


@dataclass(frozen=True)
class Tissue:
    """What a sequence sees of a tissue.

    Attributes:
        density: of protons, water is 1.
        t1: longitudinal relaxation time in ms.
        t2: transverse relaxation time in ms.
        spread: standard deviation of the intensity inside the tissue, as a fraction of its mean.
        brain: whether it is a part of the brain, which slices are chosen by.
    """

    density: float
    t1: float
    t2: float
    spread: float = 0.04
    brain: bool = False


TISSUES = {
    "air": Tissue(0.0, 1000, 100, 0.0),
    "white matter": Tissue(0.70, 860, 70, 0.04, brain=True),
    "grey matter": Tissue(0.82, 1450, 95, 0.05, brain=True),
    "thalamus": Tissue(0.77, 1200, 78, 0.04, brain=True),
    "putamen": Tissue(0.80, 1280, 74, 0.04, brain=True),
    "pallidum": Tissue(0.73, 1000, 55, 0.04, brain=True),
    "ventral diencephalon": Tissue(0.74, 1050, 70, 0.04, brain=True),
    "brain-stem": Tissue(0.73, 980, 75, 0.04, brain=True),
    "cerebellar white matter": Tissue(0.71, 900, 70, 0.04, brain=True),
    "cerebellar cortex": Tissue(0.82, 1420, 90, 0.05, brain=True),
    "lesion": Tissue(0.86, 1500, 150, 0.08, brain=True),
    "cerebrospinal fluid": Tissue(1.0, 4000, 1500, 0.03),
    "choroid plexus": Tissue(0.9, 2200, 250, 0.15),
    "perivascular space": Tissue(0.9, 2000, 250, 0.08),
    "artery": Tissue(0.6, 1700, 140, 0.15),
    "vein": Tissue(0.8, 1700, 120, 0.1),
    "eye": Tissue(0.98, 3800, 1200, 0.03),
    "muscle": Tissue(0.8, 1400, 35, 0.08),
    "mucosa": Tissue(0.85, 1300, 80, 0.2),
    "muscle and fat": Tissue(0.85, 950, 50, 0.25),
    "skin": Tissue(0.8, 850, 45, 0.15),
    "nerve": Tissue(0.72, 1000, 75, 0.05),
    "cortical bone": Tissue(0.12, 800, 8, 0.3),
    "marrow": Tissue(0.7, 700, 55, 0.2),
}
"""Typical values at 3 T; what a map does not tell apart, such as fat and muscle, lies between and spreads."""

NUMBERS = {
    "air": [0],
    "white matter": [2, 41, 77, 78, 79, 85, 251, 252, 253, 254, 255, 5001, 5002],
    "grey matter": [3, 42, 11, 50, 17, 53, 18, 54, 26, 58, 80, 81, 82, 19, 55, 20, 56],
    "thalamus": [9, 48, 10, 49],
    "putamen": [12, 51],
    "pallidum": [13, 52],
    "ventral diencephalon": [28, 60],
    "brain-stem": [16],
    "cerebellar white matter": [7, 46],
    "cerebellar cortex": [8, 47],
    "lesion": [25, 57],
    "cerebrospinal fluid": [4, 43, 5, 44, 14, 15, 24, 72, 257],
    "choroid plexus": [31, 63, 136, 163, 137, 164],
    "perivascular space": [30, 62],
    "artery": [502],
    "eye": [506],
    "muscle and fat": [507, 258],
    "muscle": [508],
    "mucosa": [509],
    "skin": [511],
    "nerve": [512, 530],
    "vein": [514],
    "cortical bone": [515, 165],
    "marrow": [516],
}
"""FreeSurfer's numbers, from 502 on those of the CHARM atlas of SimNIBS; left and right are one tissue."""

RANGES = {"grey matter": [(1000, 1035), (2000, 2035), (11100, 12175)],
          "white matter": [(3000, 3035), (4000, 4035)]}  # fmt: skip
"""FreeSurfer's parcels of the cortex and of the white matter below it."""


@dataclass(frozen=True)
class Sequence:
    """A spoiled gradient echo, or with 90° a spin echo.

    Attributes:
        tr: repetition time in ms.
        te: echo time in ms.
        flip: flip angle in degrees.
    """

    tr: float
    te: float
    flip: float

    def signal(self, tissue: Tissue) -> float:
        """ρ sin α (1 − E₁) / (1 − E₁ cos α) exp(−TE / T₂) with E₁ = exp(−TR / T₁)."""
        alpha, recovery = math.radians(self.flip), math.exp(-self.tr / tissue.t1)
        steady = math.sin(alpha) * (1 - recovery) / (1 - recovery * math.cos(alpha))
        return tissue.density * steady * math.exp(-self.te / tissue.t2)


PRIORS = {
    "t1": (Sequence(12, 2, 22), Sequence(25, 6, 34)),
    "t2": (Sequence(3000, 80, 90), Sequence(6000, 120, 90)),
    "pd": (Sequence(2500, 10, 90), Sequence(5000, 25, 90)),
}
"""Contrasts: a sequence is drawn between two for each volume."""

CONTRASTS = (*PRIORS, RANDOM)


def sequence_of(contrast: str, seed: int, volume: int) -> Sequence | None:
    """The sequence of a volume; None for ``random``, which is none."""
    if contrast == RANDOM:
        return None
    low, high = PRIORS[contrast]
    rng = seeded_rng(seed, "paint", volume, "sequence")
    draws = torch.rand(3, generator=rng, dtype=torch.float64).tolist()
    pairs = zip((low.tr, low.te, low.flip), (high.tr, high.te, high.flip), draws, strict=True)
    return Sequence(*(a + (b - a) * u for a, b, u in pairs))


def intensity(tissue: Tissue | None, sequence: Sequence | None, rng: torch.Generator) -> complex:
    """Mean (real part) and standard deviation (imaginary part) of a tissue's intensity in one volume.

    Args:
        tissue: None for one that nothing is known of.
        sequence: tissues have its signal, ±8 %, and an unknown one something up to the brightest known; None
            for a uniform number in [0, 1].
        rng: source of both.
    """
    if tissue is not None and tissue.density == 0:
        return 0j
    if tissue is None or sequence is None:
        brightest = 1.0 if sequence is None else max(map(sequence.signal, TISSUES.values()))
        mean = brightest * float(torch.rand(1, generator=rng))
    else:
        mean = sequence.signal(tissue) * math.exp(VARIATION * float(torch.randn(1, generator=rng)))
    return complex(mean, mean * (tissue or TISSUES["white matter"]).spread)


@dataclass(frozen=True)
class LabelTable:
    """Which tissue each number of a label map is.

    Attributes:
        own: numbers of the user's table; all others are FreeSurfer's and CHARM's.
    """

    own: Mapping[int, str | Tissue]

    def __getitem__(self, number: int) -> str | Tissue | None:
        """Name of one of ``TISSUES``, a tissue of the user's, or None."""
        tissue = self.own.get(number) or KNOWN.get(number)
        if tissue is not None:
            return tissue
        within = (name for name, ranges in RANGES.items() for a, b in ranges if a <= number <= b)
        return next(within, None)


KNOWN = {number: name for name, numbers in NUMBERS.items() for number in numbers}


def read_table(path: Path | None) -> LabelTable:
    """A JSON object from label numbers to tissues, beside the numbers that are known.

    Args:
        path: the file: ``{"17": "grey matter", "99": {"density": 0.8, "t1": 1200, "t2": 80}}``, with names
            of ``TISSUES``; ``t1`` and ``t2`` in ms, ``spread`` may be added. None for no such file.

    Raises:
        UsageError: no such file, or not of this form.
    """
    if path is None:
        return LabelTable({})
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"--labels {path}: no such file; give a table as .json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--labels {path}: not valid JSON ({error}); give a table of labels") from error
    if not isinstance(tree, dict):
        raise UsageError(f'--labels {path}: not an object; write {{"17": "grey matter", ...}}')
    return LabelTable(dict(_entry(path, number, value) for number, value in tree.items()))


def _entry(path: Path, number: str, value: Any) -> tuple[int, str | Tissue]:
    try:
        label = int(number)
    except ValueError as error:
        raise UsageError(
            f'--labels {path}: {number!r} is no label number; write {{"17": "grey matter", ...}}'
        ) from error
    if isinstance(value, str):
        if value not in TISSUES:
            raise UsageError(
                f"--labels {path}: label {label}: unknown tissue {value!r}; choose from {', '.join(TISSUES)}"
            )
        return label, value
    names, known = {"density", "t1", "t2"}, isinstance(value, dict)
    numbers = known and all(isinstance(v, int | float) and math.isfinite(v) for v in value.values())
    good = numbers and names <= set(value) <= {*names, "spread"} and all(v >= 0 for v in value.values())
    if not good or 0 in (value["t1"], value["t2"]):
        raise UsageError(
            f"--labels {path}: label {label}: give the name of a tissue, or density, t1 and t2 (and spread) "
            "as numbers, times in ms"
        )
    return label, Tissue(**value)
