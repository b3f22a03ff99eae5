"""What a released checkpoint's channels mean, and which corruption, objective and role it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mrigen.channels import ChannelLayout
from mrigen.checkpoints.released import GENERATOR_KEYS, ReleasedCheckpoint

MRI_DATASET = "NumpyFolderDataset"
MRI_WIDTH = 320  # the released MRI code cuts everything to this many columns
MRI_ACS = 20
RGB = 3
PUBLISHED_TEACHERS = ("edm-", "baseline-")
SID_SIGMA = 2.5
BRAIN_RECIPES = (2, 4, 6, 8)
# Data sets by how their archives are called, and the missing rates that have a recipe.
IMAGE_RECIPES = {
    "celeba": ("celeba", (60, 80, 90), "-s0"),
    "cifar": ("cifar10", (20, 40, 60, 80), ""),
    "afhq": ("afhqv2", (20, 40, 60, 80, 90), ""),
}


def is_mri(facts: Mapping[str, Any]) -> bool:
    """Whether the training data were complex MRI slices of the Ambient-MRI code.

    Its option ``corruption_probability`` is the acceleration R, at least 1, where Ambient Diffusion
    for photographs has a probability.
    """
    return facts.get("dataset") == MRI_DATASET or _number(facts, "corruption_probability") >= 1


def conventions_of(channels: int, facts: Mapping[str, Any]) -> ChannelLayout:
    """Meaning of the input channels.

    Ambient-MRI: real, imaginary, further mask, ones. Ambient Diffusion: image, then the further mask
    once or per channel (6 = 3 + 3, 4 = 3 + 1). EDM and SiD: the image.
    """
    ambient = 0 < _number(facts, "corruption_probability") < 1 or str(facts.get("loss", "")).startswith(
        "Ambient"
    )
    if is_mri(facts) or (channels == 2 and not ambient):
        rest = channels - 2
        return ChannelLayout(
            image="complex", image_channels=2, mask_channels=min(rest, 1), ones_channel=rest == 2
        )
    image = channels
    if ambient and channels not in {1, RGB}:
        image = RGB if channels > RGB else 1
    return ChannelLayout(
        image="real", image_channels=image, mask_channels=channels - image, ones_channel=False
    )


def shape_of(resolution: int, conventions: ChannelLayout) -> tuple[int, int, int]:
    """(C, H, W) of the images that the released model is used with."""
    if conventions.image == "complex":
        return 1, resolution, min(resolution, MRI_WIDTH)
    return conventions.image_channels, resolution, resolution


def corruption_of(
    conventions: ChannelLayout, shape: tuple[int, int, int], facts: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Corruption of the training data, or None for clean data.

    The further acceleration of Ambient-MRI is called ``delta_probability``; R + 1 is what mrigen's
    masks drop by default.
    """
    level, further = _number(facts, "corruption_probability"), _number(facts, "delta_probability")
    if conventions.image == "complex":
        if level <= 1:
            return None
        mask: dict[str, Any] = {"name": "exact-random", "acceleration": level, "acs_lines": MRI_ACS}
        if further not in {0, level + 1}:
            lines = int(shape[2] // level)
            mask["further_drop"] = (
                max(1, lines - int(lines * level / further)) if further > level else int(further)
            )
        return {"operator": "multicoil-mri", "mask": mask, "sigma": 0.0}
    if level <= 0:
        return None
    return {
        "operator": "inpainting",
        "pattern": str(facts.get("corruption_pattern", "dust")),
        "missing": level,
        "further_missing": further,
        "per_channel": not facts.get("mask_full_rgb", False),
        "sigma": 0.0,
    }


def objective_of(
    released: ReleasedCheckpoint, conventions: ChannelLayout, sigma_data: float
) -> dict[str, Any] | None:
    """Training objective as a recipe writes it, or None where the loss is none that mrigen has."""
    loss = str(released.facts.get("loss", ""))
    known = {"": "ambient" if conventions.mask_channels else "standard"}
    known |= dict.fromkeys(("AmbientLoss", "AmbientVPLoss"), "ambient")
    known |= dict.fromkeys(("EDMLoss", "VPLoss", "VELoss"), "standard")
    if loss not in known:
        return None
    objective: dict[str, Any] = {"name": known[loss], "sigma_data": sigma_data}
    if {"P_mean", "P_std"} <= released.facts.keys():
        objective["noise"] = {"p_mean": released.facts["P_mean"], "p_std": released.facts["P_std"]}
    return objective


def role_of(released: ReleasedCheckpoint, file_name: str) -> tuple[Literal["teacher", "generator"], str]:
    """Role, and why.

    SiD stores its generator as a pickled ``ema`` and nothing beside it, where EDM's training script
    also stores loss and data set.
    """
    if released.key in GENERATOR_KEYS:
        return "generator", f"the weights are stored as {released.key}"
    if str(released.facts.get("loss", "")).upper().startswith("SID"):
        return "generator", "trained with a SiD loss"
    average_only = released.module and released.keys == ("ema",)
    if average_only and not file_name.startswith(PUBLISHED_TEACHERS):
        return "generator", "a module alone, as SiD stores it; --role teacher if it is not"
    return "teacher", "a denoiser; --role generator if it makes images in one step"


def recipe_of(corruption: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> str | None:
    """The shipped recipe for a checkpoint's data and corruption, or None."""
    if corruption is None:
        return None
    if corruption["operator"] == "multicoil-mri":
        acceleration = corruption["mask"]["acceleration"]
        return f"fastmri/brain-r{int(acceleration)}" if acceleration in BRAIN_RECIPES else None
    path = str(facts.get("path", "")).lower()
    for word, (name, rates, suffix) in IMAGE_RECIPES.items():
        missing = round(100 * corruption["missing"])
        if word in path and missing in rates:
            return f"{name}/inpaint-p{missing}{suffix}"
    return None


def _number(facts: Mapping[str, Any], key: str) -> float:
    value = facts.get(key, 0)
    return float(value) if isinstance(value, int | float) else 0.0
