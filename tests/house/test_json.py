"""Commands that print tables print JSON as well."""

import json

import pytest

from mrigen import recipe
from mrigen.checkpoints.hub import shipped
from mrigen.cli.main import run
from mrigen.inverse import SOLVERS


def printed(capsys, *words):
    assert run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_lists(capsys):
    assert list(printed(capsys, "recipes", "list")) == recipe.names()
    solvers = printed(capsys, "list", "solvers")
    assert list(solvers) == SOLVERS.names()
    assert all(text and "\n" not in text for text in solvers.values())
    assert "Parameters:" in printed(capsys, "list", "solvers", "dds")["dds"]
    assert "demo-brain" in printed(capsys, "models")


def test_doctor(capsys):
    assert set(printed(capsys, "doctor")) == {"environment", "devices", "disks"}
    folder = str(shipped() / "demo-brain")
    assert printed(capsys, "doctor", folder) == {folder: []}


@pytest.fixture
def samples(tmp_path, capsys):
    """Two sets of images of the shipped generator."""
    paths = [str(tmp_path / f"{name}.h5") for name in "ab"]
    for path, seeds in zip(paths, ("0-7", "8-15"), strict=True):
        assert run(["sample", "demo-brain", "--seeds", seeds, "--out", path, "--device", "cpu"]) == 0
    capsys.readouterr()
    return paths


def test_evaluate(capsys, samples, tmp_path):
    words = ["evaluate", samples[0], "--reference", samples[1], "--features", "pixels", "--bootstrap", "0"]
    found = printed(capsys, *words, "--cache", str(tmp_path / "cache"), "--device", "cpu")
    assert found["features"] == ["pixels"]
    assert found["results"][0]["fd"] > 0


def test_preparation(capsys, tmp_path):
    raw, store = str(tmp_path / "raw"), str(tmp_path / "store")
    assert run(["simulate", "--out", raw, "--volumes", "2", "--slices", "2", "--matrix", "16", "16"]) == 0
    capsys.readouterr()
    words = ["--acceleration", "2", "--acs-lines", "4", "--kernel-width", "3", "--no-noise-whitening"]
    found = printed(capsys, "prep-fastmri", raw, "--out", store, *words)
    assert found["in the store"] == "2 volumes, 4 slices"
    assert found["failed"] == {}
    found = printed(capsys, "prep-images", "digits", "--limit", "20", "--out", str(tmp_path / "digits"))
    assert "20" in found["images"]
