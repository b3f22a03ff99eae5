"""What a raw network F(c, c_noise) is, before preconditioning."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from mrigen.registry import Params, Registry

NETWORKS: Registry[Network] = Registry("network", "mrigen.networks")

Count = Annotated[int, Field(ge=1)]


class NetworkParams(Params):
    """Parameters that every network shares.

    Attributes:
        resolution: height in pixels that the network was laid out for; fully convolutional networks
            also take other sizes.
        in_channels: input channels, image and conditioning.
        out_channels: output channels.
        label_dim: number of classes, 0 for unconditional.
        augment_dim: number of augmentation labels, 0 for none.
    """

    resolution: Count
    in_channels: Count
    out_channels: Count
    label_dim: Annotated[int, Field(ge=0)] = 0
    augment_dim: Annotated[int, Field(ge=0)] = 0


class Network(nn.Module):
    """A network F that a preconditioner wraps.

    Args:
        params: its architecture, complete: what a checkpoint stores to rebuild it.
    """

    Params: ClassVar[type[NetworkParams]] = NetworkParams

    def __init__(self, params: NetworkParams) -> None:
        super().__init__()
        self.params = params

    @abstractmethod
    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """F(x (B, in_channels, H, W), noise label (B,)) -> (B, out_channels, H, W)."""

    @classmethod
    @abstractmethod
    def example(cls) -> Network:
        """Small instance for the contract tests."""
