"""Recipes about points in the plane: more numbers, more samplers, another figure."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mrigen import recipe
from mrigen.cli.main import run
from mrigen.data.images import read_images
from mrigen.data.stores import open_store
from mrigen.errors import UsageError
from mrigen.metrics.reference import open_reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("spiral")
    settings = ["--set", "evaluate.radius=0.3", "--device", "cpu", "--smoke", "--out", str(out)]
    assert run(["run", "toy/spiral", *settings]) == 0
    return out


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def by_hand(samples, truth, radius):
    distances = np.linalg.norm(samples[:, None] - truth[None], axis=-1)
    return distances.min(1).mean(), (distances.min(0) <= radius).mean()


@pytest.mark.parametrize("row", ["observation", "teacher", "teacher-full", "student"])
def test_distance_and_coverage_are_those_of_the_samples(folder, summary, row):
    references = open_reference(folder / "store-reference", "test")
    truth = references.images(list(range(len(references)))).flatten(1).double().numpy()
    if row == "observation":
        store = open_store(folder / "store")
        chosen = torch.linspace(0, len(store) - 1, summary["n"]).round().int().tolist()
        samples = store.measurements(chosen).y
    else:
        samples = torch.cat(list(read_images(folder / "samples" / row / "images.h5")))
    distance, coverage = by_hand(samples.flatten(1).double().numpy(), truth, 0.3)
    assert summary[row]["distance"] == pytest.approx(distance)
    assert summary[row]["coverage"] == pytest.approx(coverage)


def test_samplers_differ_where_they_stop(folder, summary):
    """The truncated sampler leaves out the levels below σ, so that it needs fewer steps."""
    assert summary["teacher"]["evaluations"] < summary["teacher-full"]["evaluations"]
    images = [
        torch.cat(list(read_images(folder / "samples" / row / "images.h5")))
        for row in ("teacher", "teacher-full")
    ]
    assert not torch.equal(*images)


def test_the_figure_is_a_scatter_of_panels_side_by_side(folder):
    with Image.open(folder / "figure.png") as picture:
        width, height = picture.size
    assert width > 3 * height


def test_samples_of_a_model_are_scattered_too(folder, tmp_path):
    model = str(folder / "student" / "model")
    assert run(["sample", model, "--seeds", "0-9", "--out", str(tmp_path / "s.h5")]) == 0
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size[0] == picture.size[1]


def test_names_of_samplers_are_words():
    with pytest.raises(UsageError, match=r"evaluate\.samplers"):
        recipe.load("toy/spiral", ["evaluate.samplers={'a b': {name: heun}}"])
    with pytest.raises(UsageError, match="did you mean 'heun'"):
        recipe.load("toy/spiral", ["evaluate.samplers={other: {name: huen}}"])
