"""Linear, convolution and normalisation layers of the EDM networks (Karras et al. 2022, appendix F.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mrigen.errors import UsageError


def xavier(fan_in: int, fan_out: int) -> float:
    """Standard deviation √(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return math.sqrt(2 / (fan_in + fan_out))


def kaiming(fan_in: int, fan_out: int) -> float:
    """Standard deviation √(1 / fan_in) (He et al. 2015, for linear units)."""
    del fan_out
    return math.sqrt(1 / fan_in)


@dataclass(frozen=True)
class Init:
    """Distribution of a layer's first weights.

    Attributes:
        std: standard deviation from fan-in and fan-out, before scaling.
        weight: scale of the weights.
        bias: scale of the biases, which are drawn like the weights.
        uniform: uniform on ±√3 std instead of normal.
    """

    std: Callable[[int, int], float] = xavier
    weight: float = 1.0
    bias: float = 0.0
    uniform: bool = True

    def draw(self, tensor: Tensor, fan_in: int, fan_out: int, scale: float) -> None:
        """Fill ``tensor`` in place."""
        std = self.std(fan_in, fan_out) * scale
        if self.uniform:
            nn.init.uniform_(tensor, -math.sqrt(3) * std, math.sqrt(3) * std)
        else:
            nn.init.normal_(tensor, 0.0, std)


XAVIER = Init()


class Linear(nn.Linear):
    """Linear layer with its weights drawn by ``init``."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, init: Init = XAVIER) -> None:
        super().__init__(inputs, outputs, bias=bias)
        init.draw(self.weight, inputs, outputs, init.weight)
        if bias:
            init.draw(self.bias, inputs, outputs, init.bias)


class Conv2d(nn.Module):
    """Convolution with optional 2x resampling and optional gating.

    A gated convolution is f · sigmoid(sigmoid(g)) + bias, where f and g are two convolutions of the
    same input; the released Ambient Diffusion networks apply the sigmoid twice. Both run as one
    convolution of 2 · ``outputs`` channels; ``weight`` holds the filters of f first, those of g last.

    Resampling convolves with the outer product of the normalised taps, as in StyleGAN2. ``fused``
    resampling pads once for both convolutions, and halving then comes after the learned one (and its
    gate): the way of the residual encoder.

    Args:
        inputs: input channels.
        outputs: output channels; equal to ``inputs`` for pure resampling.
        kernel: filter width; 0 for pure resampling.
        up: double height and width first.
        down: halve height and width first.
        resample_filter: one-dimensional resampling filter, normalised here.
        fused: resample and convolve with a single padding.
        gated: multiply by a learned gate.
        init: distribution of the first weights.
    """

    taps: Tensor

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
        init: Init = XAVIER,
    ) -> None:
        super().__init__()
        self.kernel, self.up, self.down = kernel, up, down
        self.fused = fused and kernel > 0
        self.gated = gated and kernel > 0
        if kernel:
            area = kernel**2
            parts = 2 if self.gated else 1
            self.weight = nn.Parameter(torch.empty(parts * outputs, inputs, kernel, kernel))
            self.bias = nn.Parameter(torch.empty(outputs))
            init.draw(self.weight, inputs * area, outputs * area, init.weight)
            init.draw(self.bias, inputs * area, outputs * area, init.bias)
        if up or down:
            # On the CPU even under torch.device("meta"): a checkpoint does not hold this constant.
            taps = torch.tensor(resample_filter, dtype=torch.float32, device="cpu")
            self.register_buffer("taps", torch.outer(taps, taps) / taps.sum() ** 2, persistent=False)
            self.edge = (len(resample_filter) - 1) // 2
            self.box = len(resample_filter) == 2 and len(set(resample_filter)) == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H', W')."""
        pad = self.kernel // 2
        if self.up:
            x = self._double(x, max(self.edge - pad, 0) if self.fused else self.edge)
            return self._convolve(x, max(pad - self.edge, 0) if self.fused else pad)
        if self.down and self.fused:
            return self._halve(self._convolve(x, pad + self.edge), 0)
        if self.down:
            x = self._halve(x, self.edge)
        return self._convolve(x, pad)

    def _double(self, x: Tensor, margin: int) -> Tensor:
        if self._box(x):  # channels last; what repeats adds up in one order in the gradient
            batch, channels, height, width = x.shape
            pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(-1, -1, 2, -1, 2, -1)
            return pixels.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
        weight = 4 * self._taps(x)
        return functional.conv_transpose2d(x, weight, groups=x.shape[1], stride=2, padding=margin)

    def _halve(self, x: Tensor, padding: int) -> Tensor:
        if self._box(x):
            return functional.avg_pool2d(x, 2)
        return functional.conv2d(x, self._taps(x), groups=x.shape[1], stride=2, padding=padding)

    def _box(self, x: Tensor) -> bool:
        """Whether to repeat or average pixels instead of filtering by (1, 1), which GPUs do slowly."""
        return x.is_cuda and self.box

    def _taps(self, x: Tensor) -> Tensor:
        return self.taps.to(x.dtype).expand(x.shape[1], 1, -1, -1)

    def _convolve(self, x: Tensor, pad: int) -> Tensor:
        if not self.kernel:
            return x
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if not self.gated:
            return functional.conv2d(x, weight, bias, padding=pad)
        features, gate = functional.conv2d(x, weight, padding=pad).chunk(2, 1)
        return torch.addcmul(bias[:, None, None].to(features.dtype), features, gate.sigmoid().sigmoid())


class GroupNorm(nn.GroupNorm):
    """Group normalisation with up to 32 groups of at least four channels.

    Raises:
        UsageError: the channels cannot be split into that many groups.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        groups = max(1, min(32, channels // 4))
        if channels % groups:
            raise UsageError(
                f"{channels} channels cannot be split into {groups} groups: make them a multiple of 32"
            )
        super().__init__(groups, channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x in the precision of x; sums are float32 in any case.

        Autocast would return float32 and let everything up to the next convolution run in it.
        """
        if x.dtype not in {torch.bfloat16, torch.float16}:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return functional.group_norm(x, self.num_groups, weight, bias, self.eps)
