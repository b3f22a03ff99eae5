"""A recipe's feature extractor: its weights, its device, and the selection metric that it gives."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from mrigen import recipe as recipes
from mrigen.cli.main import run
from mrigen.metrics.features import extractor
from mrigen.metrics.weights import digest
from mrigen.recipe.selection import selection_score
from mrigen.recipe.study import Study

TINY = str(Path(__file__).parents[1] / "recipes" / "tiny.yaml")


def settings(*more):
    return [word for setting in ("evaluate.features=inception", *more) for word in ("--set", setting)]


def test_a_recipe_selects_with_weights_of_its_own(inception_file, tmp_path):
    """The measured number is the proximal distance by this file's network."""
    few = ("distill.images=8", "distill.selection.samples=4", f"evaluate.weights={inception_file}")
    assert run(["distill", TINY, "--out", str(tmp_path), "--device", "cpu", *settings(*few)]) == 0
    (row,) = json.loads((tmp_path / "student" / "selection.json").read_text())["measured"]
    study = Study(recipes.load(TINY, list(few)), tmp_path, Console(quiet=True), "cpu")
    objective = study.teacher.objective(study.store)
    network = extractor("inception", inception_file)
    score = selection_score(study.recipe.distill, study.store, network, study.recipe.seed, objective)
    assert row["100"] == pytest.approx(score(study.student.generator), rel=1e-3)


def test_the_extractor_is_on_the_devices_side(inception_file, tmp_path):
    chosen = ["evaluate.features=inception", f"evaluate.weights={inception_file}"]
    study = Study(recipes.load(TINY, chosen), tmp_path, Console(quiet=True), "cpu")
    study.__dict__["fabric"] = SimpleNamespace(device=torch.device("meta"))
    assert study.extractor.weights == digest(inception_file)
    assert {p.device.type for p in study.extractor.model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("evaluate.weights=nothing.pth",), "nothing.pth: no such file"),
        (("evaluate.features=r64", "evaluate.weights=nothing.pth"), "'r64' need no file of weights"),
        ((), "in a recipe evaluate.weights"),
    ],
)
def test_weights_that_are_missing_are_one_line(tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    out = tmp_path / "run"
    assert run(["distill", TINY, "--out", str(out), "--device", "cpu", *settings(*more)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mrigen: ")]
    assert said in line
