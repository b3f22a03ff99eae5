"""Optimisers, learning-rate schedules and the check for non-finite losses."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mrigen.engine.params import OptimizerParams
from mrigen.engine.processes import any_of, total
from mrigen.engine.sharding import spread_like, whole_state
from mrigen.engine.shares import Share
from mrigen.errors import NonFiniteLossError


def fix_augmentation(network: nn.Module) -> None:
    """Take the layers of augmentation labels, which are never given, out of the training of a network.

    They would have no gradient that processes could wait for.
    """
    for module in network.modules():
        layer = getattr(module, "map_augment", None)
        if isinstance(layer, nn.Module):
            layer.requires_grad_(False)


class Optimizer:
    """Adam on one module, with warm-up, decay and gradient clipping.

    Args:
        module: the module to train, not yet set up by Fabric.
        params: constants.
        total: images of the run, for the decay.
        fabric: launches and synchronises.
    """

    def __init__(self, module: nn.Module, params: OptimizerParams, total: int, fabric: Fabric) -> None:
        self.module = fabric.setup_module(module)
        adam = torch.optim.Adam(module.parameters(), lr=params.lr, betas=params.betas, eps=params.eps)
        self.adam = fabric.setup_optimizers(adam)
        self._params, self._total, self._fabric = params, total, fabric

    def step(self, losses: list[tuple[Share, Tensor]], images: int) -> float:
        """Update after the losses of this process's micro-batches were back-propagated.

        Returns:
            Mean loss of all micro-batches, the same in every process.

        Raises:
            NonFiniteLossError: a loss of any process is NaN or infinite; the weights are left as they were.
        """
        values = [float(loss) for _, loss in losses]
        if any_of(not all(map(math.isfinite, values))):
            self.adam.zero_grad()
            raise NonFiniteLossError(
                f"the loss became {[round(v, 4) for v in values]} after {images} images; "
                "the state before this step is saved: lower the learning rate or set max_grad_norm"
            )
        for group in self.adam.param_groups:
            group["lr"] = self._rate(images)
        if self._params.max_grad_norm is not None:
            self._fabric.clip_gradients(self.module, self.adam, max_norm=self._params.max_grad_norm)
        self.adam.step()
        self.adam.zero_grad()
        mine = sum(share.weight * value for (share, _), value in zip(losses, values, strict=True))
        mean: float = total([mine])[0] / self._fabric.world_size
        return mean

    def _rate(self, images: int) -> float:
        rate = self._params.lr
        if self._params.ramp_images:
            rate *= min(1.0, images / self._params.ramp_images)
        if self._params.decay == "linear":
            rate *= max(0.0, 1 - images / self._total)
        return rate

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
        self.adam.load_state_dict({**adam, "state": moments})
