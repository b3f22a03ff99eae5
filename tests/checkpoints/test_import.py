"""Every kind of released file gives back the weights that went in."""

import collections
import json
import pathlib
import pickle

import numpy as np
import pytest
import torch

from mrigen.checkpoints.description import read_description
from mrigen.checkpoints.folder import load_network
from mrigen.checkpoints.importer import import_checkpoint
from mrigen.errors import UsageError
from mrigen.networks import NETWORKS

from .written import (
    assert_same,
    make_model,
    module_tree,
    options,
    pickled,
    released_state,
    safetensors,
    saved,
)

PLAIN = {
    "numpy of protocol 5": (
        pickle.dumps({"labels": np.arange(3.0)}, protocol=5),
        "labels",
    ),
    "pathlib of Python 3.13": (
        pickle.dumps({"path": pathlib.PurePosixPath("/data")}, protocol=2).replace(
            b"cpathlib\nPurePosixPath", b"cpathlib._local\nPosixPath"
        ),
        "path",
    ),
    "defaultdict": (pickle.dumps({"optimizer": collections.defaultdict(dict)}), "optimizer"),
}
LABELS = {"label_dim": 4, "augment_dim": 9}


@pytest.fixture
def put(tmp_path):
    """Write a file, import it, load the result."""

    def run(data, training_options=None, name="network-snapshot-000100.pkl", **kwargs):
        source = tmp_path / name
        source.write_bytes(data)
        if training_options is not None:
            (tmp_path / "training_options.json").write_text(json.dumps(training_options))
        out = tmp_path / "out"
        import_checkpoint(source, out, **kwargs)
        return load_network(out)[0], read_description(out)

    return run


@pytest.mark.parametrize(("folder", "cases"), [("ambient_mri", 2), ("edm_module", 1)])
def test_golden_checkpoints_reproduce_the_original_outputs(folder, cases, data, tmp_path):
    import_checkpoint(data / "golden" / folder / "network-snapshot.pkl", tmp_path / "out")
    model = load_network(tmp_path / "out")[0]
    expected = np.load(data / "golden" / folder / "expected.npz")
    for case in range(cases):
        names = (f"{kind}_{case}" for kind in ("x", "sigma", "labels", "augment"))
        inputs = [torch.from_numpy(expected[name]) if name in expected else None for name in names]
        with torch.no_grad():
            out = model(*inputs)
        assert out.dtype == torch.float32
        np.testing.assert_allclose(out.numpy(), expected[f"out_{case}"], atol=2e-6, rtol=0)


def test_ambient_mri_description(data, tmp_path):
    imported = import_checkpoint(data / "golden/ambient_mri/network-snapshot.pkl", tmp_path / "out")
    description = read_description(tmp_path / "out")
    assert imported.recipe == "fastmri/brain-r4"
    assert imported.parameters == sum(p.numel() for p in load_network(tmp_path / "out")[0].parameters())
    assert description.role == "teacher"
    assert description.conventions.model_dump() == {
        "image": "complex",
        "image_channels": 2,
        "mask_channels": 1,
        "ones_channel": True,
        "pseudo_inverse": None,
    }
    assert description.corruption == {
        "operator": "multicoil-mri",
        "mask": {"name": "exact-random", "acceleration": 4.0, "acs_lines": 20},
        "sigma": 0.0,
    }
    assert description.objective == {
        "name": "ambient",
        "sigma_data": 0.5,
        "noise": {"p_mean": -1.2, "p_std": 1.2},
    }
    assert description.provenance["half_precision"] is True
    assert description.provenance["source_sha256"].startswith("7333d680e1cb7ad4")
    assert description.provenance["classes"] == ["EDMPrecond", "SongUNet"]


