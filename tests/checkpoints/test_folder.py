"""Model folders: round trip, laziness, and errors that name the file and the remedy."""

import json
import subprocess
import sys

import pytest
import torch

import mrigen
from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription, read_description
from mrigen.checkpoints.folder import load_network, save_model, verify_model
from mrigen.errors import UsageError
from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.operators.inpainting import PixelMask

MRI = ChannelLayout()


def described(model, **changes):
    name = next(n for n in NETWORKS.names() if isinstance(model.network, NETWORKS[n]))
    kind = next(k for k in PRECONDITIONERS.names() if isinstance(model, PRECONDITIONERS[k]))
    values = {
        "network": {"name": name, **model.network.params.model_dump(mode="json")},
        "preconditioner": {"name": kind, **model.params.model_dump(mode="json")},
        "conventions": MRI,
        "image_shape": (1, 8, 8),
    }
    return ModelDescription(**values | changes)


def example(network="song-unet", precond="edm"):
    torch.manual_seed(3)
    return PRECONDITIONERS[precond].example(NETWORKS[network].example()).eval()


@pytest.mark.parametrize("network", NETWORKS.names())
@pytest.mark.parametrize("precond", ["edm", "iddpm"])
def test_round_trip(network, precond, tmp_path):
    conventions = ChannelLayout(image="real", image_channels=1, mask_channels=3, ones_channel=False)
    model = example(network, precond)
    save_model(tmp_path / "m", model, described(model, conventions=conventions, image_shape=(1, 8, 8)))
    loaded = load_network(tmp_path / "m")[0]
    assert not loaded.training
    size = (1, 2) if network == "mlp" else (8, 8)
    x, sigma = torch.randn(2, 4, *size), torch.tensor([0.1, 2.0])
    with torch.no_grad():
        assert torch.equal(loaded(x, sigma), model(x, sigma))
    verify_model(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["model.json", "model.safetensors"]


def test_description_survives(tmp_path):
    model = example()
    description = described(
        model,
        role="generator",
        sigma_init=2.5,
        later_sigmas=(0.5, 0.1),
        generator_input="full",
        objective={"name": "ambient"},
        corruption={"operator": "multicoil-mri", "mask": {"name": "exact-random"}, "sigma": 0.0},
        provenance={"source": "Größe ÷ 2"},
    )
    save_model(tmp_path, model, description)
    read = read_description(tmp_path)
    assert len(read.weights_sha256) == 64
    assert read.model_copy(update={"weights_sha256": ""}) == description


def test_half_precision_weights_are_stored_as_float32(tmp_path):
    model = example()
    save_model(tmp_path, model.to(torch.bfloat16), described(model))
    loaded = load_network(tmp_path)[0]
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.float())


def test_safetensors_package_reads_the_file(tmp_path):
    from safetensors.torch import load_file

    model = example()
    save_model(tmp_path, model, described(model))
    tensors = load_file(tmp_path / "model.safetensors")
    assert tensors.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensors[name], tensor)


def test_loaded_model_trains_without_touching_the_file(tmp_path):
    model = example()
    save_model(tmp_path, model, described(model))
    loaded = load_network(tmp_path)[0].train()
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded(torch.randn(1, 4, 8, 8), torch.tensor(1.0)).square().sum().backward()
    optimizer.step()
    name = "network.decoder.level0_aux_conv.weight"
    assert not torch.equal(loaded.state_dict()[name], model.state_dict()[name])
    verify_model(tmp_path)


def test_overwriting_keeps_other_files_and_a_loaded_model(tmp_path):
    first, second = example(), example(precond="vp")
    save_model(tmp_path, first, described(first))
    (tmp_path / "notes.txt").write_text("kept")
    loaded = load_network(tmp_path)[0]
    torch.nn.init.ones_(second.network.map_layer0.weight)
    save_model(tmp_path, second, described(second))
    assert (tmp_path / "notes.txt").read_text() == "kept"
    assert torch.equal(loaded.network.map_layer0.weight, first.network.map_layer0.weight)
    assert load_network(tmp_path)[0].network.map_layer0.weight.eq(1).all()


def test_denoiser_follows_the_conventions(tmp_path):
    """Complex in and out; the mask and the ones are put in from the description."""
    model = example()
    save_model(tmp_path, model, described(model))
    denoiser = mrigen.load(tmp_path).denoiser
    x = torch.randn(2, 1, 8, 8, dtype=torch.complex64)
    sigma = torch.tensor([0.5, 1.5])
    ones = torch.ones(2, 1, 8, 8)
    mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
    with torch.no_grad():
        further = PixelMask(mask.bool(), 1)
        for A_tilde, channel in ((None, ones), (further, mask)):
            seen = torch.cat([x.real, x.imag, channel, ones], 1)
            expected = model(seen, sigma)
            out = denoiser(x, sigma, A_tilde)
            torch.testing.assert_close(out.real, expected[:, :1])
            torch.testing.assert_close(out.imag, expected[:, 1:2])


