"""Every registered operator from pictures to a teacher and a reconstruction, at tiny size."""

import json

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from mrigen.cli.main import run
from mrigen.data.stores import open_store
from mrigen.operators.base import LinearOperator
from mrigen.operators.corruption import CORRUPTIONS

SIDE = 12
LINES = {"name": "exact-random", "acceleration": 2, "acs_lines": 3, "further_drop": 2}
WORDS = {
    "blur": {"kernel": [[1, 2, 3], [0, 5, 1], [4, 0, 0]]},
    "compose": {"parts": [{"name": "identity"}, {"name": "inpainting", "missing": 0.4}]},
    "compressed-sensing": {"measurements": 40},
    "fourier-lines": {"mask": LINES},
    "fourier-points": {"acceleration": 2, "centre": 3},
    "fourier-poisson": {"acceleration": 3, "centre": 3, "patterns": 4},
    "gaussian-blur": {"size": 3},
    "kept-patch": {"size": 8},
    "missing-box": {"size": 6},
    "motion-blur": {"length": [2, 4]},
    "radial": {"arms": 9},
    "spiral": {"arms": 9},
}
RECIPE = {
    "title": "tiny",
    "teacher": {
        "network": {"name": "mlp", "hidden": 16, "num_blocks": 1},
        "images": 16,
        "batch": 8,
        "ema_halflife": 100,
    },
    "distill": {"loss": {"name": "sid"}, "images": 8, "batch": 8, "ema_halflife": 100},
    "evaluate": {"samples": 8, "features": "pixels"},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_training_says_that_hiding_nothing_further_is_a_baseline(pictures, tmp_path, capsys):
    given = ["--size", str(SIDE), "--channels", "1", "--operator", "inpainting:further_missing=0"]
    assert run(["prep-images", str(pictures), "--out", str(tmp_path / "store"), *given, "--jobs", "1"]) == 0
    recipe = {**RECIPE, "teacher": {**RECIPE["teacher"], "objective": {"name": "ambient"}}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    words = ["--data", str(tmp_path / "store"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    capsys.readouterr()
    assert run(["train", str(tmp_path / "tiny.yaml"), *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the naive masked loss, a baseline" in said


@pytest.mark.parametrize("name", CORRUPTIONS.names())
def test_prepare_train_reconstruct(name, pictures, tmp_path):
    words = ",".join(f"{key}={json.dumps(value)}" for key, value in WORDS.get(name, {}).items())
    operator = f"{name}:{words}" if words else name
    store = tmp_path / "store"
    noise = "0.1" if name == "identity" else "0"  # without it the reconstruction would be perfect
    given = ["--size", str(SIDE), "--channels", "1", "--operator", operator, "--noise", noise]
    given += ["--split", "train=0.7,test=0.3"]
    assert run(["prep-images", str(pictures), "--out", str(store), *given, "--jobs", "1"]) == 0
    data = open_store(store)
    batch = data.measurements(list(range(len(data))))
    assert batch.y.isfinite().all()
    objective = "standard" if data.corruption().ambient_obstacle or name == "identity" else "ambient"
    recipe = {**RECIPE, "teacher": {**RECIPE["teacher"], "objective": {"name": objective}}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    words = ["--data", str(store), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert run(["train", str(tmp_path / "tiny.yaml"), *words]) == 0
    linear = isinstance(batch.operator, LinearOperator)
    solver = "cg-sense" if linear else "dps:steps=2"
    model = tmp_path / "run" / "teacher" / "model"
    words = ["--model", str(model), "--solver", solver, "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert run(["reconstruct", str(store), *words]) == 0
    with h5py.File(tmp_path / "out" / "reconstruction.h5") as file:
        images = file["image"][()]
    assert images.shape[-2:] == (SIDE, SIDE)
    assert np.isfinite(images).all()
    assert np.isrealobj(images)
