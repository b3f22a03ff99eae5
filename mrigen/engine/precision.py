"""Lower precision inside networks, and only there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import nn

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


class Frozen(nn.Module):
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
