"""What a raw network F(c, c_noise) is, before preconditioning."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from mrigen.errors import UsageError
from mrigen.registry import Params, Registry

NETWORKS: Registry[Network] = Registry("network", "mrigen.networks", "mrigen.networks.Network")

# Upper bounds keep a model description from a stranger from asking for an absurd network.
Count = Annotated[int, Field(ge=1, le=8192)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class NetworkParams(Params):
    """Parameters that every network shares.

    Attributes:
        resolution: height in pixels that the network was laid out for; fully convolutional networks
            also take other sizes.
        in_channels: input channels, image and conditioning.
        out_channels: output channels.
        label_dim: number of classes, 0 for unconditional.
        augment_dim: number of augmentation labels, 0 for none.
        label_dropout: probability of hiding the class label while training.
    """

    resolution: Count
    in_channels: Count
    out_channels: Count
    label_dim: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    augment_dim: Annotated[int, Field(ge=0, le=8192)] = 0
    label_dropout: Probability = 0.0


class Network(nn.Module):
    """A network F that a preconditioner wraps.

    Args:
        params: its architecture, complete: what a checkpoint stores to rebuild it.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> spec = {"name": "mlp", "hidden": 8, "resolution": 4, "in_channels": 2, "out_channels": 2}
        >>> network = mg.networks.NETWORKS.build(spec)
        >>> network(torch.zeros(3, 2, 4, 4), torch.zeros(3)).shape
        torch.Size([3, 2, 4, 4])
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

    def encode(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """Features (B, c, h, w) of the encoder, which a discriminator shares; arguments as ``forward``.

        Raises:
            UsageError: the network has no encoder.
        """
        del x, noise, labels, augment
        raise UsageError(
            f"loss.adversary: network {type(self).__name__} has no method encode, whose features the "
            "discriminator is made of; leave adversary out"
        )

    @classmethod
    @abstractmethod
    def example(cls) -> Network:
        """Small instance for the contract tests."""

    def seen_labels(self, labels: Tensor | None, batch: int, device: torch.device) -> Tensor:
        """Class labels as the network sees them, float32 (B or 1, label_dim).

        No label is the zero vector; while training, each label is hidden with ``label_dropout``.
        """
        if labels is None:
            return torch.zeros(1, self.params.label_dim, device=device)
        labels = labels.float().reshape(-1, self.params.label_dim)
        if self.training and self.params.label_dropout:
            shown = torch.rand(batch, 1, device=device) >= self.params.label_dropout
            labels = labels * shown
        return labels
