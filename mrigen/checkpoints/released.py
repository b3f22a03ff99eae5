"""What a released checkpoint holds: weights by name, their classes, and what it says of itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mrigen.checkpoints.classes import NETWORKS, PRECONDITIONINGS, Class
from mrigen.checkpoints.names import unwrap
from mrigen.checkpoints.stored import Persistent, StoredTensor
from mrigen.errors import UsageError
from mrigen.pickles.plain import Record, printable

# Where the weights are, best first: the average, then the network itself.
GENERATOR_KEYS = ("G_ema", "G")
WEIGHT_KEYS = ("ema", "G_ema", "net", "model", "state_dict", "G")
MAX_ENTRIES = 200_000
MAX_NAME = 256
MAX_FACTS = 64


@dataclass
class ReleasedCheckpoint:
    """What was found in a checkpoint.

    Attributes:
        key: where the weights were, empty for the top level.
        tensors: by released name.
        preconditioning: released class name.
        network: released class name.
        constants: arguments of the preconditioning.
        layout: arguments of the network, in/out channels included.
        half_precision: the authors ran it in half precision (``use_fp16``).
        facts: what the file or the options say of data and loss.
        module: the weights were a pickled module rather than a state_dict.
        keys: all keys of the file.
    """

    key: str
    tensors: dict[str, StoredTensor]
    preconditioning: str = ""
    network: str = ""
    constants: dict[str, Any] = field(default_factory=dict)
    layout: dict[str, Any] = field(default_factory=dict)
    half_precision: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    module: bool = False
    keys: tuple[str, ...] = ()


def find(content: Any, options: Mapping[str, Any] | None) -> ReleasedCheckpoint:
    """Sort a checkpoint's content.

    Args:
        content: what ``read_checkpoint`` returned.
        options: the training options, needed where the weights are a state_dict.

    Raises:
        UsageError: no known weights, an unknown class or argument; names it.
    """
    key, weights = _weights(content)
    released = ReleasedCheckpoint(key, {}, facts=_facts(content, options or {}))
    if isinstance(content, Mapping):
        released.keys = tuple(str(name) for name in content if isinstance(name, str))
    if isinstance(weights, Persistent):
        released.module = True
        _from_module(released, weights)
    else:
        released.tensors = _without_prefix({unwrap(name): tensor for name, tensor in weights.items()})
        if options is None:
            raise UsageError(
                "the checkpoint holds bare weights: give the training_options.json that its authors "
                "published with it (--options FILE)"
            )
        _from_options(released, options)
    return released


def _weights(content: Any) -> tuple[str, Any]:
    if isinstance(content, Persistent):
        return "", content
    if not isinstance(content, Mapping):
        raise UsageError(f"the checkpoint holds a {type(content).__name__}, not weights")
    for key in WEIGHT_KEYS:
        if isinstance(content.get(key), Persistent):
            return key, content[key]
        if isinstance(content.get(key), Mapping):
            return key, _state_dict(content[key])
        if isinstance(content.get(key), Record):
            raise UsageError(f"{key!r} is a {content[key].name}, not an EDM network or a state_dict")
    if any(isinstance(value, StoredTensor) for value in content.values()):
        return "", _state_dict(content)
    keys = ", ".join(printable(str(key)) for key in list(content)[:8]) or "nothing"
    raise UsageError(f"the checkpoint has no weights under {', '.join(WEIGHT_KEYS)}; it holds {keys}")


def _state_dict(weights: Mapping[Any, Any]) -> dict[str, StoredTensor]:
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            what = value.name if isinstance(value, Record) else type(value).__name__
            raise UsageError(f"weight {printable(str(name))!r} is a {what}, not a tensor")
        _checked(name)
    return dict(weights)


def _without_prefix(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Weights of a module inside another one, ``net.model...`` or ``ema.model...``."""
    prefix = next(iter(tensors), "").partition(".")[0] + "."
    if all(n.startswith(prefix) for n in tensors) and any(n.startswith(f"{prefix}model.") for n in tensors):
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _from_options(released: ReleasedCheckpoint, options: Mapping[str, Any]) -> None:
    """Architecture from ``network_kwargs``; sizes and channels from the weights."""
    arguments = options.get("network_kwargs")
    if not isinstance(arguments, Mapping):
        raise UsageError("the training options have no network_kwargs: are they of this checkpoint?")
    arguments = dict(arguments)
    released.preconditioning = str(arguments.pop("class_name", "EDMPrecond")).rpartition(".")[2]
    known = _known(PRECONDITIONINGS, released.preconditioning, "preconditioning")
    released.network = str(arguments.pop("model_type", known.network))
    released.half_precision = bool(arguments.pop("use_fp16", False))
    arguments.pop("img_channels", None)
    released.constants = {k: arguments.pop(k) for k in list(arguments) if k in known.taken}
    released.layout = {**_taken(NETWORKS, released.network, arguments), **_sizes(released.tensors)}


