"""Memory of a training, estimated without allocating it."""

import pytest
import torch
from tiny_jobs import tiny_denoiser
from torch.autograd.graph import saved_tensors_hooks

from mrigen.checkpoints.description import ModelDescription
from mrigen.engine import footprint
from mrigen.engine.footprint import (
    PIXEL,
    Footprint,
    _LiveBytes,
    batch_that_fits,
    forward_bytes,
    free_memory,
    require_memory,
)
from mrigen.engine.params import RunParams
from mrigen.errors import UsageError
from mrigen.memory import available
from mrigen.networks import NETWORKS, PRECONDITIONERS

UNIT = Footprint(parameters=1000, activations=2000)  # 20 kB to train with an average, 1 kB an image


def described(**network):
    network = {"name": "song-unet", "resolution": 16, "in_channels": 4, "out_channels": 2, **network}
    return ModelDescription(
        network=NETWORKS.freeze(network),
        preconditioner=PRECONDITIONERS.freeze({"name": "edm"}),
        conventions=tiny_denoiser().conventions,
        image_shape=(1, 16, 16),
    )


@pytest.mark.parametrize("channels", [8, 16])
def test_activations_are_those_of_a_real_forward_pass(channels):
    """The kernels of the processor keep the same, to a few per cent, for every image of a batch."""
    description = described(model_channels=channels, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[8])
    network = NETWORKS.build(description.network)
    model = PRECONDITIONERS.build(description.preconditioner, network=network).train()
    own = {id(parameter.untyped_storage()) for parameter in model.parameters()}

    def kept(batch):
        storages = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            storages[id(storage)] = storage
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            model(torch.randn(batch, 4, 16, 16), torch.ones(batch))
        return sum(storage.nbytes() for key, storage in storages.items() if key not in own)

    found = Footprint.of(description, 16, 16)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.activations == pytest.approx(kept(3) / 3, rel=0.1)
    assert Footprint.of(description, 32, 16).activations == pytest.approx(2 * found.activations, rel=0.1)


def test_absurd_networks_are_measured_without_memory():
    """Half a terabyte of weights."""
    before = available()
    found = Footprint.of(described(model_channels=8192, channel_mult=[8], num_blocks=2), 16, 16)
    assert found.parameters > 1e11
    assert found.activations > 1e8
    assert available() > before - (1 << 30)


@pytest.mark.parametrize(
    ("params", "free", "message"),
    [
        ({"batch": 10}, 29_000, "10 images at once need at least 30.3 kB, and 29 kB are free"),
        ({"batch": 10}, 29_000, "micro_batch=5 .in Python micro_batch=5., or lower teacher.batch"),
        ({"batch": 10**9}, 29_000, "--set teacher.micro_batch=8 .in Python micro_batch=8., or"),
        ({"batch": 10**6, "micro_batch": 1}, 10**8, "1,000,000 micro-batches a step need at least 300 MB"),
        ({"batch": 1}, 20_500, "a network of 1,000 parameters needs at least 21 kB"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(params, free, message):
    with pytest.raises(UsageError, match=message) as raised:
        require_memory("teacher", RunParams(images=1, **params), UNIT, free, frozen=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("params", "free", "networks"),
    [
        ({"batch": 9}, 29_300, {"frozen": 1}),
        ({"batch": 10, "micro_batch": 5}, 26_000, {"frozen": 1}),
        ({"batch": 9}, 29_300 + 28_000, {"frozen": 4, "trained": 2}),
        ({"batch": 9}, 29_300 - 8_000, {"frozen": 1, "sharded": 2}),
    ],
)
def test_what_may_fit_is_let_through(params, free, networks):
    require_memory("teacher", RunParams(images=1, **params), UNIT, free, **networks)
    with pytest.raises(UsageError, match="at once"):
        require_memory("teacher", RunParams(images=1, **params), UNIT, free - 1000, **networks)


def test_free_memory_is_shared_by_the_processes_of_a_node(monkeypatch):
    monkeypatch.setattr("mrigen.engine.footprint.available", lambda: 1000)
    assert free_memory(torch.device("cpu")) == 1000
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(torch.device("cpu")) == 250


def test_live_bytes_are_those_held_at_once():
    """Two of three arrays at a time, then all three; a view holds nothing of its own."""
    live = _LiveBytes()
    with live:
        a = torch.empty(100)
        b = a * 2
        del a
        c = b.view(10, 10) + 1
    assert live.most == 800
    with live:
        d = c + b.view(10, 10)
    assert live.most == 1200
    del d


def test_a_forward_pass_without_gradients_holds_less():
    """At least its input and two results of one layer, and less than what a gradient keeps."""
    description = described(model_channels=16, channel_mult=[1, 2], num_blocks=2, attn_resolutions=[])
    found, kept = forward_bytes(description, 32, 32), Footprint.of(description, 32, 32).activations
    assert 4 * 32 * 32 * (4 + 2 * 16) <= found < kept / 2
    assert 2 * found <= forward_bytes(description, 64, 32) <= 4 * found  # attention grows with the square


@pytest.mark.parametrize(("share", "expected"), [(0.3, 1), (1.1, 1), (7.9, 4), (8.1, 8), (101.0, 100)])
def test_a_batch_fills_half_of_the_free_memory(share, expected, monkeypatch):
    description = described(model_channels=8, channel_mult=[1], num_blocks=1, attn_resolutions=[])
    image = PIXEL * 16 * 16 + forward_bytes(description, 16, 16)
    monkeypatch.setattr(footprint, "free_memory", lambda device: int(2 * share * image))
    device = torch.device("cpu")
    assert batch_that_fits(description, (1, 16, 16), device, 100) == expected
    fewer = batch_that_fits(description, (1, 16, 16), device, 100, differentiated=True)
    assert fewer <= expected
