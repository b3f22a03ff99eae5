"""Teachers of restored measurements (``teacher.restore``): L1-EDM, and a lap from a given model."""

import json
from dataclasses import replace

import h5py
import pytest
import torch

from mrigen import seeds
from mrigen.checkpoints.description import read_description
from mrigen.cli.main import run
from mrigen.data.restored_store import RestoredStore
from mrigen.data.stores import open_store
from mrigen.inverse import SOLVERS, Task
from mrigen.model import Model

SMALL = [
    "data.images.limit=48",
    "teacher.network={name: mlp, hidden: 16, num_blocks: 1}",
    "teacher.images=64",
    "teacher.batch=32",
    "teacher.optimizer={lr: 1e-3}",
    "teacher.ema_halflife=32",
]
STANDARD = "teacher.objective={name: standard}"
SPARSE = {"name": "total-variation", "iterations": 3}
SOLVER = "teacher.restore={name: total-variation, iterations: 3}"
POSTERIOR = "teacher.restore={name: mmps, steps: 2}"


def command(out, *settings, recipe="toy/digits-inpaint", do="train"):
    words = [do, recipe, "--out", str(out), "--device", "cpu"]
    return words + [word for setting in (*SMALL, *settings) for word in ("--set", setting)]


def images(path):
    with h5py.File(path) as file:
        return torch.from_numpy(file["images"][:])


def restored(store, spec, prior=None):
    every = list(range(len(store)))
    data = replace(store.measurements(every), sigma=store.noise_levels(every))
    keys = [seeds.key(0, "lap", "teacher", index) for index in every]
    return SOLVERS.build(spec).solve(Task(data, keys, prior)).image


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("restore") / "run"
    assert run(command(out, SOLVER, STANDARD)) == 0
    return out


def test_the_training_images_are_the_solvers(study):
    store = open_store(study / "store")
    torch.testing.assert_close(images(study / "teacher" / "restored.h5"), restored(store, SPARSE))
    description = read_description(study / "teacher" / "model")
    assert description.corruption["operator"] == {"name": "identity", "complex_valued": False}
    assert description.corruption["restored"] == {"solver": SPARSE}
    assert description.conventions.mask_channels == 0


def test_the_teacher_is_one_of_those_images(study, tmp_path):
    """The same weights as training on them as an image store of their own."""
    from lightning_fabric import Fabric

    from mrigen.engine.loop import fit
    from mrigen.engine.teacher import TeacherJob
    from mrigen.recipe import load

    settings = [*SMALL, SOLVER, STANDARD]
    params = load("toy/digits-inpaint", settings).teacher
    store = RestoredStore(study / "teacher" / "restored.h5", open_store(study / "store"), {})
    trained = Model.load(study / "teacher" / "model")
    start = Model.random_init(trained.description, 0)
    job = TeacherJob(
        params, start.denoiser, start.objective(store), store, Fabric(accelerator="cpu", devices=1), 0
    )
    fit(job, tmp_path, job.fabric, "teacher")
    for name, weight in trained.denoiser.network.state_dict().items():
        assert torch.equal(job.result.state_dict()[name], weight), name


def test_an_interrupted_restoration_goes_on_and_another_solver_is_refused(study, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(command(out, SOLVER, STANDARD, "teacher.images=32")) == 0
    before = (out / "teacher" / "restored.h5").stat().st_mtime_ns
    assert run(command(out, SOLVER, STANDARD)) == 0
    assert (out / "teacher" / "restored.h5").stat().st_mtime_ns == before
    once, twice = (read_description(path / "teacher" / "model").weights_sha256 for path in (study, out))
    assert once == twice
    capsys.readouterr()
    assert run(command(out, SOLVER.replace("3", "4"), STANDARD)) == 2
    assert "teacher.restore.iterations: 3 → 4" in capsys.readouterr().err


def test_a_prior_is_the_model_of_the_start(study, tmp_path):
    """A lap of expectation-maximisation from a model that others made."""
    start = study / "teacher" / "model"
    assert run(command(tmp_path / "run", POSTERIOR, STANDARD, f"teacher.init={start}")) == 0
    store, prior = open_store(study / "store"), Model.load(start).prior()
    expected = restored(store, {"name": "mmps", "steps": 2}, prior)
    found = images(tmp_path / "run" / "teacher" / "restored.h5")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    origin = read_description(tmp_path / "run" / "teacher" / "model").corruption["restored"]
    assert origin["teacher"] == read_description(start).weights_sha256


def test_a_student_of_it_is_measured_against_the_measurements(study):
    more = [
        "distill.images=32",
        "distill.batch=16",
        "distill.selection={every_images: 16, samples: 8}",
        "evaluate={samples: 8, features: pixels, sampler: {name: heun, steps: 2}, stops: []}",
    ]
    assert run(command(study, SOLVER, STANDARD, *more, do="run")) == 0
    summary = json.loads((study / "summary.json").read_text())
    assert summary["student"]["fd"] > 0
    assert read_description(study / "student" / "model").corruption["restored"] == {"solver": SPARSE}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([SOLVER], "count as measured whole and without noise: set objective: {name: standard}"),
        ([POSTERIOR, STANDARD], "restore: mmps needs a model; set init to the folder of one"),
        (["teacher.restore={name: latent}", STANDARD], "latent needs a generator"),
        (["teacher.restore={name: tv}", STANDARD], "tv"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, capsys, settings, words):
    assert run(command(tmp_path / "run", *settings)) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
