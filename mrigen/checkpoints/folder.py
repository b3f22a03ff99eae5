"""The model folder: ``model.safetensors`` and ``model.json``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mrigen.checkpoints.description import DESCRIPTION, WEIGHTS, ModelDescription, read_description
from mrigen.checkpoints.weights import load_weights, weights_of, write_weights
from mrigen.errors import UsageError
from mrigen.files import sha256, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mrigen.networks import Preconditioner


def save_model(folder: Path, model: nn.Module, description: ModelDescription) -> ModelDescription:
    """Write a model folder; each file is complete or absent, and the description comes last.

    Returns the final description.

    Args:
        folder: made if it does not exist; other files in it are left alone.
        model: the preconditioned network that ``description`` describes; weights are stored as float32.
        description: its checksum is filled in here.
    """
    return write_model(folder, weights_of(model), description)


def write_model(folder: Path, tensors: dict[str, Tensor], description: ModelDescription) -> ModelDescription:
    """Write a model folder from its tensors; returns the final description."""
    checksum = write_weights(folder / WEIGHTS, tensors)
    final = description.model_copy(update={"weights_sha256": checksum})
    write_json(folder / DESCRIPTION, final.model_dump(mode="json"))
    return final


def build_model(description: ModelDescription) -> Preconditioner:
    """The described model on the meta device, without weights.

    Raises:
        UsageError: the description names an unknown network or an impossible architecture.
    """
    import torch

    from mrigen.networks import NETWORKS, PRECONDITIONERS

    with torch.device("meta"):
        network = NETWORKS.build(description.network)
        model: Preconditioner = PRECONDITIONERS.build(description.preconditioner, network=network)
    conventions = description.conventions
    if (
        network.params.in_channels != conventions.network_channels
        or model.out_channels < conventions.image_channels
    ):
        raise UsageError(
            f"the network has {network.params.in_channels} input and {model.out_channels} output channels, "
            f"which do not fit the conventions ({conventions})"
        )
    return model


def load_network(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[Preconditioner, ModelDescription]:
    """The preconditioned network of a model folder, in evaluation mode, and its description.

    Called as ``network(x, sigma, class_labels=None, augment_labels=None)`` with network channels x
    (B, channels, H, W) and noise levels σ (B,) or a scalar; returns the denoised image as float32.
    On the CPU the weights are views of the mapped file and are read when they are first used.

    Raises:
        UsageError: not a model folder, or a damaged one; a pickle is answered with the command that
            imports it.
    """
    folder = Path(path)
    description = read_description(folder)
    try:
        network = build_model(description)
    except UsageError as error:
        raise UsageError(f"{folder / DESCRIPTION}: {error}") from error
    load_weights(network, folder / WEIGHTS)
    return network.to(device).eval(), description


def verify_model(path: str | Path) -> None:
    """Compare the weights of a model folder with their checksum.

    Raises:
        UsageError: not a model folder, or the weights are not those that were written.
    """
    folder = Path(path)
    description = read_description(folder)
    weights = folder / WEIGHTS
    if not weights.is_file() or sha256(weights) != description.weights_sha256:
        raise UsageError(f"{weights} is missing or damaged (checksum): copy or write the model again")
