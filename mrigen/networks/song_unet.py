"""DDPM++ and NCSN++ (Song et al. 2021) as EDM uses them (Karras et al. 2022, table 7)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mrigen.networks.base import NETWORKS, Count, NetworkParams
from mrigen.networks.blocks import FourierEmbedding, PositionalEmbedding, UNetBlock
from mrigen.networks.layers import XAVIER, Conv2d, GroupNorm, Init, Linear
from mrigen.networks.unet import BlockSettings, Multiplier, UNet, UNetParams, join

EPS = 1e-6
NEAR_ZERO = Init(weight=1e-5)


class SongUNetParams(UNetParams):
    """Architecture of a DDPM++ (the defaults) or NCSN++ network.

    Attributes:
        embedding_type: positional (DDPM++) or fourier (NCSN++).
        channel_mult_noise: 1 for DDPM++, 2 for NCSN++.
        encoder_type: standard (DDPM++), residual (NCSN++) or skip.
        decoder_type: standard or skip.
        resample_filter: (1, 1) for DDPM++, (1, 3, 3, 1) for NCSN++.
    """

    embedding_type: Literal["positional", "fourier"] = "positional"
    channel_mult_noise: Multiplier = 1
    encoder_type: Literal["standard", "skip", "residual"] = "standard"
    decoder_type: Literal["standard", "skip"] = "standard"
    resample_filter: Annotated[tuple[Count, ...], Field(min_length=2, max_length=16)] = (1, 1)

    @model_validator(mode="after")
    def _even(self) -> SongUNetParams:
        if len(self.resample_filter) % 2:
            raise ValueError("resample_filter must have an even number of taps, or sizes do not match")
        return self


@NETWORKS.register("song-unet")
class SongUNet(UNet):
    """The U-Net of Song et al. 2021 in EDM's parametrisation.

    With a skip or residual encoder the input is carried down beside the blocks and joins them after
    every halving; with a skip decoder every level adds its own output to the enlarged output of the
    level below.
    """

    Params: ClassVar[type[NetworkParams]] = SongUNetParams

    @property
    def song(self) -> SongUNetParams:
        """The parameters, as what they are here."""
        return cast("SongUNetParams", self.params)

    def _build_mapping(self) -> None:
        p = self.song
        embedding = p.model_channels * p.channel_mult_emb
        noise = p.model_channels * p.channel_mult_noise
        self.map_noise: nn.Module = (
            PositionalEmbedding(noise, endpoint=True)
            if p.embedding_type == "positional"
            else FourierEmbedding(noise)
        )
        self.map_label = Linear(p.label_dim, noise) if p.label_dim else None
        self.map_augment = Linear(p.augment_dim, noise, bias=False) if p.augment_dim else None
        self.map_layer0 = Linear(noise, embedding)
        self.map_layer1 = Linear(embedding, embedding)

    def _embed(self, noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        cosines, sines = self.map_noise(noise).chunk(2, 1)
        embedding = torch.cat([sines, cosines], 1)
        if self.map_label is not None:
            one_hot = self.seen_labels(labels, noise.shape[0], noise.device)
            embedding = embedding + self.map_label(one_hot * math.sqrt(self.song.label_dim))
        if self.map_augment is not None and augment is not None:
            embedding = embedding + self.map_augment(augment)
        embedding = functional.silu(self.map_layer0(embedding))
        return functional.silu(self.map_layer1(embedding))

    def _stem(self) -> tuple[int, Init]:
        return self.song.model_channels, XAVIER

    def _settings(self) -> BlockSettings:
        return {
            "dropout": self.song.dropout,
            "skip_scale": math.sqrt(0.5),
            "eps": EPS,
            "resample_filter": self.song.resample_filter,
            "resample_projection": True,
            "adaptive_scale": False,
            "gated": self.song.gated,
            "init_zero": NEAR_ZERO,
            "init_attention": Init(weight=math.sqrt(0.2)),
        }

    def _heads(self, channels: int) -> int:
        del channels
        return 1

    def _decoder_attends(self, level: int, index: int) -> bool:
        return index == self.song.num_blocks and self._attends(level)

    def _encoder_branch(self, level: int, channels: int) -> None:
        p, encoder = self.song, self.encoder
        inputs = p.in_channels * p.patch**2
        if p.encoder_type == "skip":
            encoder[f"level{level}_aux_down"] = Conv2d(
                inputs, inputs, 0, down=True, resample_filter=p.resample_filter
            )
            encoder[f"level{level}_aux_skip"] = Conv2d(inputs, channels, 1, gated=p.gated)
        if p.encoder_type == "residual":
            if level > 1:
                inputs = p.model_channels * p.channel_mult[level - 2]
            encoder[f"level{level}_aux_residual"] = Conv2d(
                inputs, channels, 3, down=True, resample_filter=p.resample_filter, fused=True, gated=p.gated
            )

    def _decoder_branch(self, level: int, channels: int) -> None:
        p, decoder = self.song, self.decoder
        outputs = p.out_channels * p.patch**2
        if p.decoder_type == "skip" and level < len(p.channel_mult) - 1:
            decoder[f"level{level}_aux_up"] = Conv2d(
                outputs, outputs, 0, up=True, resample_filter=p.resample_filter
            )
        if p.decoder_type == "skip" or level == 0:
            decoder[f"level{level}_aux_norm"] = GroupNorm(channels, EPS)
            decoder[f"level{level}_aux_conv"] = Conv2d(channels, outputs, 3, gated=p.gated, init=NEAR_ZERO)

    def _encode(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        carried = x
        for name, block in self.encoder.items():
            if name.endswith("aux_down"):
                carried = block(carried)
            elif name.endswith("aux_skip"):
                x = skips[-1] = x + block(carried)
            elif name.endswith("aux_residual"):
                x = skips[-1] = carried = (x + block(carried)) * math.sqrt(0.5)
            else:
                x = block(x, embedding) if isinstance(block, UNetBlock) else block(x)
                skips.append(x)
        return x, skips

    def _decode(self, x: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        out: Tensor | None = None
        normed = x
        for name, block in self.decoder.items():
            if name.endswith("aux_up"):
                out = block(out)
            elif name.endswith("aux_norm"):
                normed = functional.silu(block(x))
            elif name.endswith("aux_conv"):
                new = block(normed)
                out = new if out is None else new + out
            else:
                x = block(join(name, x, skips), embedding)
        return cast("Tensor", out)

    @classmethod
    def example(cls) -> SongUNet:
        """Two levels of eight channels."""
        params = SongUNetParams(
            resolution=8,
            in_channels=4,
            out_channels=2,
            model_channels=8,
            channel_mult=(1, 1),
            num_blocks=1,
            attn_resolutions=(4,),
            dropout=0.0,
            gated=True,
        )
        return cls(params)
