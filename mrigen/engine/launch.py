"""Lightning Fabric on one device, or on one device per process under ``torchrun``."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Literal

import torch

from mrigen import ranks
from mrigen.engine.precision import use_network_precision
from mrigen.engine.sharding import shard
from mrigen.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import Strategy

Spread = Literal["ddp", "fsdp"]


def open_device(
    device: str, precision: str = "32-true", strategy: Spread = "ddp", *, deterministic: bool = False
) -> Fabric:
    """Lightning Fabric, launched: this process on a device of its own.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        precision: of the networks.
        strategy: how several processes train one network: ``ddp``, everyone has all of it, or ``fsdp``,
            everyone has a part of its weights, gradients and moments.
        deterministic: a GPU's operations give the same bits every time, for the rest of the process.

    Raises:
        UsageError: there is no such device here, fewer devices than processes, or nobody to share with.
    """
    from lightning_fabric import Fabric  # takes a second or more to import
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    together = ranks.world_size() > 1
    if strategy == "fsdp" and not together:
        raise UsageError(
            "--strategy fsdp: spreads a network over processes; start it with torchrun --nproc-per-node N"
        )
    count = ranks.local_world_size() if together else 1
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_utilities").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator=device,
            devices=count,
            num_nodes=ranks.world_size() // count,
            precision=precision,
            strategy=_strategy(strategy) if together else "auto",
            plugins=[TorchElasticEnvironment() if together else LightningEnvironment()],
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        many = f" for {count} processes per node" if together else ""
        raise UsageError(
            f"--device {device}: not available here{many} ({reason}); try --device cpu"
        ) from error
    use_network_precision(fabric)
    if fabric.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS wants it for the same bits
        if deterministic:
            torch.use_deterministic_algorithms(mode=True)
        # Otherwise the fastest kernels for a shape, by measurement: runs may differ in last bits.
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    fabric.launch()
    return fabric


def choose_device(name: str) -> torch.device:
    """The device of a command that trains nothing; several processes meet, and each gets one of its own.

    A single process does without Fabric, whose import takes longer than that of torch.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``mps``.

    Raises:
        UsageError: there is no such device here.
    """
    if ranks.world_size() > 1:
        device: torch.device = open_device(name).device
        return device
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(kind for kind, available in there.items() if available) if name == "auto" else name
    if not there.get(chosen, False):
        names = ", ".join(kind for kind, available in there.items() if available)
        raise UsageError(f"--device {name}: not available here (there is {names}); try --device cpu")
    torch.backends.cudnn.benchmark = chosen == "cuda" and not torch.are_deterministic_algorithms_enabled()
    return torch.device(chosen, 0) if chosen == "cuda" else torch.device(chosen)


def _strategy(name: Spread) -> Strategy:
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    if name == "fsdp":
        return ModelParallelStrategy(shard, data_parallel_size=ranks.world_size(), tensor_parallel_size=1)
    # Buffers are constants here; broadcasting them would make every forward pass a meeting. The option that
    # torch 2.15 recommends instead is not in every torch that mrigen runs with.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    return DDPStrategy(broadcast_buffers=False)