LAZY = """
import sys, torch, mrigen.networks.song_unet
from pathlib import Path
from mrigen.checkpoints.folder import load_network
mrigen.networks.NETWORKS.names(), mrigen.networks.PRECONDITIONERS.names()
import safetensors.torch

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

before = resident()
model, _ = load_network(sys.argv[1])
ready = resident() - before
size = sum(t.numel() * 4 for t in model.state_dict().values())
for tensor in model.state_dict().values():
    tensor.sum()
print(ready / size, (resident() - before) / size)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="/proc tells the resident memory on Linux only"
)
def test_loading_is_lazy_and_costs_one_copy(tmp_path):
    """64 MB of weights: next to nothing is read on loading, and reading everything costs them once."""
    spec = {
        "name": "mlp",
        "resolution": 8,
        "in_channels": 1,
        "out_channels": 1,
        "hidden": 2000,
        "num_blocks": 1,
    }
    with torch.device("meta"):
        network = NETWORKS.build(spec)
    model = PRECONDITIONERS.build({"name": "edm"}, network=network.to_empty(device="cpu"))
    real = ChannelLayout(image="real", image_channels=1, mask_channels=0, ones_channel=False)
    save_model(tmp_path, model, described(model, conventions=real))
    command = [sys.executable, "-c", LAZY, str(tmp_path)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    ready, used = map(float, out)
    assert ready < 0.2
    assert used < 1.2


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("model.json", "{", "model.json cannot be read"),
        ("model.json", "[]", "not a model description"),
        ("model.json", "[" * 100_000, "model.json cannot be read"),
        ("model.json", '{"colour": 3}', "colour: unknown key"),
        ("model.safetensors", "junk", "model.safetensors is damaged"),
        ("model.safetensors", None, "model.safetensors is missing"),
        ("model.json", None, r"is not a model folder \(no model.json\)"),
    ],
)
def test_damaged_folders_are_refused(file, damage, message, tmp_path):
    model = example()
    save_model(tmp_path, model, described(model))
    if damage is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(damage)
    with pytest.raises(UsageError, match=message) as caught:
        load_network(tmp_path)[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network", {}, "network: give a mapping with a name"),
        ("network", {"name": "os.system"}, "unknown network 'os.system'"),
        ("network", {"name": "song-unet", "resolution": 8}, "in_channels"),
        ("preconditioner", {"name": "edm2"}, "unknown preconditioning"),
        ("preconditioner", {"name": "iddpm", "M": 10**12}, "M"),
        (
            "conventions",
            {"image": "real", "image_channels": 1, "mask_channels": 0, "ones_channel": False},
            "do not fit",
        ),
        ("conventions", {"image": "complex", "image_channels": 3}, "are not 3 network channels"),
        ("role", "generator", "sigma_init and generator_input"),
        ("later_sigmas", [0.5], "later_sigmas belong to generators"),
        ("schema_version", 2, "schema_version"),
        ("image_shape", [1, 0, 8], "image_shape"),
    ],
)
def test_impossible_descriptions_are_refused(key, value, message, tmp_path):
    model = example()
    save_model(tmp_path, model, described(model))
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UsageError, match=message) as caught:
        load_network(tmp_path)[0]
    assert "model.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["smaller", "unknown", "missing"])
def test_weights_of_another_model_are_refused(change, tmp_path):
    from safetensors.torch import load_file, save_file

    model = example()
    save_model(tmp_path, model, described(model))
    path = tmp_path / "model.safetensors"
    tensors = {k: v.clone() for k, v in load_file(path).items()}
    if change == "smaller":
        tensors["network.map_layer0.bias"] = torch.zeros(2)
    elif change == "unknown":
        tensors["network.map_layer9.bias"] = torch.zeros(2)
    else:
        del tensors["network.map_layer0.bias"]
    save_file(tensors, path)
    with pytest.raises(UsageError, match=r"network\.map_layer.\.bias"):
        load_network(tmp_path)[0]
    with pytest.raises(UsageError, match="checksum"):
        verify_model(tmp_path)


@pytest.mark.parametrize("suffix", [".pkl", ".pt"])
def test_a_pickle_is_answered_with_the_command_that_imports_it(suffix, tmp_path):
    path = tmp_path / f"network-snapshot{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match=r"run mrigen import-checkpoint .*network-snapshot"):
        load_network(path)[0]
