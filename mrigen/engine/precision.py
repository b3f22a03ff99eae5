"""Networks in lower precision, and networks compiled by torch.compile."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.utils._triton import has_triton

from mrigen.errors import UsageError
from mrigen.networks import Preconditioner

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def use_network_precision(fabric: Fabric) -> None:
    """Replace Fabric's mixed precision, which rounds inputs as well."""
    from lightning_fabric.plugins.precision import MixedPrecision

    class NetworkPrecision(MixedPrecision):  # type: ignore[misc]
        """Autocast within a network's forward pass; what goes in stays float32.

        The preconditioner adds c_skip x to the network's output: x rounded to bfloat16 would have an error
        of 0.4 % at every noise level, and so would σ.
        """

        def convert_input(self, data: Any) -> Any:
            """Images and noise levels as they are."""
            return data

    precision = fabric.strategy.precision
    if type(precision) is MixedPrecision:
        fabric.strategy.precision = NetworkPrecision(precision.precision, precision.device, precision.scaler)


class AutocastModule(nn.Module):
    """A preconditioned network that is not trained, in the precision of those that are.

    Args:
        module: called as it is.
        fabric: whose precision.
    """

    def __init__(self, module: nn.Module, fabric: Fabric) -> None:
        super().__init__()
        self.module, self._fabric = module, fabric

    @property
    def network(self) -> Any:
        """The network that is preconditioned."""
        return self.module.network

    def nearest_level(self, sigma: float) -> float:
        """The module's noise level nearest to σ."""
        return cast("Preconditioner", self.module).nearest_level(sigma)

    def forward(self, *inputs: Any) -> Any:
        """The module's output."""
        with self._fabric.strategy.precision.forward_context():
            return self.module(*inputs)


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Compile a preconditioned network in place at its first use; names of its weights stay the same.

    A copy of it is not compiled.

    Raises:
        UsageError: nothing here could compile it.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UsageError(
            f"compile: there is no C++ compiler {compiler} here; install it or leave compile out"
        )
    if device.type == "cuda" and not has_triton():
        raise UsageError("compile: Triton does not run on this GPU; leave compile out")
    cast("Preconditioner", network).network.compile()
