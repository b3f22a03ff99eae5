"""Every shipped recipe, whole and tiny: prepare, train, distil, evaluate."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mrigen import recipe
from mrigen.checkpoints.description import read_description
from mrigen.cli.main import run
from mrigen.recipe.smoke import smoke

CLEAN = ("afhqv2/clean", "celeba/clean", "cifar10/clean")  # observations are references: 0 up to rounding


def trial(name, out, *more):
    """Pixels as features: the other extractor takes longer than all the rest."""
    settings = ["--set", "evaluate.features=pixels", "--device", "cpu", "--smoke", "--out", str(out)]
    return run(["run", name, *settings, *more])


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_runs_from_data_to_numbers(name, tmp_path):
    assert trial(name, tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["recipe"] == name
    for row in ("observation", "teacher", "student"):
        assert math.isfinite(summary[row]["fd"])
        clean = row == "observation" and name in CLEAN
        assert summary[row]["fd"] > (-1e-9 if clean else 0)
    assert (tmp_path / "figure.png").stat().st_size > 0
    shipped = recipe.load(name)
    student = read_description(tmp_path / "student" / "model")
    objective = shipped.teacher.objective["name"] if shipped.laps is None else "standard"
    assert student.objective["name"] == objective
    assert student.provenance["distilled"]["name"] == shipped.distill.loss["name"]
    if shipped.data.images is not None:
        restored = {"name": "identity", "complex_valued": False}
        operator = shipped.data.images.operator if shipped.laps is None else restored
        assert student.corruption["operator"] == operator


def test_a_teacher_of_noisy_masked_images_is_distilled(tmp_path):
    """As the recipe's header has it: Ambient Tweedie behind masks, then SiD under masks and noise."""
    settings = ("teacher.objective.name=ambient-tweedie", "evaluate.sampler.name=heun")
    words = [word for setting in settings for word in ("--set", setting)]
    assert trial("celeba/inpaint-p60-s20", tmp_path, *words) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    student, teacher = (read_description(tmp_path / name / "model") for name in ("student", "teacher"))
    assert student.objective["name"] == "ambient-tweedie"
    assert student.conventions.mask_channels == 1
    assert student.corruption["sigma"]["low"] == 0.2
    assert student.weights_sha256 != teacher.weights_sha256
    assert math.isfinite(summary["student"]["fd"])


def test_smoke_keeps_what_a_recipe_is_about():
    full = recipe.load("celeba/inpaint-p90-s0", ["teacher.objective.noise.p_mean=-1"])
    small = smoke(full)
    assert small.teacher.objective == full.teacher.objective
    assert small.distill.loss == full.distill.loss
    assert small.data.images.operator == full.data.images.operator
    assert small.teacher.network["gated"] is True
    assert small.evaluate.sampler["name"] == full.evaluate.sampler["name"]
    assert small.teacher.images <= 16


def test_smoke_takes_given_images_and_given_stores(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (64, 20, 20, 3), np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i}.png")
    assert trial("ffhq/denoise-s20", tmp_path / "run", "--data", str(tmp_path / "pictures")) == 0
    store = tmp_path / "run" / "store"
    assert json.loads((store / "manifest.json").read_text())["source"]["name"] == "pictures"
    assert trial("ffhq/denoise-s20", tmp_path / "again", "--data", str(store)) == 0
    assert not (tmp_path / "again" / "store").exists()


def test_a_study_of_digits_resumes_and_samples_without_a_store(tmp_path, capsys):
    """Denoising: finished stages are skipped, and the models need nothing but their folder."""
    assert trial("toy/digits-denoise", tmp_path / "run") == 0
    weights = (tmp_path / "run" / "student" / "model" / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert trial("toy/digits-denoise", tmp_path / "run") == 0
    out = capsys.readouterr().out
    for stage in ("data", "teacher", "student", "samples of the student"):
        assert f"{stage}: finished before, skipped" in out
    assert (tmp_path / "run" / "student" / "model" / "model.safetensors").read_bytes() == weights
    for model in ("teacher", "student"):
        folder = str(tmp_path / "run" / model / "model")
        few = ["--steps", "2"] if model == "teacher" else []
        assert run(["sample", folder, "--seeds", "0-3", "--out", str(tmp_path / f"{model}.h5"), *few]) == 0
    resolved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert resolved["data"]["images"]["noise"] == 0.5


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("toy/digits-denoise", ["--set", "data.prep.acceleration=4"], "do not go together"),
        ("ffhq/denoise-s20", [], "give --data"),
        ("ffhq/denoise-s20", ["--data", "empty"], "holds no images"),
    ],
)
def test_data_that_will_not_do_are_named(tmp_path, monkeypatch, capsys, name, more, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert run(["run", name, "--out", "out", "--device", "cpu", *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
