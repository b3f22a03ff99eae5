"""What networks take of memory, before any of it is allocated: the least of a training, batches that fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mrigen import ranks
from mrigen.checkpoints.folder import build_model
from mrigen.errors import UsageError
from mrigen.memory import available

if TYPE_CHECKING:
    from torch import Tensor

    from mrigen.checkpoints.description import ModelDescription
    from mrigen.engine.params import RunParams

FLOAT = 4  # bytes
TRAINED = 4  # copies of a trained network: weights, gradients, two moments
SHARE = 0.5  # of the float32 activations that kernels of GPUs, half precision and compilation leave
RECORD = 300  # bytes that Python keeps of a micro-batch until the step ends
FILLED = 0.5  # of the free memory: the rest is for what kernels need beside their results
PIXEL = 32 * 8 * 4  # bytes beside the network: coil images of 32 coils, their maps, k-space and a product


@dataclass(frozen=True)
class Footprint:
    """What a network takes of memory.

    Attributes:
        parameters: their number.
        activations: bytes that one image's forward pass keeps for the gradient, in float32.
    """

    parameters: int
    activations: int

    @classmethod
    def of(cls, description: ModelDescription, height: int, width: int) -> Footprint:
        """Measured on the meta device, where tensors have shapes and no memory.

        A network of the user's own that needs values in its forward pass counts with its parameters alone.
        """
        model = build_model(description).to("meta").train()
        own = {id(parameter.untyped_storage()) for parameter in model.parameters()}
        kept = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[id(storage)] = storage
            return tensor

        x = torch.empty(1, description.conventions.network_channels, height, width, device="meta")
        labels = description.network.get("label_dim", 0)
        classes = torch.empty(1, labels, device="meta") if labels else None
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            try:
                model(x, torch.empty(1, device="meta"), classes)
            except (RuntimeError, NotImplementedError, ValueError, TypeError):
                kept.clear()
        activations = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
        return cls(sum(parameter.numel() for parameter in model.parameters()), activations)


class _LiveBytes(TorchDispatchMode):
    """The most bytes that were held at once by results of operations within a block.

    Attributes:
        most: bytes.

    Args:
        own: tensors that are there before, whose views do not count.
    """

    def __init__(self, own: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._own = {tensor.untyped_storage()._cdata for tensor in own}  # noqa: SLF001
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata  # noqa: SLF001
                if key not in self._own:
                    self._held[key] = StorageWeakRef(storage), storage.nbytes()
        self.most = max(self.most, sum(size for _, size in self._held.values()))
        return out


def forward_bytes(description: ModelDescription, height: int, width: int) -> int:
    """Bytes at the peak of one image's forward pass without gradients, in float32, on the meta device.

    0 for a network of the user's own that needs values in its forward pass.
    """
    labels = description.network.get("label_dim", 0)
    try:
        with torch.device("meta"):
            model = build_model(description).to("meta").eval()
        live = _LiveBytes([*model.parameters(), *model.buffers()])
        with torch.no_grad(), live:
            x = torch.empty(1, description.conventions.network_channels, height, width, device="meta")
            classes = torch.empty(1, labels, device="meta") if labels else None
            model(x, torch.empty(1, device="meta"), classes)
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return 0
    return live.most


def _upper_bound(network: Mapping[str, Any], height: int, width: int) -> float:
    """Bytes that a convolutional network does not exceed in its forward pass; infinite for any other.

    Measuring loads torch's compiler, for seconds that a small network does not take itself.
    """
    if network.get("name") != "song-unet" or network.get("attn_resolutions") != []:
        return math.inf
    widest = network["model_channels"] * max(network["channel_mult"])
    return float((16 + 2 * network["num_blocks"]) * FLOAT * widest * height * width)


def batch_that_fits(
    description: ModelDescription,
    shape: tuple[int, int, int],
    device: torch.device,
    most: int,
    *,
    differentiated: bool = False,
) -> int:
    """The largest batch that half of the free memory holds: ``most``, or the largest power of two below it.

    Args:
        description: of the network.
        shape: (C, H, W) of the images.
        device: where the network runs.
        most: no larger one.
        differentiated: gradients of the network are wanted.
    """
    _, height, width = shape
    free, beside = FILLED * free_memory(device), PIXEL * height * width
    if not differentiated and most * (beside + _upper_bound(description.network, height, width)) <= free:
        return most
    image = beside + forward_bytes(description, height, width)
    if differentiated:
        image += Footprint.of(description, height, width).activations
    fitting = int(free) // image
    return most if fitting >= most else 1 << max(0, fitting.bit_length() - 1)


def even_batch(count: int, most: int) -> int:
    """The smallest batch that needs no more calls for so many images than batches of ``most`` do."""
    return -(-count // -(-count // most))


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still allocate on its device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available() // ranks.local_world_size()


def require_memory(
    section: str,
    params: RunParams,
    footprint: Footprint,
    free: int,
    *,
    trained: int = 1,
    frozen: int = 0,
    sharded: int = 1,
) -> None:
    """Refuse what certainly does not fit into memory.

    The estimate is low: weights, gradients and moments of the networks, averages, and half of the activations
    of one micro-batch in float32. What passes may still be too large.

    Args:
        section: of the recipe, for messages.
        params: batch and micro-batch.
        footprint: of one network.
        free: bytes.
        trained: number of networks that are trained.
        frozen: number of networks that are kept beside them, averages included.
        sharded: number of processes over which the trained ones are spread.

    Raises:
        UsageError: more than ``free`` is needed; says what to lower.
    """
    micro = params.micro_batch or params.batch
    networks = FLOAT * footprint.parameters * (TRAINED * trained // sharded + frozen)
    image = max(1, int(SHARE * footprint.activations))
    records = RECORD * params.micro_batches // ranks.world_size()
    if networks + image > free:
        raise UsageError(
            f"{section}: a network of {footprint.parameters:,} parameters needs at least "
            f"{_size(networks + image)} to be trained on one image, and {_size(free)} are free here: lower "
            "teacher.network.model_channels or num_blocks, or take smaller images"
        )
    if records > free - networks - image:
        raise UsageError(
            f"{section}: {params.micro_batches:,} micro-batches a step need at least {_size(records)}, and "
            f"{_size(free - networks)} are free here: lower {section}.batch"
        )
    fitting = (free - networks - records) // image
    if micro > fitting:
        fits = max(size for size in _divisors(params.batch) if size <= fitting)
        needed = networks + records + micro * image
        raise UsageError(
            f"{section}: {micro:,} images at once need at least {_size(needed)}, and {_size(free)} are free "
            f"here: --set {section}.micro_batch={fits} (in Python micro_batch={fits}), or lower "
            f"{section}.batch"
        )


def _divisors(number: int) -> set[int]:
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return {*small, *(number // size for size in small)}


def _size(count: float) -> str:
    """Bytes with three digits and a decimal prefix."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.3g} {units[0]}"
