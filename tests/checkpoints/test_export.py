"""Exported files give the images of the model."""

import json
import warnings

import numpy as np
import pytest
import torch

from mrigen.channels import ChannelLayout
from mrigen.checkpoints.export import export, released_weights
from mrigen.checkpoints.folder import load_network, save_model
from mrigen.checkpoints.importer import import_checkpoint
from mrigen.cli.main import run as cli
from mrigen.errors import UsageError
from mrigen.networks import NETWORKS, PRECONDITIONERS

from .test_folder import described
from .written import assert_same, make_model, options

SIGMA = 1.75
RGB = ChannelLayout(image="real", image_channels=3, mask_channels=0, ones_channel=False)


def generator(folder, conventions=RGB, shape=(3, 8, 8), generator_input="full", later_sigmas=(), **config):
    model = make_model(**config)
    description = described(
        model,
        conventions=conventions,
        image_shape=shape,
        role="generator",
        sigma_init=SIGMA,
        generator_input=generator_input,
        later_sigmas=later_sigmas,
    )
    save_model(folder, model, description)
    return model


def by_hand(model, z, labels=None, extra=0):
    ones = torch.ones(len(z), extra, *z.shape[2:])
    with torch.no_grad():
        out = model(torch.cat([SIGMA * z, ones], 1), torch.full((len(z),), SIGMA), labels)
    return out[:, : z.shape[1]].numpy()


@pytest.mark.parametrize("kind", ["torchscript", "onnx"])
def test_conditional_complex_generator(kind, tmp_path):
    """MRI: mask and ones channel are baked in as ones, real and imaginary part come out; any batch size."""
    config = {
        "in_channels": 4,
        "out_channels": 4,
        "gated": True,
        "label_dim": 4,
        "resample_filter": (1, 3, 3, 1),
        "channel_mult": (1, 1),
    }
    model = generator(tmp_path / "g", ChannelLayout(), (1, 8, 8), **config)
    assert export(tmp_path / "g", kind, tmp_path / "file") < 1e-4
    z, labels = torch.randn(5, 2, 8, 8), torch.eye(4)[[3, 1, 0, 0, 2]]
    out = run(kind, tmp_path / "file", {"z": z, "labels": labels})
    assert out.shape == (5, 2, 8, 8)
    np.testing.assert_allclose(out, by_hand(model, z, labels, extra=2), atol=1e-4)


def test_unconditional_photographs(tmp_path):
    model = generator(tmp_path / "g")
    export(tmp_path / "g", "torchscript", tmp_path / "file")
    z = torch.randn(1, 3, 8, 8)
    np.testing.assert_allclose(run("torchscript", tmp_path / "file", {"z": z}), by_hand(model, z), atol=1e-4)


def run(kind, path, inputs):
    if kind == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advertises its other formats
            module = torch.jit.load(str(path))
        with torch.no_grad():
            return module(*inputs.values()).numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == list(inputs)
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


