"""Layers against hand-computed values and explicit sums."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mrigen.errors import UsageError
from mrigen.networks.blocks import FourierEmbedding, PositionalEmbedding, UNetBlock
from mrigen.networks.layers import Conv2d, GroupNorm, Init, Linear, kaiming

from . import numpy_edm


def tensors(conv, x):
    return x.double().numpy(), conv.weight.detach().double().numpy(), conv.taps.double().numpy()


def test_box_filter_averages_and_repeats():
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert Conv2d(1, 1, 0, down=True)(x).item() == 4.0
    up = Conv2d(1, 1, 0, up=True)(x)
    assert torch.equal(up[0, 0, :2, :2], torch.full((2, 2), 1.0))
    assert torch.equal(up[0, 0, 2:, 2:], torch.full((2, 2), 7.0))


def test_wide_filter_by_hand():
    """(1, 3, 3, 1) / 8 on a unit step in one dimension, away from the edges."""
    row = torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1]).expand(1, 1, 8, 8)
    down = Conv2d(1, 1, 0, down=True, resample_filter=(1, 3, 3, 1))(row)[0, 0, 2]
    torch.testing.assert_close(down[1:3], torch.tensor([1 / 8, 7 / 8]))
    up = Conv2d(1, 1, 0, up=True, resample_filter=(1, 3, 3, 1))(row)[0, 0, 8]
    torch.testing.assert_close(up[6:10], torch.tensor([0.0, 0.25, 0.75, 1.0]))


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 5, 10, 10, 5, 1)])
def test_resampling_keeps_constants_inside(taps):
    x = torch.full((1, 2, 16, 16), 3.0)
    for direction in ("up", "down"):
        out = Conv2d(2, 2, 0, resample_filter=taps, **{direction: True})(x)
        torch.testing.assert_close(out[..., 3:-3, 3:-3], torch.full_like(out[..., 3:-3, 3:-3], 3.0))


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 2, 5, 1)])
def test_fused_halving_is_convolution_then_filter(taps):
    """One padding for both: the learned filter runs over the enlarged plane, the taps add none."""
    conv = Conv2d(2, 3, 3, down=True, fused=True, resample_filter=taps)
    x = torch.randn(1, 2, 8, 8)
    image, weight, kernel = tensors(conv, x)
    wide = numpy_edm.conv(image, weight, 1 + (len(taps) - 1) // 2)
    np.testing.assert_allclose(conv(x).detach(), numpy_edm.halve(wide, kernel, 0), atol=1e-5)
    assert conv(x).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 2, 5, 1)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_fused_doubling_shares_the_padding(taps, kernel):
    """Of the margins of both convolutions only their difference is cut off or padded."""
    conv = Conv2d(2, 3, kernel, up=True, fused=True, resample_filter=taps)
    x = torch.randn(1, 2, 4, 4)
    image, weight, square = tensors(conv, x)
    edge, pad = (len(taps) - 1) // 2, kernel // 2
    wide = numpy_edm.double(image, square, max(edge - pad, 0))
    np.testing.assert_allclose(conv(x).detach(), numpy_edm.conv(wide, weight, max(pad - edge, 0)), atol=1e-5)


def test_fused_and_separate_halving_differ_at_edges_only():
    plain = Conv2d(1, 1, 3, down=True, resample_filter=(1, 3, 3, 1))
    fused = Conv2d(1, 1, 3, down=True, resample_filter=(1, 3, 3, 1), fused=True)
    with torch.no_grad():
        for conv in (plain, fused):
            conv.weight.zero_()[0, 0, 1, 1] = 1  # the identity: only the filter is left
    x = torch.randn(1, 1, 12, 12)
    torch.testing.assert_close(plain(x)[..., 1:-1, 1:-1], fused(x)[..., 1:-1, 1:-1])


def test_gate_passes_the_sigmoid_twice():
    conv = Conv2d(1, 1, 1, gated=True)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([2.0, 0.5]).reshape(2, 1, 1, 1))
        conv.bias.fill_(0.25)
    gate = 1 / (1 + math.exp(-(1 / (1 + math.exp(-1.5)))))
    assert conv(torch.full((1, 1, 1, 1), 3.0)).item() == pytest.approx(6.0 * gate + 0.25, rel=1e-6)


def test_gated_convolution_is_one_convolution():
    """Twice the filters in a single call, whatever the resampling."""
    calls = []

    class Counter(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is functional.conv2d:
                calls.append(args[1].shape[0])
            return function(*args, **(kwargs or {}))

    with Counter():
        Conv2d(4, 6, 3, gated=True)(torch.randn(1, 4, 8, 8))
    assert calls == [12]


def test_positional_embedding_formula():
    """Frequencies from 1 to 1/10000: the last included for DDPM++, excluded for ADM."""
    noise = torch.tensor([0.7, 900.0])
    for endpoint, last in ((True, 1e-4), (False, 1e-4 ** (3 / 4))):
        out = PositionalEmbedding(8, endpoint=endpoint)(noise)
        torch.testing.assert_close(out[:, 0], noise.cos())
        torch.testing.assert_close(out[:, 4], noise.sin())
        torch.testing.assert_close(out[:, 3], (noise * last).cos(), atol=1e-5, rtol=0)
        torch.testing.assert_close(out[:, 7], (noise * last).sin(), atol=1e-5, rtol=0)


def test_fourier_embedding_formula():
    torch.manual_seed(0)
    embedding = FourierEmbedding(4096)
    assert embedding.frequencies.std().item() == pytest.approx(16, rel=0.05)
    assert "frequencies" in embedding.state_dict()
    out = embedding(torch.tensor([0.3]))[0]
    angle = 2 * math.pi * 0.3 * embedding.frequencies
    torch.testing.assert_close(out, torch.cat([angle.cos(), angle.sin()]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("channels", "groups"), [(2, 1), (8, 2), (100, 25), (256, 32)])
def test_group_norm_groups(channels, groups):
    assert GroupNorm(channels).num_groups == groups


def test_channels_that_do_not_split_into_groups_are_refused():
    with pytest.raises(UsageError, match="144 channels cannot be split into 32 groups"):
        GroupNorm(144)


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        (Init(), math.sqrt(6 / (300 + 200))),
        (Init(weight=1e-5), 1e-5 * math.sqrt(6 / (300 + 200))),
        (Init(kaiming, weight=math.sqrt(1 / 3)), math.sqrt(1 / 300)),
    ],
)
def test_first_weights_are_uniform_within_the_published_bounds(init, bound):
    torch.manual_seed(0)
    layer = Linear(300, 200, init=init)
    largest = layer.weight.detach().abs().max().item()
    assert 0.999 * bound < largest <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert not layer.bias.any()


def test_first_weights_of_convolutions_count_the_filter_area():
    torch.manual_seed(0)
    conv = Conv2d(16, 32, 3, gated=True)
    bound = math.sqrt(6 / (9 * (16 + 32)))
    for part in conv.weight.chunk(2):
        assert 0.99 * bound < part.detach().abs().max().item() <= bound
    biased = Conv2d(16, 32, 3, init=Init(kaiming, weight=math.sqrt(1 / 3), bias=math.sqrt(1 / 3)))
    assert 0 < biased.bias.detach().abs().max().item() <= math.sqrt(1 / (9 * 16))


def test_normal_first_weights():
    torch.manual_seed(0)
    layer = Linear(400, 300, bias=False, init=Init(kaiming, weight=2.0, uniform=False))
    assert layer.weight.std().item() == pytest.approx(2 / 20, rel=0.01)
    assert layer.weight.detach().abs().max().item() > 3 * 2 / 20


def test_attention_in_a_block_equals_a_loop():
    torch.manual_seed(0)
    block = UNetBlock(8, 8, 4, heads=2).eval()
    x = torch.randn(2, 8, 3, 5)
    with torch.no_grad():
        attended = block._attend(x)
        qkv = block.qkv(x).reshape(2, 2, 4, 3, 15)
        mixed = torch.zeros(2, 8, 15)
        for b in range(2):
            for head in range(2):
                for pixel in range(15):
                    query = qkv[b, head, :, 0, pixel]
                    weights = (query @ qkv[b, head, :, 1] / 2.0).softmax(0)
                    mixed[b, 4 * head : 4 * head + 4, pixel] = qkv[b, head, :, 2] @ weights
        torch.testing.assert_close(attended, block.proj(mixed.reshape(x.shape)), atol=1e-6, rtol=1e-5)


def test_channels_that_do_not_split_into_heads_are_refused():
    with pytest.raises(UsageError, match="cannot be split into 3 attention heads"):
        UNetBlock(200, 200, 4, heads=3)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("way", ["up", "down"])
def test_gpus_repeat_and_average_pixels_for_the_box_filter(way, fused, monkeypatch):
    torch.manual_seed(0)
    layer = Conv2d(3, 4, 3, resample_filter=(1, 1), fused=fused, **{way: True})
    x = torch.randn(2, 3, 6, 8, requires_grad=True)
    filtered = layer(x)
    (expected,) = torch.autograd.grad(filtered.square().sum(), x)
    monkeypatch.setattr(Conv2d, "_box", lambda self, x: self.box)
    found = layer(x)
    torch.testing.assert_close(found, filtered)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), x)[0], expected)
