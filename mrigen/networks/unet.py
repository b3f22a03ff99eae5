"""The skeleton that the EDM U-Nets share: levels of residual blocks with skip connections."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, TypedDict, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mrigen.networks.base import Count, Network, NetworkParams, Probability
from mrigen.networks.blocks import UNetBlock
from mrigen.networks.layers import Conv2d, Init

Blocks = Annotated[int, Field(ge=1, le=64)]
Multiplier = Annotated[int, Field(ge=1, le=64)]


class UNetParams(NetworkParams):
    """Architecture that all U-Nets share.

    Attributes:
        model_channels: channels at the highest resolution, before multiplication.
        channel_mult: factor on the channels per resolution, from the highest.
        channel_mult_emb: factor for the noise embedding's channels.
        num_blocks: residual blocks per resolution.
        attn_resolutions: heights at which blocks have self-attention, for images as high as
            ``resolution``.
        dropout: inside the residual blocks.
        gated: gated convolutions, as in Ambient Diffusion.
        patch: pixels are regrouped in patch x patch blocks around the network, which then works at
            ``resolution`` / patch; 1 for none.
    """

    model_channels: Count = 128
    channel_mult: Annotated[tuple[Multiplier, ...], Field(min_length=1, max_length=12)] = (1, 2, 2, 2)
    channel_mult_emb: Multiplier = 4
    num_blocks: Blocks = 4
    attn_resolutions: Annotated[tuple[Count, ...], Field(max_length=12)] = (16,)
    dropout: Probability = 0.10
    gated: bool = False
    patch: Multiplier = 1

    @model_validator(mode="after")
    def _divisible(self) -> UNetParams:
        factor = self.patch * 2 ** (len(self.channel_mult) - 1)
        if self.resolution % factor:
            raise ValueError(
                f"resolution {self.resolution} is not a multiple of {factor}, "
                f"which {len(self.channel_mult)} levels and patch {self.patch} need"
            )
        return self


class BlockSettings(TypedDict, total=False):
    """Keyword arguments of ``UNetBlock`` that are the same in all blocks of a network."""

    dropout: float
    skip_scale: float
    eps: float
    resample_filter: tuple[int, ...]
    resample_projection: bool
    adaptive_scale: bool
    gated: bool
    init: Init
    init_zero: Init
    init_attention: Init


class UNet(Network):
    """Encoder and decoder of residual blocks, with a skip connection from every encoder block.

    Blocks are named by their level, ``level0`` being the highest resolution. A subclass says how the
    noise level is embedded, how wide the first convolution is, what its blocks look like and what
    surrounds them.
    """

    Params: ClassVar[type[NetworkParams]] = UNetParams

    def __init__(self, params: NetworkParams) -> None:
        super().__init__(params)
        self.layout = cast("UNetParams", params)
        self.encoder = nn.ModuleDict()
        self.decoder = nn.ModuleDict()
        self._build_mapping()
        self._build_decoder(self._build_encoder())

    @abstractmethod
    def _build_mapping(self) -> None:
        """Make the layers of the noise embedding."""

    @abstractmethod
    def _embed(self, noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        """Noise label (B,), class labels and augmentation labels to an embedding (B, channels)."""

    @abstractmethod
    def _stem(self) -> tuple[int, Init]:
        """Channels after the first convolution, and its first weights."""

    @abstractmethod
    def _settings(self) -> BlockSettings:
        """What all residual blocks share."""

    @abstractmethod
    def _heads(self, channels: int) -> int:
        """Attention heads of a block that attends."""

    @abstractmethod
    def _decoder_attends(self, level: int, index: int) -> bool:
        """Whether block ``index`` of a decoder level has self-attention."""

    def _encoder_branch(self, level: int, channels: int) -> None:
        """Add what goes beside the encoder after halving the resolution to ``level``."""

    def _decoder_branch(self, level: int, channels: int) -> None:
        """Add what goes beside the decoder after the blocks of ``level``."""

    def _attends(self, level: int) -> bool:
        return (self.layout.resolution // self.layout.patch >> level) in self.layout.attn_resolutions

    def _block(
        self, inputs: int, outputs: int, *, attention: bool = False, up: bool = False, down: bool = False
    ) -> UNetBlock:
        embedding = self.layout.model_channels * self.layout.channel_mult_emb
        heads = self._heads(outputs) if attention else 0
        return UNetBlock(inputs, outputs, embedding, heads=heads, up=up, down=down, **self._settings())

    def _build_encoder(self) -> list[int]:
        p, encoder = self.layout, self.encoder
        channels, init = self._stem()
        skips = [channels]
        encoder["level0_conv"] = Conv2d(p.in_channels * p.patch**2, channels, 3, gated=p.gated, init=init)
        for level, mult in enumerate(p.channel_mult):
            if level > 0:
                encoder[f"level{level}_down"] = self._block(channels, channels, down=True)
                skips.append(channels)
                self._encoder_branch(level, channels)
            for index in range(p.num_blocks):
                inputs, channels = channels, p.model_channels * mult
                block = self._block(inputs, channels, attention=self._attends(level))
                encoder[f"level{level}_block{index}"] = block
                skips.append(channels)
        return skips

    def _build_decoder(self, skips: list[int]) -> None:
        p, decoder = self.layout, self.decoder
        channels = skips[-1]
        last = len(p.channel_mult) - 1
        for level in range(last, -1, -1):
            if level == last:
                decoder[f"level{level}_in0"] = self._block(channels, channels, attention=True)
                decoder[f"level{level}_in1"] = self._block(channels, channels)
            else:
                decoder[f"level{level}_up"] = self._block(channels, channels, up=True)
            for index in range(p.num_blocks + 1):
                inputs, channels = channels + skips.pop(), p.model_channels * p.channel_mult[level]
                block = self._block(inputs, channels, attention=self._decoder_attends(level, index))
                decoder[f"level{level}_block{index}"] = block
            self._decoder_branch(level, channels)

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """F(x, noise label); see ``Network.forward``."""
        x, skips, embedding = self._enter(x, noise, labels, augment)
        return functional.pixel_shuffle(self._decode(x, skips, embedding), self.layout.patch)

    def encode(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """What the encoder hands to the decoder's first block, at the lowest resolution."""
        return self._enter(x, noise, labels, augment)[0]

    def _enter(
        self, x: Tensor, noise: Tensor, labels: Tensor | None, augment: Tensor | None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        embedding = self._embed(noise, labels, augment).to(x.dtype)
        x, skips = self._encode(functional.pixel_unshuffle(x, self.layout.patch), embedding)
        return x, skips, embedding

    def _encode(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        for block in self.encoder.values():
            x = block(x, embedding) if isinstance(block, UNetBlock) else block(x)
            skips.append(x)
        return x, skips

    def _decode(self, x: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        for name, block in self.decoder.items():
            x = block(join(name, x, skips), embedding)
        return x


def join(name: str, x: Tensor, skips: list[Tensor]) -> Tensor:
    """Input of a decoder block: the numbered ones take a skip connection as well."""
    return torch.cat([x, skips.pop()], 1) if "_block" in name else x
