"""A residual multi-layer perceptron for toy problems: points in the plane, tiny images."""

from __future__ import annotations

from typing import ClassVar, cast

from torch import Tensor, nn
from torch.nn import functional

from mrigen.errors import UsageError
from mrigen.networks.base import NETWORKS, Count, Network, NetworkParams, Probability
from mrigen.networks.blocks import PositionalEmbedding
from mrigen.networks.layers import Init, Linear
from mrigen.networks.unet import Blocks


class MLPParams(NetworkParams):
    """Architecture of a multi-layer perceptron.

    Attributes:
        width: width of the images in pixels; the height by default. It cannot change afterwards.
        hidden: width of the layers.
        num_blocks: residual blocks.
        embedding: channels of the noise embedding.
        dropout: inside the residual blocks.
    """

    width: Count | None = None
    hidden: Count = 512
    num_blocks: Blocks = 4
    embedding: Count = 64
    dropout: Probability = 0.0


class MLPBlock(nn.Module):
    """h + W₁ silu(W₀ silu(norm(h)) + V e) for hidden features h and embedding e."""

    def __init__(self, hidden: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(hidden)
        self.layer0 = Linear(hidden, hidden)
        self.affine = Linear(embedding, hidden)
        self.layer1 = Linear(hidden, hidden, init=Init(weight=1e-5))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, hidden) and (B, embedding) to (B, hidden)."""
        inner = functional.silu(self.layer0(functional.silu(self.norm(x))) + self.affine(embedding))
        return x + self.layer1(functional.dropout(inner, self.dropout, self.training))  # type: ignore[no-any-return]


@NETWORKS.register("mlp")
class MLP(Network):
    """Residual blocks on the flattened image, told the noise level, class and augmentation by addition."""

    Params: ClassVar[type[NetworkParams]] = MLPParams

    def __init__(self, params: NetworkParams) -> None:
        super().__init__(params)
        p = cast("MLPParams", params)
        self.size = (p.resolution, p.width or p.resolution)
        pixels = self.size[0] * self.size[1]
        self.map_noise = PositionalEmbedding(p.embedding, endpoint=True)
        self.map_label = Linear(p.label_dim, p.hidden) if p.label_dim else None
        self.map_augment = Linear(p.augment_dim, p.hidden, bias=False) if p.augment_dim else None
        self.map_layer0 = Linear(p.embedding, p.hidden)
        self.map_layer1 = Linear(p.hidden, p.hidden)
        self.enter = Linear(p.in_channels * pixels, p.hidden)
        self.blocks = nn.ModuleList(MLPBlock(p.hidden, p.hidden, p.dropout) for _ in range(p.num_blocks))
        self.norm = nn.LayerNorm(p.hidden)
        self.leave = Linear(p.hidden, p.out_channels * pixels, init=Init(weight=1e-5))

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """F(x, noise label); see ``Network.forward``.

        Raises:
            UsageError: the images have another size than the network was made for.
        """
        self._require_size(x)
        embedding = self._embed(noise, labels, augment)
        hidden = self._run(self.enter(x.flatten(1)), embedding, self.blocks)
        out = self.leave(functional.silu(self.norm(hidden)))
        return cast("Tensor", out.unflatten(1, (self.params.out_channels, *self.size)))

    def encode(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """Hidden features (B, hidden, 1, 1) after the first half of the blocks."""
        self._require_size(x)
        half = self.blocks[: (len(self.blocks) + 1) // 2]
        return self._run(self.enter(x.flatten(1)), self._embed(noise, labels, augment), half)[..., None, None]

    def _run(self, hidden: Tensor, embedding: Tensor, blocks: nn.ModuleList) -> Tensor:
        for block in blocks:
            hidden = block(hidden, embedding)
        return hidden

    def _require_size(self, x: Tensor) -> None:
        if tuple(x.shape[-2:]) != self.size:
            raise UsageError(
                f"network mlp was made for {self.size[0]}x{self.size[1]} images, these are "
                f"{x.shape[-2]}x{x.shape[-1]}: set network.resolution and network.width"
            )

    def _embed(self, noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        embedding = self.map_layer0(self.map_noise(noise))
        if self.map_label is not None:
            embedding = embedding + self.map_label(self.seen_labels(labels, noise.shape[0], noise.device))
        if self.map_augment is not None and augment is not None:
            embedding = embedding + self.map_augment(augment)
        return functional.silu(self.map_layer1(functional.silu(embedding)))

    @classmethod
    def example(cls) -> MLP:
        """Points in the plane as images of 1x2 pixels, with three classes."""
        params = MLPParams(
            resolution=1,
            width=2,
            in_channels=4,
            out_channels=2,
            label_dim=3,
            hidden=16,
            num_blocks=2,
            embedding=8,
        )
        return cls(params)
