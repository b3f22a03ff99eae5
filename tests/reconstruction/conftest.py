"""The command and its folders."""

import json

import h5py
import numpy as np
import phantoms
import pytest
from phantoms import write_model

from mrigen.cli.main import run


@pytest.fixture
def reconstruct(tmp_path, capsys):
    """Run ``mrigen reconstruct``: its arrays and report, or with ``fails`` its one line."""

    def call(source, solver, *more, fails=False):
        out = tmp_path / "out"
        given = ["reconstruct", str(source), "--solver", solver, "--out", str(out), "--device", "cpu"]
        code = run([*given, *map(str, more)])
        said = capsys.readouterr()
        if fails:
            assert code == 2, said.err
            _, *faults = said.err.split("mrigen: ")
            (line,) = faults[0].strip().splitlines()
            assert not (out / "reconstruction.h5").exists()
            return line
        assert code == 0, said.err
        with h5py.File(out / "reconstruction.h5") as file:
            arrays = {name: file[name][()] for name in file}
        metrics = out / "metrics.json"
        return arrays, json.loads(metrics.read_text()) if metrics.is_file() else None

    return call


@pytest.fixture
def measured(tmp_path):
    """Two undersampled slices as a numpy file."""
    path = tmp_path / "scan.npy"
    np.save(path, phantoms.kspace(2) * phantoms.lines())
    return path


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "teacher")


@pytest.fixture(scope="session")
def generator(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "generator", role="generator")