def test_safetensors_has_the_released_names_and_imports_again(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file

    model = generator(tmp_path / "g", gated=True, encoder_type="residual")
    assert export(tmp_path / "g", "safetensors", tmp_path / "file.safetensors") is None
    tensors = load_file(tmp_path / "file.safetensors")
    assert tensors["model.enc.8x8_conv.gate_weight"].shape == tensors["model.enc.8x8_conv.weight"].shape
    assert tensors["model.enc.4x4_aux_residual.resample_filter"].shape == (1, 1, 2, 2)
    with safe_open(tmp_path / "file.safetensors", "pt") as file:
        assert json.loads(file.metadata()["mrigen"])["sigma_init"] == SIGMA
    torch.save({"ema": tensors}, tmp_path / "again.pt")
    (tmp_path / "training_options.json").write_text(json.dumps(options(model)))
    import_checkpoint(tmp_path / "again.pt", tmp_path / "again")

    assert_same(model, load_network(tmp_path / "again")[0])


@pytest.mark.parametrize("role", ["teacher", "generator"])
def test_an_export_imports_itself(role, tmp_path):
    """Its metadata hold the whole description: no training options are needed, and none are looked at."""
    if role == "teacher":
        model = make_model(gated=True)
        save_model(tmp_path / "g", model, described(model, conventions=RGB, image_shape=(3, 8, 8)))
    else:
        model = generator(tmp_path / "g", later_sigmas=(0.4,))
    export(tmp_path / "g", "safetensors", tmp_path / "x.safetensors")
    (tmp_path / "training_options.json").write_text("{}")
    assert cli(["import-checkpoint", str(tmp_path / "x.safetensors"), str(tmp_path / "back")]) == 0
    imported, description = load_network(tmp_path / "back")
    assert_same(model, imported)
    before = load_network(tmp_path / "g")[1]
    told = {"provenance", "weights_sha256"}
    assert description.model_dump(exclude=told) == before.model_dump(exclude=told)
    assert description.weights_sha256 == before.weights_sha256
    with pytest.raises(UsageError, match="leave out --options and --role"):
        import_checkpoint(tmp_path / "x.safetensors", tmp_path / "b", tmp_path / "training_options.json")


@pytest.mark.parametrize(
    ("corruption", "words"),
    [
        ({"operator": {"name": "identity", "complex_valued": True}}, "identity (complex_valued True)"),
        ({"operator": {"name": "inpainting", "missing": 0.6}, "noise": 0.1}, "inpainting (missing 0.6)"),
        (
            {"mask": {"name": "poisson-disc", "acceleration": 4.0, "calibration": 8}},
            "poisson-disc (acceleration",
        ),
        (
            {"mask": {"name": "x", "acceleration": 4.0, "acs_lines": 8, "further_drop": None}},
            "R = 4, 8 ACS lines",
        ),
    ],
)
def test_an_export_of_a_model_of_ones_own_names_its_corruption(tmp_path, capsys, corruption, words):
    model = make_model()
    description = described(model, conventions=RGB, image_shape=(3, 8, 8), corruption=corruption)
    save_model(tmp_path / "m", model, description)
    export(tmp_path / "m", "safetensors", tmp_path / "x.safetensors")
    assert cli(["import-checkpoint", str(tmp_path / "x.safetensors"), str(tmp_path / "back")]) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_networks_without_a_released_counterpart_come_back_too(tmp_path):
    torch.manual_seed(0)
    network = NETWORKS.build({"name": "mlp", "resolution": 4, "in_channels": 1, "out_channels": 1})
    model = PRECONDITIONERS.build({"name": "edm"}, network=network).eval()
    grey = ChannelLayout(image="real", image_channels=1, mask_channels=0, ones_channel=False)
    save_model(tmp_path / "m", model, described(model, conventions=grey, image_shape=(1, 4, 4)))
    export(tmp_path / "m", "safetensors", tmp_path / "x.safetensors")
    assert cli(["import-checkpoint", str(tmp_path / "x.safetensors"), str(tmp_path / "back")]) == 0
    assert_same(model, load_network(tmp_path / "back")[0])


def test_a_damaged_export_is_refused(tmp_path):
    generator(tmp_path / "g")
    export(tmp_path / "g", "safetensors", tmp_path / "x.safetensors")
    data = (tmp_path / "x.safetensors").read_bytes()
    for change in (data[:-4], data.replace(b'"F32"', b'"F33"'), data.replace(b"sigma_init", b"sigma_inix")):
        (tmp_path / "bad.safetensors").write_bytes(change)
        with pytest.raises(UsageError):
            import_checkpoint(tmp_path / "bad.safetensors", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_released_weights_are_the_released_state():
    """As many weights as the model has, plus the constant filters."""
    model = make_model(gated=True, channel_mult=(1, 1))
    entries = {name: tensor.numel() for name, tensor in released_weights(model).items()}
    filters = {name: size for name, size in entries.items() if name.endswith("resample_filter")}
    assert len(filters) == 4
    assert sum(entries.values()) - sum(filters.values()) == sum(p.numel() for p in model.parameters())


def test_teachers_and_masked_generators_are_refused(tmp_path):
    teacher = make_model()
    save_model(tmp_path / "t", teacher, described(teacher, conventions=RGB, image_shape=(3, 8, 8)))
    generator(tmp_path / "m", ChannelLayout(), (1, 8, 8), "sampled", in_channels=4, out_channels=2)
    generator(tmp_path / "f", later_sigmas=(0.4,))
    reasons = {"t": "is a teacher", "m": "needs maps and masks", "f": "2 steps, which draw noise between"}
    for folder, reason in reasons.items():
        with pytest.raises(UsageError, match=reason):
            export(tmp_path / folder, "onnx", tmp_path / "file")
        assert not (tmp_path / "file").exists()


def test_missing_packages_are_named(tmp_path, monkeypatch):
    generator(tmp_path / "g")
    monkeypatch.setattr(
        "mrigen.checkpoints.export.find_spec", lambda name: None if name == "onnxruntime" else 1
    )
    with pytest.raises(UsageError, match=r"--to onnx needs onnxruntime: pip install 'mrigen\[export\]'"):
        export(tmp_path / "g", "onnx", tmp_path / "file")
