"""Networks whose parameters are spread over the processes (fully sharded data parallel, FSDP2).

A sharded module keeps its class and the names of its parameters, which become distributed tensors. States
are written whole: what one number of processes or one strategy saved, any other continues. Torch's packages
for this take a second to import and are imported in runs of several processes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import pad

from mrigen.engine.processes import is_distributed, is_rank_zero

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

M = TypeVar("M", bound=nn.Module)


def shard(module: M, mesh: DeviceMesh) -> M:
    """Spread a network over a mesh, block by block: only one block is whole in memory at a time.

    A block is an entry of a list or mapping of modules.
    """
    from torch.distributed.fsdp import fully_shard

    module.to(memory_format=torch.contiguous_format)
    for parent in list(module.modules()):
        if isinstance(parent, nn.ModuleList | nn.ModuleDict | nn.Sequential):
            for block in parent.children():
                if any(True for _ in block.parameters()):
                    fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"])
    return module


def is_sharded(module: nn.Module) -> bool:
    """Whether a module's parameters are spread over processes."""
    return any(_is_spread(parameter) for parameter in module.parameters())


def _is_spread(value: object) -> TypeGuard[DTensor]:
    """Whether a value is a tensor of which each process has a part."""
    if not is_distributed():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process; every process has to ask."""
    if not _is_spread(tensor):
        return tensor
    from torch.distributed.tensor import Shard

    if tensor.placements == (Shard(0),):
        return _gathered([tensor])[0]
    return tensor.full_tensor()  # each process has a share of the value: a norm


def whole_parameters(module: nn.Module) -> list[Tensor]:
    """All of every parameter, in every process, from one exchange; every process has to ask."""
    parameters: list[Any] = list(module.parameters())
    return _gathered(parameters) if is_sharded(module) else parameters


@torch.no_grad()
def _gathered(tensors: list[DTensor]) -> list[Tensor]:
    """Tensors of which each process has as many rows, rounded up, the last ones fewer or none.

    ``DTensor.full_tensor`` would be one line, and ends a process now and then: when two of torch's threads
    (gloo, torch 2.15) finish at once, both free the long name of its collective.
    """
    mesh = tensors[0].device_mesh
    sizes = [-(-len(tensor) // mesh.size()) * (tensor.numel() // len(tensor)) for tensor in tensors]
    rows = [tensor.to_local().flatten() for tensor in tensors]
    mine = torch.cat([pad(row, (0, size - len(row))) for row, size in zip(rows, sizes, strict=True)])
    all_rows = mine.new_empty(mesh.size() * len(mine))
    distributed.all_gather_into_tensor(all_rows, mine, group=mesh.get_group())
    return [
        part.flatten()[: tensor.numel()].view(tensor.shape).to(tensor.dtype)
        for part, tensor in zip(all_rows.view(mesh.size(), -1).split(sizes, dim=1), tensors, strict=True)
    ]


def whole_state(state: Any) -> Any:
    """A state with whole tensors on the first process; the others' is nothing to keep."""
    if _is_spread(state):
        full = whole(state)
        return full.cpu() if is_rank_zero() else None
    if isinstance(state, Mapping):
        return {key: whole_state(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole_state(value) for value in state)
    return state


def spread_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor spread as a parameter is; scalars (a moment's count of steps) stay whole."""
    if not _is_spread(parameter) or not value.ndim:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
