"""Laps: the teacher restores its training data and is trained on what it restored."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mrigen import seeds
from mrigen.checkpoints.description import read_description
from mrigen.cli.main import run
from mrigen.data.mixed_store import MixedStore
from mrigen.data.restored_store import RestoredStore
from mrigen.data.stores import open_store
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Task
from mrigen.model import Model

TINY = str(Path(__file__).with_name("tiny.yaml"))
LAPS = ["count: 2", "images: 16", "ema_halflife: 8", "samples: 8", "solver: {name: dds, steps: 2, spread: 0}"]


def command(out, *more, laps=LAPS, do="run"):
    return [
        do, TINY, "--out", str(out), "--device", "cpu", "--set", f"laps={{{', '.join(laps)}}}",
        "--set", "data.prep.noise_whitening=true", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("laps") / "run"
    assert run(command(out)) == 0
    return out


def distance(study, number):
    return json.loads((study / f"lap-{number}" / "selection.json").read_text())["proximal"]


def images(path):
    with h5py.File(path) as file:
        return torch.from_numpy(file["images"][:])


def test_the_first_lap_restores_by_the_teachers_own_estimate(study):
    store, teacher = open_store(study / "store"), Model.load(study / "teacher" / "model")
    every = list(range(len(store)))
    data = replace(store.measurements(every), sigma=store.noise_levels(every))
    assert bool((data.sigma > 0).all())
    keys = [seeds.key(0, "lap", "lap-1", index) for index in every]
    solver = SOLVERS.build({"name": "ambient-one-step", "spread": 0.05})
    expected = solver.solve(Task(data, keys, teacher.prior())).image
    torch.testing.assert_close(images(study / "lap-1" / "restored.h5"), expected, rtol=1e-4, atol=1e-5)


def test_a_lap_is_a_model_of_whole_images(study, tmp_path):
    """No coil maps to sample, the seeds of mrigen sample, and what it was trained on is written down."""
    teacher, lap = (read_description(study / name / "model") for name in ("teacher", "lap-1"))
    assert lap.objective["name"] == "standard"
    assert lap.corruption["operator"] == {"name": "identity", "complex_valued": True}
    assert lap.corruption["restored"]["teacher"] == teacher.weights_sha256
    assert lap.conventions == teacher.conventions
    arguments = ["sample", str(study / "lap-1" / "model"), "--seeds", "0-1", "--out", str(tmp_path / "a.h5")]
    assert run([*arguments, "--steps", "2", "--device", "cpu"]) == 0
    assert images(tmp_path / "a.h5").shape == (2, 1, 16, 16)


def test_the_best_lap_is_distilled_and_every_lap_is_a_row(study):
    summary = json.loads((study / "summary.json").read_text())
    numbers = [number for number in (1, 2) if (study / f"lap-{number}" / "selection.json").is_file()]
    best = min(numbers, key=lambda number: distance(study, number))
    student = json.loads((study / "student" / "stage.json").read_text())["settings"]
    assert student["teacher"] == read_description(study / f"lap-{best}" / "model").weights_sha256
    for number in numbers:
        row = summary[f"lap-{number}"]
        assert row["fd"] > 0
        assert row["evaluations"] == summary["teacher"]["evaluations"]
    assert read_description(study / "student" / "model").objective["name"] == "standard"


def test_laps_have_a_sampler_of_their_own(study, tmp_path):
    """Evaluating a finished run again with it: the lap's row is of its images, the teacher's row stays."""
    shutil.copytree(study, out := tmp_path / "run")
    spec = {"name": "euler", "steps": 3, "churn": 1.0}
    sets = ["--set", f"evaluate.lap_sampler={json.dumps(spec)}"]
    assert run(command(out, *sets)) == 0
    before, summary = (json.loads((each / "summary.json").read_text()) for each in (study, out))
    assert summary["teacher"]["fd"] == before["teacher"]["fd"]
    assert summary["lap-1"]["evaluations"] == 3
    lap = Model.load(out / "lap-1" / "model")
    expected = lap.sample(summary["n"], seed=0, sampler=spec)
    (sampled,) = {*(out / "samples").glob("lap-1*/images.h5")} - {out / "samples" / "lap-1" / "images.h5"}
    torch.testing.assert_close(images(sampled), expected, rtol=1e-4, atol=1e-5)


def test_more_laps_continue_and_interrupted_ones_end_the_same(study, tmp_path):
    one = ["count: 1", *LAPS[1:]]
    out = tmp_path / "run"
    assert run(command(out, laps=one, do="train")) == 0
    (out / "lap-1" / "restored.h5").unlink()  # as if it had been stopped while the images were made
    record = out / "lap-1" / "stage.json"
    record.write_text(record.read_text().replace('"finished": true', '"finished": false'))
    for path in (out / "lap-1").glob("state-*"):
        path.unlink()
    assert run(command(out, do="train")) == 0
    for number in (1, 2):
        a, b = (Model.load(folder / f"lap-{number}" / "model") for folder in (study, out))
        assert a.description.weights_sha256 == b.description.weights_sha256


def test_a_longer_lap_continues_and_nothing_made_of_it_is_lost(study, tmp_path, capsys):
    """As a lap of that length from the start; a student or a later lap says what to do instead."""
    for out, lengths in ((tmp_path / "twice", (8, 16)), (tmp_path / "once", (16,))):
        for length in lengths:
            assert run(command(out, laps=["count: 1", f"images: {length}", *LAPS[2:]], do="train")) == 0
        if len(lengths) == 2:
            assert "lap-1: continues after 8 images, to 16 instead of 8" in capsys.readouterr().out
    once, twice = (read_description(tmp_path / name / "lap-1" / "model") for name in ("once", "twice"))
    assert once.weights_sha256 == twice.weights_sha256
    before = read_description(study / "lap-1" / "model")
    assert run(command(study, laps=["count: 2", "images: 32", *LAPS[2:]], do="train")) == 2
    error = capsys.readouterr().err
    assert "student: was made with lap 1 as it is" in error
    assert "--redo distill" in error
    assert read_description(study / "lap-1" / "model") == before


def test_micro_batches_that_do_not_divide_are_refused_before_training(tmp_path, capsys):
    laps = [*LAPS, "batch: 8", "micro_batch: 3"]
    assert run(command(tmp_path / "run", laps=laps)) == 2
    assert "micro-batches of 3 do not divide batches of 8; set laps.micro_batch" in capsys.readouterr().err
    assert not (tmp_path / "run" / "teacher").exists()


def test_unknown_noise_is_refused_before_training(tmp_path, capsys):
    arguments = [*command(tmp_path / "run", do="train"), "--set", "data.prep.noise_whitening=false"]
    assert run(arguments) == 2
    message = capsys.readouterr().err
    assert "noise_whitening: true" in message
    assert not (tmp_path / "run" / "teacher").exists()


def test_restored_images_stand_for_measurements(study, tmp_path):
    store = open_store(study / "store")
    restored = RestoredStore(study / "lap-1" / "restored.h5", store, {"solver": "x"})
    batch = restored.measurements([3, 0, 3])
    expected = images(study / "lap-1" / "restored.h5")[[3, 0, 3]]
    assert torch.equal(batch.y, expected)
    assert torch.equal(batch.operator.forward(expected), expected)
    assert torch.equal(restored.corruption().draw(2, torch.Generator()).zero_image(), expected[:2] * 0)
    with h5py.File(tmp_path / "few.h5", "w") as file:
        file["images"] = np.zeros((2, 1, 16, 16), np.complex64)
    with pytest.raises(UsageError, match="not one for each"):
        RestoredStore(tmp_path / "few.h5", store, {})


def test_data_consistency_of_one_step_gives_back_what_was_measured(study):
    """argmin ‖A x − y‖² + (σ/s)² ‖x − x̂‖²: its gradient vanishes; s → 0 keeps the estimate."""
    store = open_store(study / "store")
    data = replace(store.measurements([0, 1]), sigma=torch.full((2,), 0.1))
    prior = Model.load(study / "teacher" / "model").prior()

    def solve(**more):
        solver = SOLVERS.build({"name": "ambient-one-step", **more})
        return solver.solve(Task(data, [1, 2], prior)).image

    estimate, x = solve(), solve(spread=0.2, cg_steps=100)
    A = data.operator
    gradient = A.adjoint(A.forward(x) - data.y) + (0.1 / 0.2) ** 2 * (x - estimate)
    assert gradient.abs().max() < 1e-4 * estimate.abs().max()
    torch.testing.assert_close(solve(spread=1e-5), estimate, rtol=1e-4, atol=1e-5)


def test_below_a_level_a_lap_learns_from_what_was_measured_whole(study, tmp_path, capsys):
    """A second store of whole scans: its restored images count at all levels, the others from 0.3 on."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    options = ["--acceleration", "1", "--acs-lines", "4", "--kernel-width", "3", "--calib-readout", "12"]
    assert run(["prep-fastmri", str(study / "raw"), "--out", str(whole), *options, "--noise-whitening"]) == 0
    laps = ["count: 1", "images: 16", "ema_halflife: 8", "samples: 8", "usable_from: 0.3"]
    one = ["--set", f"data.store={study / 'store'}"]
    assert run(command(tmp_path / "refused", *one, laps=laps, do="train")) == 2
    assert "laps.usable_from: no image was measured whole" in capsys.readouterr().err
    both = ["--set", f"data.store=[{study / 'store'}, {{path: {whole}}}]"]
    assert run(command(out, *both, laps=laps, do="train")) == 0
    parts = [open_store(study / "store"), open_store(whole)]
    restored = RestoredStore(out / "lap-1" / "restored.h5", MixedStore(parts), {}, 0.3)
    levels = restored.noise_levels(list(range(len(restored))))
    assert levels.tolist() == pytest.approx([0.3] * len(parts[0]) + [0.0] * len(parts[1]))
    assert read_description(out / "lap-1" / "model").objective["name"] == "standard"
    plain = tmp_path / "plain"
    assert run(command(plain, *both, laps=laps[:-1], do="train")) == 0
    a, b = (read_description(folder / "lap-1" / "model").weights_sha256 for folder in (out, plain))
    assert a != b
    record = json.loads((out / "teacher" / "stage.json").read_text())["settings"]["data"]
    assert len(record["manifests"]) == 2
    assert record["usable_from"] == [0.0, 0.0]


