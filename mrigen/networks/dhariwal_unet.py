"""The U-Net of ADM (Dhariwal and Nichol 2021) as EDM uses it (Karras et al. 2022, table 7)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, cast

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mrigen.networks.base import NETWORKS, Count, NetworkParams
from mrigen.networks.blocks import PositionalEmbedding
from mrigen.networks.layers import Conv2d, GroupNorm, Init, Linear, kaiming
from mrigen.networks.unet import Blocks, BlockSettings, Multiplier, UNet, UNetParams

CHANNELS_PER_HEAD = 64
KAIMING = Init(kaiming, weight=math.sqrt(1 / 3), bias=math.sqrt(1 / 3))
ZERO = Init(kaiming, weight=0.0)


class DhariwalUNetParams(UNetParams):
    """Architecture of an ADM network; the defaults are those of ImageNet-64."""

    model_channels: Count = 192
    channel_mult: Annotated[tuple[Multiplier, ...], Field(min_length=1, max_length=12)] = (1, 2, 3, 4)
    num_blocks: Blocks = 3
    attn_resolutions: Annotated[tuple[Count, ...], Field(max_length=12)] = (32, 16, 8)


@NETWORKS.register("dhariwal-unet")
class DhariwalUNet(UNet):
    """ADM: the embedding scales and shifts, and attention has one head per 64 channels."""

    Params: ClassVar[type[NetworkParams]] = DhariwalUNetParams

    def __init__(self, params: NetworkParams) -> None:
        super().__init__(params)
        p = cast("DhariwalUNetParams", params)
        channels = p.model_channels * p.channel_mult[0]
        self.out_norm = GroupNorm(channels)
        self.out_conv = Conv2d(channels, p.out_channels * p.patch**2, 3, gated=p.gated, init=ZERO)

    def _build_mapping(self) -> None:
        p = self.layout
        embedding = p.model_channels * p.channel_mult_emb
        self.map_noise = PositionalEmbedding(p.model_channels, endpoint=False)
        self.map_augment = (
            Linear(p.augment_dim, p.model_channels, bias=False, init=ZERO) if p.augment_dim else None
        )
        self.map_layer0 = Linear(p.model_channels, embedding, init=KAIMING)
        self.map_layer1 = Linear(embedding, embedding, init=KAIMING)
        one_hot = Init(kaiming, weight=math.sqrt(p.label_dim), uniform=False)
        self.map_label = Linear(p.label_dim, embedding, bias=False, init=one_hot) if p.label_dim else None

    def _embed(self, noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        embedding = self.map_noise(noise)
        if self.map_augment is not None and augment is not None:
            embedding = embedding + self.map_augment(augment)
        embedding = self.map_layer1(functional.silu(self.map_layer0(embedding)))
        if self.map_label is not None:
            embedding = embedding + self.map_label(self.seen_labels(labels, noise.shape[0], noise.device))
        return functional.silu(embedding)

    def _stem(self) -> tuple[int, Init]:
        return self.layout.model_channels * self.layout.channel_mult[0], KAIMING

    def _settings(self) -> BlockSettings:
        return {
            "dropout": self.layout.dropout,
            "gated": self.layout.gated,
            "init": KAIMING,
            "init_zero": ZERO,
            "init_attention": KAIMING,
        }

    def _heads(self, channels: int) -> int:
        return channels // CHANNELS_PER_HEAD

    def _decoder_attends(self, level: int, index: int) -> bool:
        del index
        return self._attends(level)

    def _decode(self, x: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        x = super()._decode(x, skips, embedding)
        return self.out_conv(functional.silu(self.out_norm(x)))  # type: ignore[no-any-return]

    @classmethod
    def example(cls) -> DhariwalUNet:
        """Two levels, the lower with two attention heads, and three classes."""
        params = DhariwalUNetParams(
            resolution=8,
            in_channels=4,
            out_channels=2,
            label_dim=3,
            model_channels=64,
            channel_mult=(1, 2),
            num_blocks=1,
            attn_resolutions=(4,),
            dropout=0.0,
        )
        return cls(params)
