"""The description that belongs to every model: what is needed to rebuild it and to know what it is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from mrigen.channels import ChannelLayout
from mrigen.errors import UsageError
from mrigen.registry import Params, describe

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
MAX_DESCRIPTION = 1 << 20
MAX_PIXELS = 1 << 26
CHECKPOINTS = {".pkl", ".pt", ".pth", ".pickle", ".bin", ".ckpt", ".safetensors"}

Size = Annotated[int, Field(ge=1, le=65536)]
Level = Annotated[float, Field(gt=0)]


class ModelDescription(Params):
    """Complete description of a model folder.

    Attributes:
        schema_version: version of this format.
        network: architecture, as a recipe writes it, resolution and channels included.
        preconditioner: preconditioning, as a recipe writes it.
        conventions: meaning of the channels.
        role: ``teacher`` (a denoiser) or ``generator`` (one step, or a few, from noise to image).
        sigma_init: noise level at which a generator's network is called.
        later_sigmas: noise levels of a generator's steps after the first; none for a one-step generator.
        generator_input: ``full`` shows a generator its whole latent, ``sampled`` masks it as the
            teacher's input is masked.
        image_shape: (C, H, W) of an image; one channel for complex MRI.
        objective: training objective of a teacher (of a generator's teacher), if known.
        corruption: corruption of the training data, as training assumed it; None for clean data.
        provenance: where the weights come from.
        weights_sha256: checksum of the weights file.
    """

    schema_version: Literal[1] = 1
    network: dict[str, Any]
    preconditioner: dict[str, Any]
    conventions: ChannelLayout
    role: Literal["teacher", "generator"] = "teacher"
    sigma_init: Level | None = None
    later_sigmas: tuple[Level, ...] = ()
    generator_input: Literal["full", "sampled"] | None = None
    image_shape: tuple[Size, Size, Size]
    objective: dict[str, Any] | None = None
    corruption: dict[str, Any] | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)
    weights_sha256: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        generator = self.role == "generator"
        if generator != (self.sigma_init is not None) or generator != (self.generator_input is not None):
            raise ValueError("sigma_init and generator_input belong to generators, and generators need both")
        if self.later_sigmas and not generator:
            raise ValueError("later_sigmas belong to generators")
        if self.image_shape[1] * self.image_shape[2] > MAX_PIXELS:
            raise ValueError(
                f"images of {self.image_shape[1:]} are more than {MAX_PIXELS >> 20} million pixels"
            )
        channels = self.image_shape[0] * (2 if self.conventions.image == "complex" else 1)
        if channels != self.conventions.image_channels:
            raise ValueError(
                f"images of {self.image_shape[0]} {self.conventions.image} channels are not "
                f"{self.conventions.image_channels} network channels"
            )
        return self


def read_description(folder: str | Path) -> ModelDescription:
    """Description of a model folder.

    Raises:
        UsageError: not a model folder, or one with a damaged description; says what to do.
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix.lower() in CHECKPOINTS:
        raise UsageError(
            f"{folder} is a checkpoint, not a model folder: run "
            f"mrigen import-checkpoint {folder} {folder.with_suffix('')} and give {folder.with_suffix('')}"
        )
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UsageError(
            f"{folder} is not a model folder (no {DESCRIPTION}): give what mrigen train, distill or "
            "import-checkpoint wrote"
        )
    try:
        if path.stat().st_size > MAX_DESCRIPTION:
            raise UsageError(f"{path} is too large for a description: write the model again")
        tree = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise UsageError(f"{path} is not a model description: write the model again")
        return ModelDescription(**tree)
    except ValidationError as error:
        raise UsageError(f"{path}: {describe(error)}; write the model again") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read ({reason}): write the model again") from error