SOURCES = {
    "song vp labels": {"precond": "vp", **LABELS},
    "ncsn++ ve": {
        "precond": "ve",
        "embedding_type": "fourier",
        "encoder_type": "residual",
        "resample_filter": (1, 3, 3, 1),
        "channel_mult_noise": 2,
    },
    "skip": {"encoder_type": "skip", "decoder_type": "skip"},
    "gated": {"gated": True, "channel_mult": (2, 1)},
    "adm": {"name": "dhariwal-unet", "model_channels": 32, "channel_mult": (1, 2), **LABELS},
    "adm iddpm": {"name": "dhariwal-unet", "precond": "iddpm", "out_channels": 6, "label_dim": 4},
}


@pytest.mark.parametrize("case", SOURCES)
def test_module_pickles(case, put):
    model = make_model(**SOURCES[case])
    imported, description = put(pickled({"ema": module_tree(model), "loss_fn": None, "dataset_kwargs": {}}))
    assert_same(model, imported)
    assert type(imported) is type(model)
    assert imported.network.params == model.network.params
    assert description.provenance["half_precision"] is True
    assert description.role == "teacher"


@pytest.mark.parametrize("case", SOURCES)
@pytest.mark.parametrize("wrap", ["pickle", "torch.save", "old torch.save", "safetensors"])
def test_state_dicts(case, wrap, put):
    model = make_model(**SOURCES[case])
    state = collections.OrderedDict((f"_orig_mod.{k}", v) for k, v in released_state(model).items())
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    content = {"ema": state, "loss_fn": None, "augment_pipe": None, "dataset_kwargs": {"path": "x"}}
    data = {
        "pickle": lambda: pickle.dumps(content),
        "torch.save": lambda: saved(content),
        "old torch.save": lambda: saved(content, zipped=False),
        "safetensors": lambda: safetensors(state),
    }[wrap]()
    imported, description = put(data, options(model))
    assert_same(model, imported)
    assert imported.network.params == model.network.params
    assert description.provenance["format"] == "state dict"


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_data_of_newer_versions_is_read_past(kind, tmp_path):
    content, name = PLAIN[kind]
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(UsageError, match=f"has no weights under .*; it holds {name}$"):
        import_checkpoint(tmp_path / "x.pkl", tmp_path / "out")


