"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from mrigen.channels import ChannelLayout
from mrigen.engine.guard import NonFiniteGuard
from mrigen.engine.micro_batches import MicroBatch
from mrigen.engine.params import OptimizerParams
from mrigen.engine.processes import all_reduce_mean
from mrigen.engine.sharding import is_sharded, spread_like, whole, whole_state
from mrigen.errors import NonFiniteLossError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fix_augmentation(network: nn.Module) -> None:
    """Take the layers of augmentation labels, which are never given, out of the training of a network.

    They would have no gradient that processes could wait for.
    """
    for module in network.modules():
        layer = getattr(module, "map_augment", None)
        if isinstance(layer, nn.Module):
            layer.requires_grad_(False)


def set_dropout(network: nn.Module, rate: float) -> None:
    """Give all residual blocks of a network another dropout."""
    for module in network.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = rate  # type: ignore[assignment]


def real_components(shape: tuple[int, int, int], conventions: ChannelLayout) -> int:
    """Number of real components of an image (C, H, W): 2 C H W of a complex one."""
    return math.prod(shape) * (2 if conventions.image == "complex" else 1)


class Optimizer:
    """Adam on one module, with warm-up, decay and gradient clipping.

    Args:
        module: the module to train, not yet set up by Fabric.
        params: constants.
        total: images of the run, for the decay.
        fabric: launches and synchronises.
        guard: watches the losses of the whole job; by default one of this optimiser's own.
        components: real components of an image over which the loss is a mean; 1 where it is a sum.
    """

    def __init__(
        self,
        module: nn.Module,
        params: OptimizerParams,
        total: int,
        fabric: Fabric,
        guard: NonFiniteGuard | None = None,
        components: int = 1,
    ) -> None:
        self.module = fabric.setup_module(module)
        self.guard = NonFiniteGuard(fabric.device) if guard is None else guard
        self._scaled = fabric.strategy.precision.precision == "16-mixed"  # its own check of every step
        fused = fabric.device.type in {"cpu", "cuda"} and not self._scaled and not is_sharded(module)
        adam = torch.optim.Adam(
            module.parameters(), lr=params.lr, betas=params.betas, eps=params.eps, fused=fused
        )
        self.adam = fabric.setup_optimizers(adam)
        if fused:
            adam.found_inf = self.guard.failed  # type: ignore[attr-defined]  # the flag that fused Adam obeys
        else:
            self.guard.immediate = True
        self._params, self._total, self._fabric = params, total, fabric
        self._components = components if params.grad_norm_of == "sum" else 1

    def step(self, losses: list[tuple[MicroBatch, Tensor]], images: int) -> Tensor:
        """Update after the losses of this process's micro-batches were back-propagated.

        Returns:
            Mean loss of all micro-batches, the same in every process, on the device.

        Raises:
            NonFiniteLossError: a loss of any process is NaN or infinite (see ``NonFiniteGuard``); the weights
                are left as they were.
        """
        mean = all_reduce_mean(torch.stack([share.weight * loss for share, loss in losses]).sum())
        for group in self.adam.param_groups:
            group["lr"] = self._params.rate(images, self._total)
        try:
            self.guard.update(mean)
            self._clip()
        except NonFiniteLossError:
            self.adam.zero_grad()
            raise
        self.adam.step()
        self.adam.zero_grad()
        return mean

    def _clip(self) -> None:
        if self._params.max_grad_norm is None:
            return
        norm = self._fabric.clip_gradients(
            self.module,
            self.adam,
            max_norm=self._params.max_grad_norm / self._components,
            error_if_nonfinite=False,
        )
        if norm is not None and not self._scaled:
            self.guard.update(whole(norm))

    def state(self) -> dict[str, object]:
        """Weights and moments, whole on the first process; every process has to ask."""
        state = {"module": self.module.state_dict(), "adam": self.adam.state_dict()}
        return cast("dict[str, object]", whole_state(state))

    def load(self, state: dict[str, dict[str, Any]]) -> None:
        """Continue from a saved state, which is whole in every process."""
        mine, adam = self.module.state_dict(), state["adam"]
        self.module.load_state_dict({k: spread_like(mine[k], v) for k, v in state["module"].items()})
        parameters = [p for group in self.adam.param_groups for p in group["params"]]
        moments = {
            index: {k: spread_like(parameters[index], v) for k, v in moment.items()}
            for index, moment in adam["state"].items()
        }
        groups = zip(adam["param_groups"], self.adam.param_groups, strict=True)
        settings = [{**saved, "fused": here["fused"]} for saved, here in groups]
        self.adam.load_state_dict({"state": moments, "param_groups": settings})
