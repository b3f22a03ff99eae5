"""Optimisers, learning-rate schedules and the check for non-finite losses."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mrigen.engine.params import OptimizerParams
from mrigen.errors import NonFiniteLossError


class Optimizer:
    """Adam on one module, with warm-up, decay and gradient clipping.

    Args:
        module: the module to train, not yet set up by Fabric.
        params: constants.
        total: images of the run, for the decay.
        fabric: launches and synchronises.
    """

    def __init__(self, module: nn.Module, params: OptimizerParams, total: int, fabric: Fabric) -> None:
        adam = torch.optim.Adam(module.parameters(), lr=params.lr, betas=params.betas, eps=params.eps)
        self.module, self.adam = fabric.setup(module, adam)
        self._params, self._total, self._fabric = params, total, fabric

    def step(self, losses: list[Tensor], images: int) -> None:
        """Update after the micro-batches' losses were back-propagated.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite; the weights are left as they were.
        """
        if not bool(torch.stack(losses).isfinite().all()):
            self.adam.zero_grad()
            raise NonFiniteLossError(
                f"the loss became {[round(float(v), 4) for v in losses]} after {images} images; "
                "the state before this step is saved: lower the learning rate or set max_grad_norm"
            )
        for group in self.adam.param_groups:
            group["lr"] = self._rate(images)
        if self._params.max_grad_norm is not None:
            self._fabric.clip_gradients(self.module, self.adam, max_norm=self._params.max_grad_norm)
        self.adam.step()
        self.adam.zero_grad()

    def _rate(self, images: int) -> float:
        rate = self._params.lr
        if self._params.ramp_images:
            rate *= min(1.0, images / self._params.ramp_images)
        if self._params.decay == "linear":
            rate *= max(0.0, 1 - images / self._total)
        return rate

    def state(self) -> dict[str, object]:
        """Weights and moments."""
        return {"module": self.module.state_dict(), "adam": self.adam.state_dict()}

    def load(self, state: dict[str, dict[str, object]]) -> None:
        """Continue from a saved state."""
        self.module.load_state_dict(state["module"])
        self.adam.load_state_dict(state["adam"])
