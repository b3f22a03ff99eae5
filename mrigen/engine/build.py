"""From a recipe's words to networks, objectives and model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mrigen import __version__
from mrigen.checkpoints.description import ModelDescription, read_description
from mrigen.checkpoints.folder import load_denoiser
from mrigen.conventions import Conventions, NetworkDenoiser
from mrigen.data.image_store import described_corruption
from mrigen.data.stores import Store
from mrigen.diffusion.augment import LABELS
from mrigen.diffusion.objectives import OBJECTIVES, Objective
from mrigen.distill import Generator
from mrigen.engine.params import TeacherParams
from mrigen.errors import UsageError
from mrigen.networks import NETWORKS, PRECONDITIONERS, Preconditioner
from mrigen.operators.corruption import Corruption
from mrigen.seeds import generator


def describe_teacher(params: TeacherParams, store: Store, provenance: dict[str, Any]) -> ModelDescription:
    """Description of the teacher that a recipe and a store make together."""
    conventions = conventions_of(store, params.objective)
    network = {
        "resolution": store.image_shape[1],
        "in_channels": conventions.network_channels,
        "out_channels": conventions.image_channels,
        "label_dim": store.classes,
        "augment_dim": LABELS if params.augment else 0,
        **params.network,
    }
    return ModelDescription(
        network=NETWORKS.freeze(network),
        preconditioner=PRECONDITIONERS.freeze(params.preconditioning),
        conventions=conventions,
        image_shape=store.image_shape,
        objective=OBJECTIVES.pinned(params.objective),
        corruption=store.described(),
        provenance={"created_by": f"mrigen {__version__}", **provenance},
    )


def conventions_of(store: Store, objective: dict[str, Any]) -> Conventions:
    """What a network sees of the images of a store.

    Args:
        store: complex images become two channels and, with the mask, a channel of ones as in the
            released Ambient-MRI models; real images keep their channels.
        objective: as a recipe writes it; says whether the denoiser is given Ã, and by which form.
    """
    shows_mask, planes = OBJECTIVES[objective["name"]].shows_mask, 0
    if shows_mask:
        shown = store.corruption().draw(1, generator(0, "conventions")).conditioning()
        planes = 0 if shown is None else shown.shape[1]
    return Conventions(
        image="complex" if store.complex_valued else "real",
        image_channels=store.image_shape[0] * (2 if store.complex_valued else 1),
        mask_channels=planes,
        ones_channel=store.complex_valued and shows_mask,
        pseudo_inverse=getattr(OBJECTIVES.params(objective), "pseudo_inverse", None),
    )


def new_denoiser(description: ModelDescription, seed: int) -> NetworkDenoiser:
    """The described network with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = NETWORKS.build(description.network)
        model: Preconditioner = PRECONDITIONERS.build(description.preconditioner, network=network)
    return NetworkDenoiser(model.to(memory_format=torch.channels_last), description.conventions)


def corruption_of(description: ModelDescription, store: Store | None, folder: Path) -> Corruption:
    """The corruption that a model was trained under.

    Args:
        description: of the model.
        store: where operators take what is measured with the data, such as coil maps; models of
            natural images do without.
        folder: of the model, for messages.

    Raises:
        UsageError: the model is not for such data, or needs a store.
    """
    complex_valued = description.conventions.image == "complex"
    if store is None:
        if complex_valued:
            raise UsageError(f"{folder}: this model sees its noise through coil maps; give --maps STORE")
        return described_corruption(description.corruption, description.image_shape)
    if complex_valued != store.complex_valued:
        kind = "MRI" if complex_valued else "natural images"
        raise UsageError(f"{store.folder}: holds other data than {kind}, which {folder} is for")
    return store.corruption(described=description.corruption)


def objective_of(description: ModelDescription, corruption: Corruption, folder: Path) -> Objective:
    """The objective that a model's teacher was trained with, on a corruption.

    Weights of errors go with the form of the network, which models of others and of earlier versions say by
    leaving ``pseudo_inverse`` out of their conventions.

    Raises:
        UsageError: the model does not say.
    """
    if description.objective is None:
        raise UsageError(f"{folder}: does not say with which objective it was trained; import it again")
    spec = dict(description.objective)
    if OBJECTIVES[spec["name"]].shows_mask:
        spec["pseudo_inverse"] = description.conventions.model_dump()["pseudo_inverse"]
    objective: Objective = OBJECTIVES.build(spec, corruption=corruption)
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


def load_generator(folder: str | Path) -> tuple[Generator, ModelDescription]:
    """A generator of one or a few steps, and its description.

    Raises:
        UsageError: no model folder, or a teacher's.
    """
    description = read_description(folder)
    if description.role != "generator" or description.sigma_init is None:
        raise UsageError(f"{folder}: is a teacher; give the folder of a generator")
    denoiser = load_denoiser(folder)
    return Generator(denoiser, description.sigma_init, description.later_sigmas).eval(), description
