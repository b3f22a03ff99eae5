"""From a model folder to a prior for images of a given size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mrigen.checkpoints.description import ModelDescription, read_description
from mrigen.data.image_store import described_corruption
from mrigen.diffusion.denoiser import Denoiser
from mrigen.diffusion.objectives import Objective
from mrigen.engine import build
from mrigen.errors import UsageError
from mrigen.inverse import GeneratorPrior, Prior, TeacherPrior
from mrigen.inverse.prior import FurtherMasks, frozen
from mrigen.inverse.tiling import TiledDenoiser
from mrigen.networks.recompute import recomputed
from mrigen.operators import MultiCoilMRI
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption
from mrigen.operators.noise import parse_noise

Shape = tuple[int, int, int]
LARGE = 128 * 128  # pixels from which on gradients keep little and compute the rest again


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is ready for images of one size.

    Attributes:
        prior: teacher or generator.
        description: of the model.
        folder: where it is.
        notes: what the user should know, one line each.
    """

    prior: Prior
    description: ModelDescription
    folder: Path
    notes: list[str]


@dataclass(frozen=True, eq=False)
class OneSlice:
    """A bank (``MapBank``) with the coils of a single measurement, all of whose lines can be measured."""

    operator: MultiCoilMRI

    def __len__(self) -> int:
        return 1

    def bank(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps, masks and acquired lines, repeated."""
        count, width = len(indices), self.operator.maps.shape[-1]
        acquired = torch.ones(count, width, dtype=torch.bool)
        maps, mask = self.operator.maps, self.operator.mask
        return maps.expand(count, -1, -1, -1), mask.expand(count, -1, -1, -1), acquired


def load_prior(
    folder: Path, shape: Shape, *, complex_valued: bool, device: torch.device, differentiated: bool = False
) -> Model:
    """A model as a prior of images.

    Args:
        folder: model folder.
        shape: (C, H, W) of the images to reconstruct.
        complex_valued: whether they are complex.
        device: where it works.
        differentiated: whether gradients of a teacher are wanted; those of a generator always are.

    Raises:
        UsageError: no model folder, or a model of another kind or size of images.
    """
    description = read_description(folder)
    kind = description.conventions.image
    if (kind == "complex") != complex_valued:
        raise UsageError(
            f"{folder}: a model of {kind} images cannot be the prior of "
            f"{'complex' if complex_valued else 'real'} ones; give a model of such data"
        )
    objective = _objective(description, folder)
    masks = FurtherMasks(objective, lambda operator: _corruption(description, operator))
    if description.role == "generator":
        _require_same_size(description, shape, folder)
        generator = build.load_generator(folder)[0].to(device)
        frozen(generator)
        _spare(generator, description)
        sampled = masks if description.generator_input == "sampled" else None
        return Model(GeneratorPrior(generator, sampled, len(generator.sigmas)), description, folder, [])
    teacher = build.load_teacher(folder)[0].to(device)
    frozen(teacher)
    if differentiated:
        _spare(teacher, description)
    denoiser: Denoiser = teacher
    notes = _notes(description, objective)
    if shape != description.image_shape:
        if objective.shows_mask:
            raise UsageError(
                f"{folder}: was trained behind masks on whole images of {_size(description.image_shape)}, "
                f"and the scan's are {_size(shape)}: a tile has no mask and another scale, and what came of "
                "it would be stripes; train on this size, or tile a teacher with objective standard"
            )
        denoiser = _tiled(denoiser, description, shape, folder)
        notes.append(
            f"the model's images of {_size(description.image_shape)} tile the scan's {_size(shape)}: it was "
            "trained on whole images of its own size, so that tiles show it another scale"
        )
    prior = TeacherPrior(denoiser, objective, lambda operator: _corruption(description, operator))
    return Model(prior, description, folder, notes)


def _spare(network: nn.Module, description: ModelDescription) -> None:
    """Save memory of gradients where images are large."""
    _, height, width = description.image_shape
    if height * width >= LARGE:
        recomputed(network)


def _objective(description: ModelDescription, folder: Path) -> Objective:
    """The teacher's objective; its corruption is that of a single uniform coil where coils matter."""
    _, height, width = description.image_shape
    uniform = MultiCoilMRI(
        torch.ones(1, 1, height, width, dtype=torch.complex64), torch.ones(1, 1, 1, width, dtype=torch.bool)
    )
    return build.objective_of(description, _corruption(description, uniform), folder)


def _corruption(description: ModelDescription, operator: Operator) -> Corruption:
    """p(A) of the training, with the coils of ``operator``."""
    described = description.corruption
    if isinstance(operator, MultiCoilMRI) and described is not None and "mask" in described:
        law = MASKS.build(described["mask"])
        scanner = parse_noise(described["sigma"]) if "sigma" in described else None
        fresh = bool(described.get("fresh_masks", True))
        return MRICorruption(OneSlice(operator), law, fresh=fresh, scanner=scanner)
    return described_corruption(described, description.image_shape)


def _notes(description: ModelDescription, objective: Objective) -> list[str]:
    operator = (description.corruption or {}).get("operator")
    name = operator.get("name") if isinstance(operator, dict) else operator
    if objective.shows_mask or name in {None, "identity", "multicoil-mri"}:
        return []
    return [
        f"this teacher models what {name} leaves of images, not clean images: its one-step generator does"
    ]


def _require_same_size(description: ModelDescription, shape: Shape, folder: Path) -> None:
    if shape != description.image_shape:
        raise UsageError(
            f"{folder}: makes images of {_size(description.image_shape)}, but the scan's are {_size(shape)}, "
            "and a generator has one size: train on this size, crop the scan with --crop, or tile a teacher"
        )


def _tiled(denoiser: Denoiser, description: ModelDescription, shape: Shape, folder: Path) -> Denoiser:
    (channels, *size), (own_channels, height, width) = shape, description.image_shape
    if channels != own_channels or size[0] < height or size[1] < width:
        raise UsageError(
            f"{folder}: was trained on images of {_size(description.image_shape)}, and the scan's are "
            f"{_size(shape)}: they cannot be tiled with larger ones; train on this size"
        )
    return TiledDenoiser(denoiser, (height, width))


def _size(shape: Shape) -> str:
    channels, height, width = shape
    return f"{height}x{width}" if channels == 1 else f"{channels}x{height}x{width}"