def test_noise_up_to_a_level_is_for_objectives_that_account_for_it(study, tmp_path, capsys):
    store = f"data.store=[{study / 'store'}, {{path: {study / 'store'}, usable_from: 0.5}}]"
    assert run(command(tmp_path / "run", "--set", store, laps=LAPS, do="train")) == 2
    assert "usable_from adds noise, which objective ambient would take for signal" in capsys.readouterr().err


def test_a_lap_that_trusts_what_was_measured(study, tmp_path, capsys):
    """Other weights than without, the same model of whole images; one rule for restored images at a time."""
    laps = ["count: 1", *LAPS[1:]]
    out = tmp_path / "run"
    assert run(command(out, laps=[*laps, "unmeasured_weight: 0.05"], do="train")) == 0
    a, b = (read_description(folder / "lap-1" / "model") for folder in (study, out))
    assert a.weights_sha256 != b.weights_sha256
    assert (a.objective, a.corruption) == (b.objective, b.corruption)
    assert torch.equal(images(study / "lap-1" / "restored.h5"), images(out / "lap-1" / "restored.h5"))
    both = [*laps, "unmeasured_weight: 0.05", "usable_from: 0.3"]
    assert run(command(tmp_path / "both", laps=both, do="train")) == 2
    assert "usable_from and unmeasured_weight exclude each other" in capsys.readouterr().err


def test_reconstructions_are_trained_on_by_what_was_measured(study, tmp_path):
    """``teacher.restore`` with objective ``reconstructed``: its model samples like one of whole images."""
    more = [
        "data.store=" + str(study / "store"),
        "teacher.restore={name: l1-wavelet, iterations: 2}",
        "laps=null",
    ]
    sums = set()
    for name in ("standard", "reconstructed"):
        out = tmp_path / name
        settings = [
            word for value in [*more, f"teacher.objective={{name: {name}}}"] for word in ("--set", value)
        ]
        assert run(["train", TINY, "--out", str(out), "--device", "cpu", *settings]) == 0
        sums.add(read_description(out / "teacher" / "model").weights_sha256)
    assert len(sums) == 2
    arguments = ["sample", str(out / "teacher" / "model"), "--seeds", "0-1", "--out", str(tmp_path / "a.h5")]
    assert run([*arguments, "--steps", "2", "--device", "cpu"]) == 0