@pytest.mark.parametrize("prefix", ["net", "ema", "module.net"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_foreign_safetensors(prefix, kind, put):
    model = make_model()
    state = {f"{prefix}.{k}": v.to(kind) for k, v in released_state(model).items()}
    imported, _ = put(safetensors(state), options(model), name="model.safetensors")
    rounded = {k: v.to(kind).float() for k, v in model.state_dict().items()}
    for name, tensor in imported.state_dict().items():
        torch.testing.assert_close(tensor, rounded[name], rtol=0, atol=0)


def test_safetensors_that_are_not_whole_name_the_weight(tmp_path):
    model = make_model()
    weights = {"model.enc.8x8_conv.weight": torch.zeros(16, 3, 3, 3), "model.out_conv.bias": torch.zeros(3)}
    (tmp_path / "model.safetensors").write_bytes(safetensors(weights))
    (tmp_path / "training_options.json").write_text(json.dumps(options(model)))
    with pytest.raises(UsageError, match=r"lacks the weight 'model\."):
        import_checkpoint(tmp_path / "model.safetensors", tmp_path / "out")
    with pytest.raises(UsageError, match="mrigen import-checkpoint"):
        read_description(tmp_path / "model.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_training_states(zipped, put):
    """Bare weights under ``net`` beside an optimiser's state, wrapped twice."""
    model = make_model()
    net = {f"module._orig_mod.{k}": v for k, v in released_state(model).items()}
    adam = torch.optim.Adam(model.parameters())
    model(torch.randn(1, 3, 8, 8), torch.tensor(1.0)).sum().backward()
    adam.step()
    trained = make_model()
    imported, _ = put(
        saved({"net": net, "optimizer_state": adam.state_dict()}, zipped=zipped), options(model)
    )
    assert_same(trained, imported)


def test_training_state_with_a_module(put):
    """EDM's own training states hold the whole module."""
    model = make_model(precond="vp")
    imported, _ = put(
        saved({"net": module_tree(model), "optimizer_state": {"state": {}}}), name="training-state-1.pt"
    )
    assert_same(model, imported)


def test_top_level_state_dict_and_parameters(put):
    model = make_model()
    state = {k: torch.nn.Parameter(v) for k, v in released_state(model).items()}
    assert_same(model, put(saved(state), options(model))[0])


def test_the_average_is_preferred(put):
    model = make_model(seed=1)
    content = {"net": released_state(make_model(seed=2)), "ema": released_state(model)}
    assert_same(model, put(saved(content), options(model))[0])
    imported, _ = put(saved({"ema": None, "net": content["net"]}), options(model))
    assert_same(make_model(seed=2), imported)


def test_element_types_and_views(put):
    """Half precision, doubles, transposed and offset views, storages shared by tensors."""
    model = make_model()
    state = released_state(model)
    shared = torch.randn(10_000)
    changes = (
        lambda v: v.half(),
        lambda v: v.bfloat16(),
        lambda v: v.double(),
        lambda v: v.transpose(0, -1).contiguous().transpose(0, -1),
        lambda v: shared[7 : 7 + v.numel()].view(v.shape),
    )
    learned = [name for name in state if "resample_filter" not in name]
    for index, name in enumerate(learned):
        state[name] = changes[index % 5](state[name])
    expected = {name: state[name].float() for name in learned}
    for data in (saved(state), saved(state, zipped=False), pickle.dumps(state)):
        imported, _ = put(data, options(model))
        for name, value in released_state(imported).items():
            if name in expected:
                assert torch.equal(value, expected[name]), name


def test_positional_constructor_arguments(put):
    """EDMPrecond(resolution, channels, labels, fp16, sigma_min, sigma_max, sigma_data, class)."""
    model = make_model()
    tree = module_tree(model, args=(8, 3, 0, False, 0.002, 80.0, 0.25, "SongUNet"), kwargs={"dropout": 0.1})
    imported, description = put(pickled({"ema": tree, "loss_fn": None}))
    assert description.preconditioner == {
        "name": "edm",
        "sigma_data": 0.25,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
    }
    assert (imported.sigma_min, imported.sigma_max) == (0.002, 80.0)


def test_defaults_are_the_published_ones():
    """What a pickle does not say is what the constructors of the released classes default to."""
    size = {"resolution": 64, "in_channels": 3, "out_channels": 3}
    shared = {"label_dim": 0, "augment_dim": 0, "label_dropout": 0.0, "channel_mult_emb": 4, "dropout": 0.1}
    shared |= {"gated": False, "patch": 1}
    assert NETWORKS.params({"name": "song-unet", **size}).model_dump() == size | shared | {
        "model_channels": 128,
        "channel_mult": (1, 2, 2, 2),
        "num_blocks": 4,
        "attn_resolutions": (16,),
        "embedding_type": "positional",
        "channel_mult_noise": 1,
        "encoder_type": "standard",
        "decoder_type": "standard",
        "resample_filter": (1, 1),
    }
    assert NETWORKS.params({"name": "dhariwal-unet", **size}).model_dump() == size | shared | {
        "model_channels": 192,
        "channel_mult": (1, 2, 3, 4),
        "num_blocks": 3,
        "attn_resolutions": (32, 16, 8),
    }


def test_options_choose_the_published_default_class(put):
    """EDMPrecond without model_type is a DhariwalUNet, VPPrecond a SongUNet."""
    for kind, precond in (("dhariwal-unet", "edm"), ("song-unet", "vp")):
        model = make_model(kind, precond)
        text = options(model)
        del text["network_kwargs"]["model_type"]
        imported, _ = put(saved(released_state(model)), text)
        assert type(imported.network) is type(model.network)


def test_options_beside_the_file_or_given(put, tmp_path):
    model = make_model()
    data = saved(released_state(model))
    with pytest.raises(UsageError, match=r"bare weights.*--options FILE"):
        put(data)
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps(options(model)))
    assert_same(model, put(data, options=elsewhere)[0])


@pytest.mark.parametrize("evidence", ["alone", "loss", "key", "option"])
def test_generators(evidence, put):
    """SiD's ``ema`` is a generator; a teacher stays one."""
    from .written import PersistentObject

    model = make_model()
    content = {
        "alone": {"ema": module_tree(model)},
        "loss": {"ema": module_tree(model), "loss_fn": PersistentObject("SID_EDMLoss", sigma_data=0.5)},
        "key": {"fake_score": module_tree(model), "G": module_tree(model), "G_ema": module_tree(model)},
        "option": {"ema": module_tree(model), "loss_fn": PersistentObject("EDMLoss")},
    }[evidence]
    role = {"role": "generator", "sigma_init": 1.5} if evidence == "option" else {}
    imported, description = put(pickled(content), **role)
    assert_same(model, imported)
    assert description.role == "generator"
    assert description.sigma_init == (1.5 if role else 2.5)
    assert description.generator_input == "full"


def test_published_teachers_stay_teachers(put):
    _, description = put(pickled({"ema": module_tree(make_model())}), name="edm-cifar10-32x32-uncond-vp.pkl")
    assert description.role == "teacher"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.map_layer0.weight"), r"lacks the weight 'model.map_layer0.weight'"),
        (lambda s: s.update({"model.extra": torch.zeros(3)}), r"has a weight 'model.extra'"),
        (
            lambda s: s.update({"model.map_layer0.bias": torch.zeros(3)}),
            r"shape \(3,\), its architecture says \(32,\)",
        ),
        (
            lambda s: s.update({"model.map_layer0.bias": torch.zeros(32, dtype=torch.long)}),
            r"map_layer0.bias",
        ),
        (lambda s: s["model.map_layer0.bias"].fill_(float("nan")), r"'model.map_layer0.bias' is not finite"),
        (lambda s: s["model.enc.4x4_down.conv0.resample_filter"].fill_(1), r"resample_filter"),
        (lambda s: s.update({"step": 3}), r"'step' is a int, not a tensor"),
        (lambda s: s.update({"x" * 300: torch.zeros(1)}), r"more than 256 characters"),
        (lambda s: s.pop("model.enc.8x8_conv.weight"), r"not a SongUNet or DhariwalUNet"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, message, put, tmp_path):
    model = make_model()
    state = released_state(model)
    change(state)
    with pytest.raises(UsageError, match=message) as caught:
        put(saved(state), options(model))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "model.json").exists()
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"class_name": "training.networks.EDM2Precond"},
            "preconditioning class 'EDM2Precond' is not one of",
        ),
        ({"model_type": "UViT"}, "network class 'UViT' is not one of SongUNet, DhariwalUNet"),
        ({"colour": "blue"}, "SongUNet has no argument 'colour'"),
        ({"num_blocks": "many"}, "num_blocks"),
        ({"channel_mult": [1] * 50}, "channel_mult"),
        ({"num_blocks": 10**9}, "num_blocks"),
    ],
)
def test_options_that_cannot_be_are_named(change, message, put):
    model = make_model()
    text = options(model)
    text["network_kwargs"] |= change
    with pytest.raises(UsageError, match=message):
        put(saved(released_state(model)), text)


def test_unknown_classes_and_keys_are_named(put):
    model = make_model()
    with pytest.raises(UsageError, match=r"network class 'Generator' is not one of EDMPrecond"):
        put(pickled({"ema": module_tree(model, class_name="Generator")}))
    with pytest.raises(UsageError, match=r"no weights under .*; it holds weights_of_the_net, step"):
        put(saved({"weights_of_the_net": {}, "step": 3}))
    with pytest.raises(UsageError, match=r"holds a list, not weights"):
        put(saved([1, 2]))
    with pytest.raises(UsageError, match=r"'ema' is a ModuleDict"):
        put(saved({"ema": torch.nn.ModuleDict()}))


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"network_kwargs": 3}', "[" * 100_000])
def test_broken_options_are_refused(text, put, tmp_path):
    path = tmp_path / "o.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"options|o\.json") as caught:
        put(saved(released_state(make_model())), options=path)
    assert "\n" not in str(caught.value)
