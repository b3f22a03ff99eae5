"""Commands under torchrun with two processes give the files of one, and say everything once."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from launcher import TORCHRUN, finished, started, torchrun
from waiting import wait_until

from mrigen.cli.main import run

HERE = Path(__file__).parent
CPU = ["--device", "cpu"]
STUDY = [str(HERE / "tiny.yaml"), *CPU]
SHARED = ["--set", "teacher.micro_batch=4", "--set", "distill.micro_batch=4"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert run(["run", *STUDY, *SHARED, "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    done = torchrun("-m", "mrigen", "run", *STUDY, *SHARED, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_study_has_the_numbers_of_one_process(alone, together):
    one, two = (json.loads((f / "run" / "summary.json").read_text()) for f in (alone, together[0]))
    for kind in ("observation", "teacher", "student", "floor"):
        assert two[kind]["fd"] == pytest.approx(one[kind]["fd"], rel=1e-3)
    assert two["n"] == one["n"]
    names = [
        {str(path.relative_to(f)) for path in (f / "run").rglob("*") if "state-" not in path.name}
        for f in (alone, together[0])
    ]
    assert names[0] == names[1]


LAPS = [
    "--set",
    "laps={count: 2, images: 16, ema_halflife: 8, samples: 8, solver: {name: mmps, steps: 2}}",
    "--set",
    "data.prep.noise_whitening=true",
]


def test_laps_restore_and_train_as_one_process_does(tmp_path):
    """Two laps, the second of posterior samples that depend on the seed of each image alone."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(["train", *STUDY, *SHARED, *LAPS, "--out", str(one)]) == 0
    done = torchrun("-m", "mrigen", "train", *STUDY, *SHARED, *LAPS, "--out", two)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in one.glob("lap-*")} == {path.name for path in two.glob("lap-*")}
    for number in (1, 2):
        restored = []
        for folder in (one, two):
            with h5py.File(folder / f"lap-{number}" / "restored.h5") as file:
                restored.append(file["images"][:])
        np.testing.assert_allclose(restored[1], restored[0], rtol=2e-2, atol=2e-3)
        distances = [
            json.loads((folder / f"lap-{number}" / "selection.json").read_text())["proximal"]
            for folder in (one, two)
        ]
        assert distances[1] == pytest.approx(distances[0], rel=2e-2)
    assert done.stdout.count("lap-1: proximal distance") == 1


def test_stop_ends_a_training_of_two_processes_as_finished(alone, tmp_path):
    store, out = str(alone / "run" / "store"), tmp_path / "run"
    long = ["--set", "teacher.images=1000000", "--set", "teacher.snapshot_images=16"]
    command = ["-m", "mrigen", "train", *STUDY, *SHARED, *long, "--data", store, "--out", out]
    process = started(*TORCHRUN, "--standalone", "--nproc-per-node", 2, *command)
    wait_until(lambda: list((out / "teacher").glob("state-*.json")), seconds=120)
    assert run(["stop", str(out)]) == 0
    done = finished(process)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "teacher" / "stage.json").read_text())["finished"]
    assert (out / "teacher" / "model" / "model.json").is_file()


def test_a_study_tells_everything_once(together):
    _, done = together
    assert done.stdout.count("numbers: ") == 1
    assert done.stderr.count("teacher: 32/32 img") == 1


def commands(run_folder, out):
    """Samples of the student and the teacher, ten in batches of three, and numbers of the former."""
    store, some = run_folder / "store", [*CPU, "--seeds", "0-9", "--batch", "3"]
    student, teacher = (str(run_folder / name / "model") for name in ("student", "teacher"))
    reference = ["--reference", f"{store}-reference", "--cache", str(out.parent / "cache"), *CPU]
    return [
        ["sample", student, "--out", str(out / "student.npz"), *some],
        ["sample", teacher, "--maps", str(store), "--steps", "2", "--out", str(out / "t.h5"), *some],
        ["evaluate", str(out / "student.npz"), *reference, "--out", str(out / "n.json")],
    ]


def test_samples_are_those_of_one_process_and_the_first_one_evaluates(alone, tmp_path):
    made, one, two = alone / "run", tmp_path / "one", tmp_path / "two"
    two.mkdir()
    assert [run(arguments) for arguments in commands(made, one)] == [0, 0, 0]
    wrong = ["train", *STUDY, "--data", str(made / "store"), "--out", str(two / "run")]
    (tmp_path / "asked.json").write_text(json.dumps([*commands(made, two), ["recipes", "list"], wrong]))
    done = torchrun(HERE / "commands_worker.py", tmp_path / "asked.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "asked.json.codes").read_text()) == [0, 0, 0, 2, 2]
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    for name in ("student.npz", "student.png", "t.h5", "t.nii"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    found, expected = (json.loads((f / "n.json").read_text())["results"][0] for f in (two, one))
    assert found["fd"] == pytest.approx(expected["fd"])
    assert found["n"] == 10
    assert done.stdout.count("images: ") == 2
    assert done.stderr.count("mrigen recipes: works in one process; start it without torchrun") == 1
    advice = "teacher: 1 micro-batch of 8 images, too few for 2 processes; --set teacher.micro_batch=4"
    assert done.stderr.count(advice) == 1
