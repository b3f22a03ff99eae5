"""DDPM++ and NCSN++ (Song et al. 2021) as EDM uses them (Karras et al. 2022, table 7)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mrigen.networks.base import NETWORKS, Count, Network, NetworkParams
from mrigen.networks.layers import (
    Conv2d,
    FourierEmbedding,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    UNetBlock,
)

Probability = Annotated[float, Field(ge=0, lt=1)]
EPS = 1e-6


class SongUNetParams(NetworkParams):
    """Architecture of a DDPM++ (the defaults) or NCSN++ network.

    Attributes:
        model_channels: channels at the highest resolution.
        channel_mult: factor on the channels per resolution, from the highest.
        channel_mult_emb: factor for the noise embedding's channels.
        num_blocks: residual blocks per resolution.
        attn_resolutions: heights at which blocks have self-attention.
        dropout: inside the residual blocks.
        label_dropout: probability of hiding the class label while training.
        embedding_type: positional (DDPM++) or fourier (NCSN++).
        channel_mult_noise: 1 for DDPM++, 2 for NCSN++.
        encoder_type: standard (DDPM++), residual (NCSN++) or skip.
        decoder_type: standard or skip.
        resample_filter: (1, 1) for DDPM++, (1, 3, 3, 1) for NCSN++.
        gated: gated convolutions, as in Ambient Diffusion.
        patch: pixels are regrouped in patch x patch blocks around the network, which then works at
            ``resolution`` / patch; 1 for none.
    """

    model_channels: Count = 128
    channel_mult: tuple[Count, ...] = (1, 2, 2, 2)
    channel_mult_emb: Count = 4
    num_blocks: Count = 4
    attn_resolutions: tuple[Count, ...] = (16,)
    dropout: Probability = 0.10
    label_dropout: Probability = 0.0
    embedding_type: Literal["positional", "fourier"] = "positional"
    channel_mult_noise: Count = 1
    encoder_type: Literal["standard", "skip", "residual"] = "standard"
    decoder_type: Literal["standard", "skip"] = "standard"
    resample_filter: tuple[Count, ...] = (1, 1)
    gated: bool = False
    patch: Count = 1


@NETWORKS.register("song-unet")
class SongUNet(Network):
    """The U-Net of Song et al. 2021 in EDM's parametrisation.

    Blocks are named by their level, ``level0`` being the highest resolution; skip connections join
    every encoder block with its decoder block.
    """

    Params: ClassVar[type[NetworkParams]] = SongUNetParams

    def __init__(self, params: NetworkParams) -> None:
        super().__init__(params)
        p = self.song = cast("SongUNetParams", params)
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
        self.encoder = nn.ModuleDict()
        self.decoder = nn.ModuleDict()
        self._build_decoder(self._build_encoder())

    def _block(self, inputs: int, outputs: int, *, attention: bool = False, **kwargs: bool) -> UNetBlock:
        p = self.song
        return UNetBlock(
            inputs,
            outputs,
            p.model_channels * p.channel_mult_emb,
            heads=int(attention),
            dropout=p.dropout,
            skip_scale=math.sqrt(0.5),
            eps=EPS,
            resample_filter=p.resample_filter,
            resample_projection=True,
            adaptive_scale=False,
            gated=p.gated,
            attention_gain=math.sqrt(0.2),
            zero_gain=1e-5,
            **kwargs,
        )

    def _attends(self, level: int) -> bool:
        return (self.song.resolution // self.song.patch >> level) in self.song.attn_resolutions

    def _build_encoder(self) -> list[int]:
        p, encoder = self.song, self.encoder
        inputs = auxiliary = p.in_channels * p.patch**2
        channels = p.model_channels
        skips = [channels]
        encoder["level0_conv"] = Conv2d(inputs, channels, 3, gated=p.gated)
        for level, mult in enumerate(p.channel_mult):
            if level > 0:
                encoder[f"level{level}_down"] = self._block(channels, channels, down=True)
                skips.append(channels)
                resample = {"down": True, "resample_filter": p.resample_filter, "gated": p.gated}
                if p.encoder_type == "skip":
                    encoder[f"level{level}_aux_down"] = Conv2d(auxiliary, auxiliary, 0, **resample)  # type: ignore[arg-type]
                    encoder[f"level{level}_aux_skip"] = Conv2d(auxiliary, channels, 1, gated=p.gated)
                if p.encoder_type == "residual":
                    encoder[f"level{level}_aux_residual"] = Conv2d(auxiliary, channels, 3, fused=True, **resample)  # type: ignore[arg-type]
                    auxiliary = channels
            for index in range(p.num_blocks):
                outputs = p.model_channels * mult
                block = self._block(channels, outputs, attention=self._attends(level))
                encoder[f"level{level}_block{index}"] = block
                channels = outputs
                skips.append(channels)
        return skips

    def _build_decoder(self, skips: list[int]) -> None:
        p, decoder = self.song, self.decoder
        outputs = p.out_channels * p.patch**2
        channels = skips[-1]
        last = len(p.channel_mult) - 1
        for level in range(last, -1, -1):
            if level == last:
                decoder[f"level{level}_in0"] = self._block(channels, channels, attention=True)
                decoder[f"level{level}_in1"] = self._block(channels, channels)
            else:
                decoder[f"level{level}_up"] = self._block(channels, channels, up=True)
            width = p.model_channels * p.channel_mult[level]
            for index in range(p.num_blocks + 1):
                attention = index == p.num_blocks and self._attends(level)
                block = self._block(channels + skips.pop(), width, attention=attention)
                decoder[f"level{level}_block{index}"] = block
                channels = width
            if p.decoder_type == "skip" and level < last:
                decoder[f"level{level}_aux_up"] = Conv2d(
                    outputs, outputs, 0, up=True, resample_filter=p.resample_filter
                )
            if p.decoder_type == "skip" or level == 0:
                decoder[f"level{level}_aux_norm"] = GroupNorm(channels, EPS)
                decoder[f"level{level}_aux_conv"] = Conv2d(channels, outputs, 3, gated=p.gated, gain=1e-5)

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """F(x, noise label); see ``Network.forward``."""
        patch = self.song.patch
        embedding = self._embed(noise, labels, augment).to(x.dtype)
        x, skips = self._encode(functional.pixel_unshuffle(x, patch), embedding)
        return functional.pixel_shuffle(self._decode(x, skips, embedding), patch)

    def _embed(self, noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        embedding = self.map_noise(noise)
        cosines, sines = embedding.chunk(2, 1)
        embedding = torch.cat([sines, cosines], 1)
        if self.map_label is not None:
            if labels is None:
                labels = embedding.new_zeros(1, self.song.label_dim)
            if self.training and self.song.label_dropout:
                shown = torch.rand(len(embedding), 1, device=embedding.device) >= self.song.label_dropout
                labels = labels * shown
            embedding = embedding + self.map_label(labels * math.sqrt(self.song.label_dim))
        if self.map_augment is not None and augment is not None:
            embedding = embedding + self.map_augment(augment)
        embedding = functional.silu(self.map_layer0(embedding))
        return functional.silu(self.map_layer1(embedding))

    def _encode(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        auxiliary = x
        for name, block in self.encoder.items():
            if name.endswith("aux_down"):
                auxiliary = block(auxiliary)
            elif name.endswith("aux_skip"):
                x = skips[-1] = x + block(auxiliary)
            elif name.endswith("aux_residual"):
                x = skips[-1] = auxiliary = (x + block(auxiliary)) * math.sqrt(0.5)
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
                if "_block" in name:
                    x = torch.cat([x, skips.pop()], 1)
                x = block(x, embedding)
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
