"""Networks whose parameters are spread over the processes (fully sharded data parallel, FSDP2).

A sharded module keeps its class and the names of its parameters, which become distributed tensors. States
are written whole: what one number of processes or one strategy saved, any other continues.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mrigen.engine.processes import first

M = TypeVar("M", bound=nn.Module)


def shard(module: M, mesh: DeviceMesh) -> M:
    """Spread a network over a mesh, block by block: only one block is whole in memory at a time.

    A block is an entry of a list or mapping of modules.
    """
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
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process; every process has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(state: Any) -> Any:
    """A state with whole tensors on the first process; the others' is nothing to keep."""
    if isinstance(state, DTensor):
        full = state.full_tensor()
        return full.cpu() if first() else None
    if isinstance(state, Mapping):
        return {key: whole_state(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole_state(value) for value in state)
    return state


def spread_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor spread as a parameter is; scalars (a moment's count of steps) stay whole."""
    if not isinstance(parameter, DTensor) or not value.ndim:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
