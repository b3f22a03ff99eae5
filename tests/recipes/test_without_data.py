"""Distillation of a given teacher of natural images, without any data."""

import json

import h5py
import numpy as np
import pytest

from mrigen.checkpoints.description import read_description
from mrigen.cli.main import run

DIGITS = "toy/digits-denoise"
SMALL = ("teacher.network.hidden=16", "teacher.images=512", "distill.images=16", "distill.batch=8")
UNSELECTED = "distill.selection.every_images=null"


def command(name, out, *more, settings=SMALL):
    words = [word for setting in settings for word in ("--set", setting)]
    return run([name, DIGITS, "--out", str(out), "--device", "cpu", *words, *map(str, more)])


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A run folder with a store and a teacher."""
    out = tmp_path_factory.mktemp("taught") / "run"
    assert command("train", out) == 0
    return out


def weights(out):
    return (out / "student" / "model" / "model.safetensors").read_bytes()


def test_a_teacher_is_enough(taught, tmp_path, monkeypatch, capsys):
    """In an empty folder, the same generator as with the store that the teacher was trained on."""
    settings = (*SMALL, UNSELECTED)
    teacher = ("--teacher", taught / "teacher" / "model")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert command("distill", "alone", *teacher, settings=settings) == 0
    assert command("distill", tmp_path / "with", *teacher, "--data", taught / "store", settings=settings) == 0
    alone = tmp_path / "empty" / "alone"
    assert weights(alone) == weights(tmp_path / "with")
    assert sorted(path.name for path in alone.iterdir()) == ["recipe.yaml", "student"]
    assert json.loads((alone / "student" / "selection.json").read_text())["measured"] == []
    capsys.readouterr()
    assert command("distill", "alone", *teacher, settings=settings) == 0
    assert "student: finished before, skipped" in capsys.readouterr().out


def test_a_selection_needs_the_data(taught, tmp_path):
    assert command("distill", tmp_path / "run", "--teacher", taught / "teacher" / "model") == 0
    assert (tmp_path / "run" / "store").is_dir()


def test_a_released_module_is_distilled_with_its_classes(tmp_path, data):
    """The golden EDM module, with class and augmentation labels: imported, two steps of SiD, sampled."""
    imported, out = tmp_path / "imported", tmp_path / "run"
    source = data / "golden" / "edm_module" / "network-snapshot.pkl"
    assert run(["import-checkpoint", str(source), str(imported)]) == 0
    assert command("distill", out, "--teacher", imported, settings=(*SMALL, UNSELECTED)) == 0
    student, teacher = (read_description(path) for path in (out / "student" / "model", imported))
    assert student.network == teacher.network
    assert student.network["label_dim"] > 0
    assert student.network["augment_dim"] > 0
    assert student.weights_sha256 != teacher.weights_sha256
    sample = ["sample", str(out / "student" / "model"), "--seeds", "0-3", "--device", "cpu"]
    assert run([*sample, "--out", str(tmp_path / "samples.h5")]) == 0
    with h5py.File(tmp_path / "samples.h5") as file:
        images = file["images"][()]
    assert images.shape == (4, *teacher.image_shape)
    assert np.isfinite(images).all()
    assert np.ptp(images, axis=0).max() > 0.1
