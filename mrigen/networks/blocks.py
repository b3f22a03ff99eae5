"""Noise embeddings and the residual block of the EDM networks (Karras et al. 2022, figure 9)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mrigen.errors import UsageError
from mrigen.networks.layers import XAVIER, Conv2d, GroupNorm, Init, Linear


class PositionalEmbedding(nn.Module):
    """cos and sin of the noise label at geometric frequencies from 1 to 1/10000 (DDPM, ADM).

    Args:
        channels: size of the embedding, even.
        endpoint: the last frequency is 1/10000 itself (DDPM++) instead of the one before it (ADM).
    """

    frequencies: Tensor

    def __init__(self, channels: int, *, endpoint: bool) -> None:
        super().__init__()
        half = channels // 2
        # On the CPU even under torch.device("meta"): a checkpoint does not hold this constant.
        steps = torch.arange(half, dtype=torch.float32, device="cpu") / (half - int(endpoint))
        self.register_buffer("frequencies", (1 / 10000) ** steps, persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        """(B,) to (B, channels): cosines, then sines."""
        angle = noise.outer(self.frequencies.to(noise.dtype))
        return torch.cat([angle.cos(), angle.sin()], 1)


class FourierEmbedding(nn.Module):
    """cos and sin of the noise label at random frequencies N(0, 16²), fixed with the model (NCSN++)."""

    frequencies: Tensor

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(channels // 2) * scale)

    def forward(self, noise: Tensor) -> Tensor:
        """(B,) to (B, channels): cosines, then sines."""
        angle = noise.outer(2 * math.pi * self.frequencies.to(noise.dtype))
        return torch.cat([angle.cos(), angle.sin()], 1)


class UNetBlock(nn.Module):
    """Residual block with noise embedding and optional self-attention.

    Args:
        inputs: input channels.
        outputs: output channels.
        embedding: channels of the noise embedding.
        up: double the resolution.
        down: halve the resolution.
        heads: attention heads, 0 for no attention.
        dropout: probability of dropping a feature before the second convolution.
        skip_scale: factor on the sum of both branches.
        eps: of the group normalisations.
        resample_filter: one-dimensional resampling filter.
        resample_projection: 1x1 convolution on the skip branch when only the resolution changes.
        adaptive_scale: the embedding scales and shifts (ADM) instead of shifting only.
        gated: gated convolutions.
        init: first weights of most layers.
        init_zero: first weights of the layers that end a branch.
        init_attention: first weights of the attention's query, key and value.

    Raises:
        UsageError: the channels cannot be split into that many heads.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        *,
        up: bool = False,
        down: bool = False,
        heads: int = 0,
        dropout: float = 0.0,
        skip_scale: float = 1.0,
        eps: float = 1e-5,
        resample_filter: tuple[int, ...] = (1, 1),
        resample_projection: bool = False,
        adaptive_scale: bool = True,
        gated: bool = False,
        init: Init = XAVIER,
        init_zero: Init = XAVIER,
        init_attention: Init = XAVIER,
    ) -> None:
        super().__init__()
        if heads and outputs % heads:
            raise UsageError(f"{outputs} channels cannot be split into {heads} attention heads of 64 or more")
        self.heads, self.dropout, self.skip_scale = heads, dropout, skip_scale
        self.adaptive_scale = adaptive_scale
        conv = partial(Conv2d, gated=gated, init=init)
        resample = partial(conv, up=up, down=down, resample_filter=resample_filter)
        self.norm0 = GroupNorm(inputs, eps)
        self.conv0 = resample(inputs, outputs, 3)
        self.affine = Linear(embedding, outputs * (2 if adaptive_scale else 1), init=init)
        self.norm1 = GroupNorm(outputs, eps)
        self.conv1 = conv(outputs, outputs, 3, init=init_zero)
        self.skip: Conv2d | None = None
        if inputs != outputs or up or down:
            kernel = 1 if resample_projection or inputs != outputs else 0
            self.skip = resample(inputs, outputs, kernel)
        if heads:
            self.norm2 = GroupNorm(outputs, eps)
            self.qkv = conv(outputs, 3 * outputs, 1, init=init_attention)
            self.proj = conv(outputs, outputs, 1, init=init_zero)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, embedding) to (B, outputs, H', W')."""
        residual = x if self.skip is None else self.skip(x)
        x = self.conv0(functional.silu(self.norm0(x)))
        shift = self.affine(embedding)[:, :, None, None].to(x.dtype)
        if self.adaptive_scale:
            scale, shift = shift.chunk(2, 1)
            x = functional.silu(torch.addcmul(shift, self.norm1(x), scale + 1))
        else:
            x = functional.silu(self.norm1(x + shift))
        x = self.conv1(functional.dropout(x, self.dropout, self.training))
        x = (x + residual) * self.skip_scale
        return (self._attend(self.norm2(x)) + x) * self.skip_scale if self.heads else x

    def _attend(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(x).reshape(batch, self.heads, channels // self.heads, 3, height * width)
        query, key, value = (part.transpose(-1, -2).contiguous() for part in qkv.unbind(3))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(-1, -2).reshape(x.shape))  # type: ignore[no-any-return]


def activation_checkpointing(network: nn.Module) -> nn.Module:
    """The network, changed to keep only the inputs of its blocks for a gradient.

    What happens inside a block is computed again when its gradient is wanted (Chen et al. 2016), which takes
    about a third more time. Values and gradients stay the same where nothing is dropped at random.

    Args:
        network: in evaluation mode; blocks that were changed before, and networks without U-Net blocks, stay
            as they are.
    """
    for block in network.modules():
        if isinstance(block, UNetBlock) and not isinstance(block.forward, partial):
            block.forward = partial(_again, block.forward)  # type: ignore[method-assign]
    return network


def _again(forward: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*arguments)
    output: Tensor = checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False)
    return output
