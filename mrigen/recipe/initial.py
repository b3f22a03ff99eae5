"""Fine-tuning: a teacher whose training starts from the weights of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.weights import weights_of
from mrigen.data.stores import Store
from mrigen.diffusion.augment import LABELS
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.engine.params import TeacherParams
from mrigen.engine.teacher import describe_teacher
from mrigen.errors import UsageError
from mrigen.inverse.tiling import size_text
from mrigen.model import Model
from mrigen.networks import NETWORKS, PRECONDITIONERS

FREE = ("dropout", "label_dropout")
"""Parameters of a network that decide none of its weights' shapes and nothing of its estimates."""


def describe_fine_tuned(
    start: Model, params: TeacherParams, store: Store, provenance: Mapping[str, Any]
) -> ModelDescription:
    """Description of a teacher that starts from another one.

    Network and preconditioning are the model's, dropout the recipe's. A model that sees whole images gets
    channels for the masks of an objective that shows them; one that knows masks keeps its channels, which
    say that all is seen where the objective shows none.

    Args:
        start: the model that the training starts from.
        params: the recipe's teacher section.
        store: training data.
        provenance: of the new teacher.

    Raises:
        UsageError: the model is of other images, or the recipe asks for another network, preconditioning or
            form than its own.
    """
    before = start.description
    network = _agreed(start, "network", params.network, before.network)
    preconditioning = _agreed(start, "preconditioning", params.preconditioning, before.preconditioner)
    if start.image_shape != store.image_shape or start.complex_valued != store.complex_valued:
        kinds = {True: "complex", False: "real"}
        raise UsageError(
            f"teacher.init: {start.name} is of {kinds[start.complex_valued]} images of "
            f"{size_text(start.image_shape)}, the data are {kinds[store.complex_valued]} images of "
            f"{size_text(store.image_shape)}; prepare data of this size, or give another model"
        )
    classes = int(before.network.get("label_dim", 0))
    if classes not in {0, store.classes}:
        raise UsageError(
            f"teacher.init: {start.name} has {classes} classes and the data {store.classes}; give labelled "
            "data or another model"
        )
    if params.augment and before.network.get("augment_dim", 0) != LABELS:
        raise UsageError(f"teacher.init: {start.name} has no labels of augmentation; set teacher.augment=0")
    like = params.model_copy(update={"network": network, "preconditioning": preconditioning})
    fresh = describe_teacher(like, store, provenance)
    layout = _layout(start, params.objective, fresh.conventions)
    return fresh.model_copy(
        update={
            "network": {**network, "in_channels": layout.network_channels},
            "conventions": layout,
        }
    )


def fine_tuned(start: Model, description: ModelDescription) -> Model:
    """A model of the description with the weights of another; those of new input channels are zero.

    New channels follow all others, so that at first the network does not see them.
    """
    model = Model.random_init(description)
    channels = description.network["in_channels"] - start.description.network["in_channels"]
    shapes = {name: tensor.shape for name, tensor in model.denoiser.network.state_dict().items()}
    weights = {
        name: _widened(tensor, shapes[name]) if channels else tensor
        for name, tensor in weights_of(start.denoiser.network).items()
    }
    model.denoiser.network.load_state_dict(weights)
    return model


def _agreed(start: Model, section: str, written: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own section, complete, with the recipe's dropout.

    Raises:
        UsageError: the recipe says something else that decides weights or estimates.
    """
    registry = NETWORKS if section == "network" else PRECONDITIONERS
    full = registry.freeze(own)
    plain = registry.freeze({**own, **written}) if written["name"] == own["name"] else dict(written)
    for key in written:
        if key not in FREE and plain[key] != full.get(key):
            raise UsageError(
                f"teacher.init: {start.name} has {section}.{key}: {full.get(key)}, and the recipe says "
                f"{plain[key]}; --set 'teacher.{section}={{name: {own['name']}}}' takes the model's"
            )
    return full | {key: plain[key] for key in written if key in FREE}


def _layout(start: Model, objective: Mapping[str, Any], fresh: ChannelLayout) -> ChannelLayout:
    """Channels of the new teacher.

    Raises:
        UsageError: the model shows masks by other channels, or in another form, than the objective does.
    """
    own = start.description.conventions
    if not OBJECTIVES[objective["name"]].conditions_on_mask:
        return own
    if not (own.mask_channels or own.ones_channel or start.conditions_on_mask):
        return fresh
    if own.network_channels != fresh.network_channels:
        raise UsageError(
            f"teacher.init: {start.name} has {own.mask_channels} channels for masks, the data's masks have "
            f"{fresh.mask_channels}; give a model of such data"
        )
    if own.pseudo_inverse != fresh.pseudo_inverse:
        form = own.model_dump(mode="json")["pseudo_inverse"]
        words = "null" if form is None else f"{{tau: {form['tau']}, steps: {form['steps']}}}"
        raise UsageError(
            f"teacher.init: {start.name} was trained with another form behind masks; --set "
            f"'teacher.objective.pseudo_inverse={words}' keeps it"
        )
    return own


def _widened(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Weights with zeros for new input channels, which come last."""
    if tuple(tensor.shape) == tuple(shape):
        return tensor
    wide = tensor.new_zeros(shape)
    wide[:, : tensor.shape[1]] = tensor
    return wide