def _sizes(tensors: Mapping[str, StoredTensor]) -> dict[str, int]:
    """What the weights themselves say: resolution, channels, labels."""
    stems = [re.fullmatch(r"model\.enc\.(\d{1,5})x\1_conv\.weight", name) for name in tensors]
    stem = next((match for match in stems if match), None)
    if stem is None or len(tensors[stem[0]].shape) != 4:
        raise UsageError("the weights have no model.enc.NxN_conv.weight: not a SongUNet or DhariwalUNet")
    heads = ("model.out_conv.bias", f"model.dec.{stem[1]}x{stem[1]}_aux_conv.bias")
    head = next((tensors[name] for name in heads if name in tensors), None)
    if head is None or len(head.shape) != 1:
        raise UsageError(
            f"the weights have neither {heads[0]} nor {heads[1]}: not a SongUNet or DhariwalUNet"
        )
    sizes = {
        "img_resolution": int(stem[1]),
        "in_channels": tensors[stem[0]].shape[1],
        "out_channels": head.shape[0],
    }
    for argument, name in (
        ("label_dim", "model.map_label.weight"),
        ("augment_dim", "model.map_augment.weight"),
    ):
        if name in tensors and len(tensors[name].shape) == 2:
            sizes[argument] = tensors[name].shape[1]
    return sizes


def _from_module(released: ReleasedCheckpoint, module: Persistent) -> None:
    """Architecture from the recorded constructor arguments; weights from the nested states."""
    released.preconditioning = module.name
    known = _known(PRECONDITIONINGS, module.name, "network")
    arguments = _arguments(module, known)
    released.half_precision = bool(arguments.get("use_fp16", False))
    released.constants = {k: v for k, v in arguments.items() if k in known.taken}
    children = module.state.get("_modules")
    network = children.get("model") if isinstance(children, dict) else None
    if not isinstance(network, Persistent):
        raise UsageError(f"{module.name} has no network called 'model'")
    released.network = network.name
    inner = _arguments(network, _known(NETWORKS, network.name, "network"))
    released.layout = _taken(NETWORKS, network.name, inner)
    released.tensors = _collect(module)


def _known(classes: Mapping[str, Class], name: str, kind: str) -> Class:
    if name not in classes:
        raise UsageError(f"{kind} class {printable(name)!r} is not one of {', '.join(classes)}")
    return classes[name]


def _arguments(module: Persistent, known: Class) -> dict[str, Any]:
    positional, keywords = module.state.get("_init_args"), module.state.get("_init_kwargs")
    if not isinstance(positional, tuple) or not isinstance(keywords, dict):
        raise UsageError(f"{module.name} was saved without its constructor's arguments")
    return {**dict(zip(known.arguments, positional, strict=False)), **keywords}


def _taken(classes: Mapping[str, Class], name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = _known(classes, name, "network")
    unknown = [printable(str(key)) for key in arguments if key not in known.taken]
    if unknown:
        raise UsageError(f"{name} has no argument {unknown[0]!r} that mrigen knows")
    return dict(arguments)


def _collect(root: Record) -> dict[str, StoredTensor]:
    """Parameters and buffers of a module tree, by dotted name."""
    tensors: dict[str, StoredTensor] = {}
    pending = [("", root)]
    visited = 0
    while pending:
        prefix, module = pending.pop()
        for kind in ("_parameters", "_buffers", "_modules"):
            children = module.state.get(kind, {})
            if not isinstance(children, dict):
                raise UsageError(f"{module.name} has no dictionary {kind}")
            visited += 1 + len(children)
            if visited > MAX_ENTRIES:
                raise UsageError("the checkpoint's modules are nested without end")
            for key, child in children.items():
                name = _checked(f"{prefix}{key}" if len(str(key)) < MAX_NAME else str(key))
                if isinstance(child, StoredTensor):
                    tensors[name] = child
                elif isinstance(child, Record):
                    pending.append((f"{name}.", child))
                elif child is not None:
                    raise UsageError(f"{printable(name)!r} is a {type(child).__name__}, not a tensor")
    return tensors


def _checked(name: str) -> str:
    if len(name) > MAX_NAME:
        raise UsageError(f"weight {printable(name)!r}... has a name of more than {MAX_NAME} characters")
    return name


def _facts(content: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values that file and options say of data and loss; the options win."""
    facts: dict[str, Any] = {}
    if isinstance(content, Mapping):
        loss = content.get("loss_fn")
        if isinstance(loss, Persistent):
            facts.update(to_plain(loss.state), loss=loss.name)
        facts.update(to_plain(content.get("dataset_kwargs")))
    for section in ("dataset_kwargs", "loss_kwargs"):
        values = to_plain(options.get(section))
        name = str(values.pop("class_name", "")).rpartition(".")[2]
        if name:
            values[section.removesuffix("_kwargs")] = name
        facts.update(values)
    return facts


def to_plain(values: object) -> dict[str, Any]:
    """Public entries of a dictionary that are text, finite numbers, booleans or None."""
    plain: dict[str, Any] = {}
    for key, value in values.items() if isinstance(values, Mapping) else ():
        if not isinstance(key, str) or key.startswith("_") or len(plain) == MAX_FACTS:
            continue
        if isinstance(value, str):
            plain[printable(key)] = printable(value)
        elif (
            value is None
            or isinstance(value, bool | int)
            or (isinstance(value, float) and math.isfinite(value))
        ):
            plain[printable(key)] = value
    return plain
