"""One table between mrigen's parameter names and those of the released EDM, Ambient and SiD networks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mrigen.errors import UsageError
from mrigen.networks import Preconditioner
from mrigen.networks.layers import Conv2d
from mrigen.networks.unet import UNet

# (ours, theirs). {size} is the height of a level: its blocks are called after the resolution there,
# here after the level. Whatever else is behind "network." is called the same.
TABLE = (
    (r"levels", r"u"),
    (r"network\.map_noise\.frequencies", r"model.map_noise.freqs"),
    (r"network\.encoder\.level(\d+)_(.+)", r"model.enc.{size}x{size}_\2"),
    (r"network\.decoder\.level(\d+)_(.+)", r"model.dec.{size}x{size}_\2"),
    (r"network\.(.+)", r"model.\1"),
)
GATE = "gate_weight"
TAPS = "resample_filter"
WRAPPERS = {"_orig_mod", "module"}


@dataclass(frozen=True)
class Correspondence:
    """One of our tensors and the released ones that make it up, one after the other along axis 0.

    Attributes:
        ours: name in mrigen's state_dict.
        theirs: released names; two for a gated convolution, its filters and its gate's.
        shape: of our tensor.
    """

    ours: str
    theirs: tuple[str, ...]
    shape: torch.Size


def unwrap(name: str) -> str:
    """A parameter's name without what torch.compile and DistributedDataParallel put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def correspondences(model: Preconditioner) -> list[Correspondence]:
    """How the tensors of a model are called in the released checkpoints.

    Args:
        model: may be on the meta device.

    Raises:
        UsageError: the network has no released counterpart.
    """
    if not isinstance(model.network, UNet):
        raise UsageError(
            f"network {type(model.network).__name__} has no counterpart among the released models"
        )
    gated = {f"{name}.weight" for name, conv in _convolutions(model) if conv.gated}
    pairs = []
    for ours, tensor in model.state_dict().items():
        theirs = released_name(ours, model.network)
        names = (theirs, theirs.removesuffix("weight") + GATE) if ours in gated else (theirs,)
        pairs.append(Correspondence(ours, names, tensor.shape))
    return pairs


def constants(model: Preconditioner) -> dict[str, Tensor]:
    """Released tensors that say what the architecture says already: the resampling filters."""
    return {
        released_name(f"{name}.{TAPS}", model.network): conv.taps[None, None]  # type: ignore[arg-type]
        for name, conv in _convolutions(model)
        if conv.up or conv.down
    }


def released_name(ours: str, network: UNet) -> str:
    """The released name of one of our tensors."""
    for pattern, theirs in TABLE:
        match = re.fullmatch(pattern, ours)
        if match and "{size}" in theirs:
            size = network.layout.resolution // network.layout.patch >> int(match[1])
            return match.expand(theirs.replace("{size}", str(size)))
        if match:
            return match.expand(theirs)
    raise UsageError(f"parameter {ours} has no counterpart among the released models")


def _convolutions(model: nn.Module) -> Iterator[tuple[str, Conv2d]]:
    for name, module in model.named_modules():
        if isinstance(module, Conv2d):
            yield name, module
