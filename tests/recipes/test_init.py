"""Fine-tuning: a teacher's training starts from the weights of a model (``teacher.init``)."""

import shutil

import pytest
import torch

from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription, read_description
from mrigen.cli.main import run
from mrigen.model import Model
from mrigen.networks import NETWORKS
from mrigen.recipe import load
from mrigen.recipe.initial import fine_tuned

CLEAN = ["teacher.objective={name: standard}", "data.images.noise=0"]
SMALL = [
    "data.images.limit=64",
    "teacher.network={name: mlp, hidden: 16, num_blocks: 1}",
    "teacher.images=64",
    "teacher.batch=32",
    "teacher.optimizer={lr: 1e-3}",
    "teacher.ema_halflife=32",
]
FROZEN = "teacher.optimizer={lr: 1e-30}"


def command(out, recipe, *settings, init=None):
    words = ["train", recipe, "--out", str(out), "--device", "cpu", *(["--init", str(init)] if init else [])]
    return words + [word for setting in (*SMALL, *settings) for word in ("--set", setting)]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A model of whole images."""
    out = tmp_path_factory.mktemp("clean")
    assert run(command(out / "run", "toy/digits-denoise", *CLEAN)) == 0
    return out / "run" / "teacher" / "model"


@pytest.fixture(scope="module")
def ambient(tmp_path_factory, clean):
    """The same, given channels for masks; its weights do not move."""
    out = tmp_path_factory.mktemp("ambient")
    assert run(command(out / "run", "toy/digits-inpaint", FROZEN, init=clean)) == 0
    return out / "run" / "teacher" / "model"


def weights(folder):
    return read_description(folder).weights_sha256


def images(count=4):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_weights_at_the_start_are_those_of_the_model(clean, tmp_path):
    """And provenance says whose; imported ones lie in such a folder too."""
    assert run(command(tmp_path / "run", "toy/digits-denoise", FROZEN, init=clean)) == 0
    trained = tmp_path / "run" / "teacher" / "model"
    assert weights(trained) == weights(clean)
    description = read_description(trained)
    assert description.provenance["init"] == weights(clean)
    assert description.objective["name"] == "tweedie"
    assert run(command(tmp_path / "moved", "toy/digits-denoise", init=clean)) == 0
    assert weights(tmp_path / "moved" / "teacher" / "model") != weights(clean)


def test_channels_for_masks_are_not_seen_at_first(clean, ambient):
    before, after = Model.load(clean), Model.load(ambient)
    assert after.description.conventions.mask_channels == 1
    assert after.description.network["in_channels"] == before.description.network["in_channels"] + 1
    x = images()
    torch.testing.assert_close(after.denoise(x, 0.3), before.denoise(x, 0.3))
    mask = after.corruption().draw(4, torch.Generator().manual_seed(1))
    seen = mask.mask.float()
    torch.testing.assert_close(
        seen * after.denoise(x, 0.3, mask), seen * before.denoise(mask.normal(x), 0.3), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["song-unet", "dhariwal-unet"])
def test_convolutions_take_new_channels_last(name):
    small = {"name": name, "resolution": 8, "model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1}
    more = {"encoder_type": "residual", "patch": 2} if name == "song-unet" else {}
    narrow = ChannelLayout(mask_channels=0, ones_channel=False)

    def described(layout):
        network = {**small, **more, "in_channels": layout.network_channels, "out_channels": 2}
        return ModelDescription(
            network=NETWORKS.freeze(network),
            preconditioner={"name": "edm"},
            conventions=layout,
            image_shape=(1, 8, 8),
        )

    start = Model.random_init(described(narrow), seed=3)
    wide = fine_tuned(start, described(ChannelLayout()))
    x = torch.complex(images(), images().flip(0))
    sigma = torch.full((4,), 0.5)
    with torch.no_grad():
        torch.testing.assert_close(wide.denoiser.eval()(x, sigma), start.denoiser.eval()(x, sigma))


def test_interrupted_and_lengthened_trainings_end_the_same(clean, tmp_path):
    for out, lengths in (("twice", (32, 96)), ("once", (96,))):
        for length in lengths:
            settings = f"teacher.images={length}"
            assert run(command(tmp_path / out, "toy/digits-inpaint", settings, init=clean)) == 0
    once, twice = (weights(tmp_path / out / "teacher" / "model") for out in ("once", "twice"))
    assert once == twice


def test_another_model_is_another_training(clean, ambient, tmp_path, capsys):
    """A copy elsewhere is the same one."""
    start = shutil.copytree(clean, tmp_path / "start")
    out = tmp_path / "run"
    assert run(command(out, "toy/digits-inpaint", init=clean)) == 0
    assert run(command(out, "toy/digits-inpaint", init=start)) == 0
    assert "finished before, skipped" in capsys.readouterr().out
    assert run(command(out, "toy/digits-inpaint", init=ambient)) == 2
    assert "teacher.init" in capsys.readouterr().err


def test_the_models_network_and_the_recipes_dropout(clean, tmp_path):
    taken = ["teacher.network={name: mlp, dropout: 0.25}", FROZEN]
    assert run(command(tmp_path / "run", "toy/digits-denoise", *taken, init=clean)) == 0
    description = read_description(tmp_path / "run" / "teacher" / "model")
    assert (description.network["hidden"], description.network["dropout"]) == (16, 0.25)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["teacher.network.hidden=32"], "has network.hidden: 16, and the recipe says 32; --set"),
        (["teacher.network={name: song-unet}"], "has network.name: mlp, and the recipe says song-unet"),
        (["teacher.preconditioning={name: vp}", "teacher.objective.pseudo_inverse=null"], "name: edm, and"),
        (["data.images.size=16"], "is of real images of 8x8, the data are real images of 16x16"),
        (["teacher.augment=0.1"], "has no labels of augmentation; set teacher.augment=0"),
    ],
)  # fmt: skip
def test_networks_that_do_not_fit_are_refused_before_training(clean, tmp_path, capsys, settings, words):
    out = tmp_path / "run"
    assert run(command(out, "toy/digits-inpaint", *settings, init=clean)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mrigen: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert not (out / "teacher").exists()


def test_another_form_behind_masks_is_refused_with_the_setting_that_keeps_it(ambient, tmp_path, capsys):
    other = "teacher.objective.pseudo_inverse=null"
    assert run(command(tmp_path / "run", "toy/digits-inpaint", other, init=ambient)) == 2
    error = capsys.readouterr().err
    assert "--set 'teacher.objective.pseudo_inverse={tau: 0.05, steps: 8}' keeps it" in error
    kept = "teacher.objective.pseudo_inverse={tau: 0.05, steps: 8}"
    assert run(command(tmp_path / "run", "toy/digits-inpaint", kept, init=ambient)) == 0


def test_a_pickle_and_a_smoke_run_are_answered_with_the_remedy(clean, tmp_path, capsys):
    (tmp_path / "net.pkl").write_bytes(b"x")
    assert run(command(tmp_path / "run", "toy/digits-inpaint", init=tmp_path / "net.pkl")) == 2
    assert "mrigen import-checkpoint" in capsys.readouterr().err
    assert run([*command(tmp_path / "run", "toy/digits-inpaint", init=clean), "--smoke"]) == 2
    assert "--smoke: makes a small network" in capsys.readouterr().err


def test_the_next_command_starts_from_it_too(clean, tmp_path, capsys):
    assert run(command(tmp_path / "run", "toy/digits-denoise", init=clean)) == 0
    assert f'teacher.init="{clean}"' in " ".join(capsys.readouterr().out.split())
    settings = [f'teacher.init="{clean}"']
    assert str(load("toy/digits-denoise", settings).teacher.init) == str(clean)
