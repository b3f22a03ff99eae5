"""From a recipe's words to networks, objectives and model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mrigen import __version__
from mrigen.checkpoints.description import ModelDescription, read_description
from mrigen.checkpoints.folder import load_denoiser
from mrigen.conventions import Conventions, NetworkDenoiser
from mrigen.data.store import MeasurementStore
from mrigen.diffusion.objectives import OBJECTIVES, Objective
from mrigen.distill import Generator
from mrigen.engine.params import TeacherParams
from mrigen.errors import UsageError
from mrigen.networks import NETWORKS, PRECONDITIONERS, Preconditioner
from mrigen.operators.corruption import Corruption


def describe_teacher(
    params: TeacherParams, store: MeasurementStore, provenance: dict[str, Any]
) -> ModelDescription:
    """Description of the teacher that a recipe and a store make together."""
    shows_mask = OBJECTIVES[params.objective["name"]].shows_mask
    conventions = Conventions(mask_channels=int(shows_mask), ones_channel=shows_mask)
    network = {
        "resolution": store.image_shape[1],
        "in_channels": conventions.network_channels,
        "out_channels": conventions.image_channels,
        **params.network,
    }
    return ModelDescription(
        network={"name": network["name"], **NETWORKS.params(network).model_dump(mode="json")},
        preconditioner={
            "name": params.preconditioning["name"],
            **PRECONDITIONERS.params(params.preconditioning).model_dump(mode="json"),
        },
        conventions=conventions,
        image_shape=store.image_shape,
        objective=params.objective,
        corruption={"mask": store.manifest.mask, "fresh_masks": store.manifest.fresh_masks},
        provenance={"created_by": f"mrigen {__version__}", **provenance},
    )


def new_denoiser(description: ModelDescription, seed: int) -> NetworkDenoiser:
    """The described network with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = NETWORKS.build(description.network)
        model: Preconditioner = PRECONDITIONERS.build(description.preconditioner, network=network)
    return NetworkDenoiser(model.to(memory_format=torch.channels_last), description.conventions)


def corruption_of(description: ModelDescription, store: MeasurementStore) -> Corruption:
    """The corruption that a model was trained under, with the store's coil maps.

    Raises:
        UsageError: the model is not for such data.
    """
    if description.conventions.image != "complex":
        raise UsageError(f"{store.folder}: holds MRI measurements, but the model is for natural images")
    return store.corruption(mask=(description.corruption or {}).get("mask"))


def objective_of(description: ModelDescription, corruption: Corruption, folder: Path) -> Objective:
    """The objective that a model's teacher was trained with, on a corruption.

    Raises:
        UsageError: the model does not say.
    """
    if description.objective is None:
        raise UsageError(f"{folder}: does not say with which objective it was trained; import it again")
    objective: Objective = OBJECTIVES.build(description.objective, corruption=corruption)
    return objective


def load_teacher(folder: Path) -> tuple[NetworkDenoiser, ModelDescription]:
    """A teacher's denoiser and description.

    Raises:
        UsageError: no model folder, or a generator's.
    """
    description = read_description(folder)
    if description.role != "teacher":
        raise UsageError(f"{folder}: is a generator; give the folder of a teacher")
    return load_denoiser(folder), description


def load_generator(folder: Path) -> tuple[Generator, ModelDescription]:
    """A one-step generator and its description.

    Raises:
        UsageError: no model folder, or a teacher's.
    """
    description = read_description(folder)
    if description.role != "generator" or description.sigma_init is None:
        raise UsageError(f"{folder}: is a teacher; give the folder of a generator")
    return Generator(load_denoiser(folder), description.sigma_init).eval(), description
