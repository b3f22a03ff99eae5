"""``mrigen doctor``: what it tells of the machine, and damage that it finds."""

import json
import shutil
from importlib.metadata import version

import h5py
import pytest
import torch

from mrigen.cli.main import run
from mrigen.engine.states import save_state
from mrigen.recipe import health

STORES = ("images", "images-reference", "mri", "mri-reference")


@pytest.fixture
def folder(stores, model, tmp_path):
    """A run folder: stores of both kinds, their references, a model, two states."""
    out = tmp_path / "run"
    for name in STORES:
        shutil.copytree(stores / name, out / name)
    shutil.copytree(model, out / "teacher" / "model")
    for images in (8, 16):
        save_state(out / "teacher", images, {"value": torch.ones(3)}, keep=2)
    return out


def flip(path, at):
    """One bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_everything_that_was_written_is_sound(folder, capsys):
    assert run(["doctor", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{folder / name}: sound" for name in (*STORES, "teacher", "teacher/model")]


DAMAGE = {
    "a bit of k-space": ("mri", lambda f: flip(next((f / "mri").glob("*.h5")), -200), "not what was written"),
    "a bit of a shard": (
        "images",
        lambda f: flip(next((f / "images").glob("*.h5")), -200),
        "not what was written",
    ),
    "a lost reference": (
        "mri-reference",
        lambda f: next((f / "mri-reference").glob("*.h5")).unlink(),
        "missing although the manifest lists it",
    ),
    "a bit of the weights": (
        "teacher/model",
        lambda f: flip(f / "teacher/model/model.safetensors", -1),
        "missing or damaged (checksum)",
    ),
    "no weights": (
        "teacher/model",
        lambda f: (f / "teacher/model/model.safetensors").unlink(),
        "missing or damaged (checksum)",
    ),
    "half a description": (
        "teacher/model",
        lambda f: (f / "teacher/model/model.json").write_text('{"network": {'),
        "cannot be read",
    ),
    "a bit of a state": ("teacher", lambda f: flip(f / "teacher/state-000000000016.pt", 99), "checksum"),
    "half a checksum": (
        "teacher",
        lambda f: (f / "teacher/state-000000000008.json").write_text('{"images": 8, "sha2'),
        "checksum",
    ),
    "half a manifest": ("mri", lambda f: (f / "mri/manifest.json").write_text('{"data": "mri"'), "JSON"),
    "a manifest that leads elsewhere": (
        "mri",
        lambda f: elsewhere(f / "mri/manifest.json"),
        "volumes.0.file",
    ),
    "a manifest without checksums": ("mri", lambda f: forget(f / "mri/manifest.json"), "without a checksum"),
}


def elsewhere(path):
    tree = json.loads(path.read_text())
    tree["volumes"][0]["file"] = "../mri-reference/simulated_0000.h5"
    path.write_text(json.dumps(tree))


def forget(path):
    tree = json.loads(path.read_text())
    del tree["checksums"]
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_nothing_else(folder, capsys, kind):
    where, damage, message = DAMAGE[kind]
    damage(folder)
    assert run(["doctor", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith(": damaged")] == [f"{folder / where}: damaged"]
    faults = [line for line in lines if line.startswith("  ")]
    assert len(faults) == 1
    assert message in faults[0]


def test_a_store_can_be_checked_while_others_read_it(folder):
    with h5py.File(next((folder / "mri").glob("*.h5")), "r"):
        assert run(["doctor", str(folder / "mri")]) == 0


def test_nothing_to_check(tmp_path, capsys):
    for path, message in ((tmp_path, "nothing with checksums"), (tmp_path / "no", "no such folder")):
        assert run(["doctor", str(path)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_the_machine(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("os.getloadavg", lambda: (1.26, 0, 0))
    assert run(["doctor"]) == 0
    told = capsys.readouterr().out
    assert " cores, 1.3 busy in the last minute, OMP_NUM_THREADS=3, " in told
    for package in ("torch", "h5py", "sigpy", "pydantic"):
        assert f"{package} " in told
        assert version(package) in told
    for word in ("cpu", "cores", "GiB free", "temporary"):
        assert word in told


def test_folders_that_do_not_exist_are_measured_where_they_would_be(tmp_path):
    told = health.disks({"new": tmp_path / "a" / "b", "old": tmp_path})
    assert told["new"].split(" free")[0] == told["old"].split(" free")[0]
    assert all(float(text.split(" of ")[0]) >= 0 for text in told.values())
