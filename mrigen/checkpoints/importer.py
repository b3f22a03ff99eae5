"""From a released checkpoint to a model folder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from mrigen.checkpoints import classes
from mrigen.checkpoints.container import METADATA, read_checkpoint
from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.folder import build_model, write_model
from mrigen.checkpoints.interpret import (
    SID_SIGMA,
    conventions_of,
    corruption_of,
    objective_of,
    recipe_of,
    role_of,
    shape_of,
)
from mrigen.checkpoints.names import GATE, TAPS, Correspondence, constants, correspondences
from mrigen.checkpoints.released import ReleasedCheckpoint, find
from mrigen.checkpoints.stored import StoredTensor
from mrigen.errors import UsageError
from mrigen.files import sha256
from mrigen.networks import Preconditioner
from mrigen.networks.unet import UNet
from mrigen.pickles.plain import MalformedError, printable
from mrigen.registry import describe

OPTIONS = "training_options.json"
MAX_OPTIONS = 1 << 20
TAPS_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Imported:
    """Outcome of an import.

    Attributes:
        description: what was written.
        parameters: number of weights.
        role_reason: why the role is what it is.
        recipe: shipped recipe for the checkpoint's data and corruption, or None.
    """

    description: ModelDescription
    parameters: int
    role_reason: str
    recipe: str | None


def import_checkpoint(
    source: Path,
    out: Path,
    options: Path | None = None,
    *,
    role: Literal["teacher", "generator"] | None = None,
    sigma_init: float = SID_SIGMA,
) -> Imported:
    """Read a released checkpoint, executing nothing of it, and write a model folder.

    Args:
        source: pickle, torch.save or safetensors file of EDM, Ambient Diffusion, Ambient-MRI or SiD, or what
            ``mrigen export --to safetensors`` wrote, which says all of itself.
        out: model folder to write.
        options: the authors' training options; by default ``training_options.json`` beside ``source``.
        role: teacher or generator; by default what the file suggests.
        sigma_init: noise level of a generator.

    Raises:
        UsageError: unknown, damaged or malicious content; names it in one line.
    """
    content = read_checkpoint(source)
    own = _own_description(content)
    if own is not None:
        return _import_own(source, out, content, own, options, role)
    beside = source.parent / OPTIONS
    path = options if options is not None else beside if beside.is_file() else None
    try:
        released = find(content, None if path is None else read_options(path))
        description, reason = _describe(released, source, path, role, sigma_init)
        pairs, taps = _names(build_model(description))
        _match(released.tensors, pairs, taps)
    except (UsageError, MalformedError) as error:
        raise UsageError(f"{source}: {error}") from error
    except ValidationError as error:
        raise UsageError(f"{source}: {describe(error)}") from error
    weights = {pair.ours: _weight(source, pair, released.tensors) for pair in pairs}
    final = write_model(out, weights, description)
    parameters = sum(tensor.numel() for tensor in weights.values())
    return Imported(final, parameters, reason, recipe_of(description.corruption, released.facts))


def _own_description(content: Any) -> str | None:
    """The description that ``mrigen export --to safetensors`` puts into its files."""
    metadata = content.get(METADATA) if isinstance(content, dict) else None
    text = metadata.get("mrigen") if isinstance(metadata, dict) else None
    return text if isinstance(text, str) else None


def _import_own(
    source: Path, out: Path, content: dict[str, Any], text: str, options: Path | None, role: str | None
) -> Imported:
    """A model that was exported from a model folder."""
    if options is not None or role is not None:
        raise UsageError(f"{source}: describes itself: leave out --options and --role")
    try:
        description = ModelDescription(**json.loads(text))
        pairs, taps = _names(build_model(description))
        _match(content["state_dict"], pairs, taps)
    except (UsageError, MalformedError) as error:
        raise UsageError(f"{source}: {error}") from error
    except ValidationError as error:
        raise UsageError(f"{source}: {describe(error)}; export the model again") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{source}: its description is damaged; export the model again") from error
    origin = {
        "classes": [description.preconditioner["name"], description.network["name"]],
        "half_precision": False,
        **description.provenance,
        "format": "export of mrigen",
        "source": source.name,
        "source_sha256": sha256(source),
        "key": "",
    }
    description = description.model_copy(update={"provenance": origin})
    weights = {pair.ours: _weight(source, pair, content["state_dict"]) for pair in pairs}
    final = write_model(out, weights, description)
    parameters = sum(tensor.numel() for tensor in weights.values())
    return Imported(final, parameters, "as its description says", origin.get("recipe"))


def _names(model: Preconditioner) -> tuple[list[Correspondence], dict[str, NDArray[np.float32]]]:
    """How the tensors of a model are called in a file, and the constants that may stand beside them.

    Networks without a released counterpart keep their own names.
    """
    if not isinstance(model.network, UNet):
        own = model.state_dict().items()
        return [Correspondence(name, (name,), tensor.shape) for name, tensor in own], {}
    taps = {name: tensor.numpy() for name, tensor in constants(model).items()}
    return correspondences(model), taps


def read_options(path: Path) -> dict[str, Any]:
    """Training options as EDM's and Ambient's training scripts write them.

    Raises:
        UsageError: missing, or not such a file.
    """
    try:
        if path.stat().st_size > MAX_OPTIONS:
            raise UsageError(f"{path} is too large for training options: give the authors' {OPTIONS}")
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give the authors' {OPTIONS}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid JSON: give the authors' {OPTIONS}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path} holds no training options: give the authors' {OPTIONS}")
    return tree


def _describe(
    released: ReleasedCheckpoint,
    source: Path,
    options: Path | None,
    role: Literal["teacher", "generator"] | None,
    sigma_init: float,
) -> tuple[ModelDescription, str]:
    from mrigen.networks import NETWORKS, PRECONDITIONERS

    network = {"name": classes.NETWORKS[released.network].name, **_layout(released)}
    bounded = {key: value for key, value in released.constants.items() if value != math.inf}
    preconditioner = {"name": classes.PRECONDITIONINGS[released.preconditioning].name, **bounded}
    network |= NETWORKS.params(network).model_dump(mode="json")
    preconditioner |= PRECONDITIONERS.params(preconditioner).model_dump(mode="json")
    conventions = conventions_of(network["in_channels"], released.facts)
    shape = shape_of(network["resolution"], conventions)
    guess, reason = role_of(released, source.name)
    generator = (role or guess) == "generator"
    description = ModelDescription(
        network=network,
        preconditioner=preconditioner,
        conventions=conventions,
        role=role or guess,
        sigma_init=sigma_init if generator else None,
        generator_input=("sampled" if conventions.mask_channels else "full") if generator else None,
        image_shape=shape,
        objective=objective_of(released, conventions, preconditioner.get("sigma_data", 0.5)),
        corruption=corruption_of(conventions, shape, released.facts),
        provenance={
            "format": "module pickle" if released.module else "state dict",
            "source": source.name,
            "source_sha256": sha256(source),
            "key": released.key,
            "classes": [released.preconditioning, released.network],
            "half_precision": released.half_precision,
            "options": None if options is None else options.name,
            "found": released.facts,
        },
    )
    return description, "given with --role" if role else reason


def _layout(released: ReleasedCheckpoint) -> dict[str, Any]:
    """The network's parameters under mrigen's names; whether it is gated, the weights say."""
    layout = {
        "resolution" if key == "img_resolution" else key: value for key, value in released.layout.items()
    }
    layout["gated"] = any(name.endswith(f".{GATE}") for name in released.tensors)
    for key in ("resolution", "in_channels", "out_channels"):
        if key not in layout:
            raise UsageError(f"{released.network} was saved without its {key}")
    return layout


def _match(
    tensors: dict[str, StoredTensor], pairs: list[Correspondence], taps: dict[str, NDArray[np.float32]]
) -> None:
    """Refuse missing, unknown and wrongly shaped tensors, and resampling filters of another network."""
    required = {name for pair in pairs for name in pair.theirs}
    for name in sorted(required - tensors.keys()):
        raise UsageError(f"lacks the weight {name!r} that its architecture needs")
    for name in sorted(tensors.keys() - required - taps.keys()):
        raise UsageError(f"has a weight {printable(name)!r} that its architecture does not know")
    for pair in pairs:
        rows = pair.shape[0] // len(pair.theirs)
        for name in pair.theirs:
            shape = (rows, *pair.shape[1:])
            if tensors[name].shape != shape or not tensors[name].floating:
                raise UsageError(
                    f"has {name!r} of shape {tensors[name].shape}, its architecture says {shape}"
                )
    for name, expected in taps.items():
        if name in tensors:
            stored = tensors[name]
            if stored.shape != expected.shape or abs(stored.read() - expected).max() > TAPS_TOLERANCE:
                raise UsageError(f"has a {TAPS} {name!r} that its architecture does not say")


def _weight(source: Path, pair: Correspondence, tensors: dict[str, StoredTensor]) -> Tensor:
    """One tensor of ours, of one or several of theirs."""
    parts = []
    for name in pair.theirs:
        array = tensors[name].read()
        if not np.isfinite(array).all():
            raise UsageError(
                f"{source}: weight {name!r} is not finite: the training had diverged, take an earlier one"
            )
        parts.append(np.array(array, np.float32))
        tensors[name].release()
    return torch.from_numpy(np.concatenate(parts)).reshape(pair.shape)
