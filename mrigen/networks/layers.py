"""Layers of the EDM networks (Karras et al. 2022, appendix F.2; resampling after StyleGAN2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """Linear layer with Xavier-uniform weights scaled by ``gain`` and zero bias."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__(inputs, outputs, bias=bias)
        nn.init.xavier_uniform_(self.weight, gain)
        if bias:
            nn.init.zeros_(self.bias)


class Conv2d(nn.Module):
    """Convolution with optional 2x resampling and optional gating.

    A gated convolution is f · sigmoid(sigmoid(g)) + bias, where f and g are two convolutions of the
    same input; the released Ambient Diffusion networks apply the sigmoid twice. Both run as one
    convolution of 2 · ``outputs`` channels; ``weight`` holds the filters of f first, those of g last.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: filter width; 0 for pure resampling.
        up: double height and width first.
        down: halve height and width first.
        resample_filter: one-dimensional resampling filter, normalised here.
        fused: resample and convolve as EDM's residual encoder does it, with a single padding.
        gated: multiply by a learned gate.
        gain: scale of the Xavier-uniform initialisation.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        up: bool = False,
        down: bool = False,
        resample_filter: tuple[int, ...] = (1, 1),
        fused: bool = False,
        gated: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernel, self.up, self.down, self.fused = kernel, up, down, fused
        self.gated = gated and kernel > 0
        if kernel:
            filters = torch.empty(2 if self.gated else 1, outputs, inputs, kernel, kernel)
            for part in filters:
                nn.init.xavier_uniform_(part, gain)
            self.weight = nn.Parameter(filters.flatten(0, 1))
            self.bias = nn.Parameter(torch.zeros(outputs))
        if up or down:
            taps = torch.tensor(resample_filter, dtype=torch.float32)
            taps = torch.outer(taps, taps) / taps.sum() ** 2
            self.register_buffer("taps", taps, persistent=False)
            self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H', W')."""
        pad = self.kernel // 2
        if self.up or self.down:
            x, pad = self._resample(x, pad)
        if not self.kernel:
            return x
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if not self.gated:
            return functional.conv2d(x, weight, bias, padding=pad)
        features, gate = functional.conv2d(x, weight, padding=pad).chunk(2, 1)
        return torch.addcmul(bias[:, None, None], features, gate.sigmoid().sigmoid())

    def _resample(self, x: Tensor, pad: int) -> tuple[Tensor, int]:
        taps = self.taps.to(x.dtype).expand(self.inputs, 1, -1, -1)  # type: ignore[operator]
        edge = (taps.shape[-1] - 1) // 2
        if self.fused and self.up:
            x = functional.conv_transpose2d(
                x, taps * 4, groups=self.inputs, stride=2, padding=max(edge - pad, 0)
            )
            return x, max(pad - edge, 0)
        if self.up:
            return functional.conv_transpose2d(x, taps * 4, groups=self.inputs, stride=2, padding=edge), pad
        return functional.conv2d(x, taps, groups=self.inputs, stride=2, padding=edge), pad


class GroupNorm(nn.GroupNorm):
    """Group normalisation with up to 32 groups of at least four channels."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(max(1, min(32, channels // 4)), channels, eps)


class PositionalEmbedding(nn.Module):
    """cos and sin of the noise label at geometric frequencies 1 ... 1/10000 (DDPM)."""

    def __init__(self, channels: int, *, endpoint: bool) -> None:
        super().__init__()
        half = channels // 2
        steps = torch.arange(half, dtype=torch.float32) / (half - int(endpoint))
        self.register_buffer("frequencies", (1 / 10000) ** steps, persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        """(B,) to (B, channels): cosines, then sines."""
        angle = noise.outer(self.frequencies.to(noise.dtype))  # type: ignore[operator]
        return torch.cat([angle.cos(), angle.sin()], 1)


class FourierEmbedding(nn.Module):
    """cos and sin of the noise label at random frequencies N(0, 16²), fixed with the model (NCSN++)."""

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(channels // 2) * scale)

    def forward(self, noise: Tensor) -> Tensor:
        """(B,) to (B, channels): cosines, then sines."""
        angle = noise.outer(2 * math.pi * self.frequencies.to(noise.dtype))  # type: ignore[operator]
        return torch.cat([angle.cos(), angle.sin()], 1)


class UNetBlock(nn.Module):
    """Residual block with noise embedding and optional self-attention (EDM, figure 9).

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
        attention_gain: initialisation scale of the attention's query, key and value.
        zero_gain: initialisation scale of layers that start near zero.
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
        attention_gain: float = 1.0,
        zero_gain: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.heads, self.dropout, self.skip_scale = heads, dropout, skip_scale
        self.adaptive_scale = adaptive_scale
        resample = {"up": up, "down": down, "resample_filter": resample_filter}
        self.norm0 = GroupNorm(inputs, eps)
        self.conv0 = Conv2d(inputs, outputs, 3, gated=gated, **resample)  # type: ignore[arg-type]
        self.affine = Linear(embedding, outputs * (2 if adaptive_scale else 1))
        self.norm1 = GroupNorm(outputs, eps)
        self.conv1 = Conv2d(outputs, outputs, 3, gated=gated, gain=zero_gain)
        self.skip: Conv2d | None = None
        if inputs != outputs or up or down:
            kernel = 1 if resample_projection or inputs != outputs else 0
            self.skip = Conv2d(inputs, outputs, kernel, gated=gated, **resample)  # type: ignore[arg-type]
        if heads:
            self.norm2 = GroupNorm(outputs, eps)
            self.qkv = Conv2d(outputs, 3 * outputs, 1, gated=gated, gain=attention_gain)
            self.proj = Conv2d(outputs, outputs, 1, gated=gated, gain=zero_gain)

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
        query, key, value = (part.transpose(-1, -2) for part in qkv.unbind(3))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(-1, -2).reshape(x.shape))  # type: ignore[no-any-return]
