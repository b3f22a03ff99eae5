"""A whole study in miniature: every stage, every picture, skipped and refused stages."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from mrigen.checkpoints.description import read_description
from mrigen.cli.main import run

TINY = str(Path(__file__).with_name("tiny.yaml"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "run"
    assert run(["run", TINY, "--out", str(out), "--device", "cpu"]) == 0
    return out


def arguments(study, *more):
    return ["run", TINY, "--out", str(study), "--device", "cpu", *more]


def test_summary_has_the_numbers(study):
    summary = json.loads((study / "summary.json").read_text())
    for kind in ("observation", "teacher", "student", "floor"):
        assert summary[kind]["fd"] > 0
    for kind in ("teacher", "student"):
        assert summary[kind]["seconds_per_1000"] > 0
    assert summary["teacher"]["evaluations"] == 5
    assert summary["student"]["evaluations"] == 1
    early = summary["teacher-stopped"]
    assert (early["stop"], early["evaluations"]) == (0.5, 3)
    assert summary["teacher"]["stops"] == [early]
    assert 0 < early["seconds_per_1000"] < summary["teacher"]["seconds_per_1000"]
    assert min(early["proximal"], summary["teacher"]["proximal"]) > 0
    assert summary["features"] == ["pca", "r64"]
    assert summary["n"] == 8


def test_stopped_samples_are_those_of_a_sampler_that_stops(study, tmp_path):
    """What one trajectory gave beside its end; no reference chooses among several."""
    command = ["sample", str(study / "teacher" / "model"), "--maps", str(study / "store"), "--seeds", "0-7"]
    command += ["--device", "cpu", "--batch", "250", "--steps", "3", "--out"]
    for name, more in (("images", []), ("images-0.5", ["--set", "stop=0.5"])):
        assert run([*command, str(tmp_path / f"{name}.h5"), *more]) == 0
        with (
            h5py.File(tmp_path / f"{name}.h5") as a,
            h5py.File(study / "samples" / "teacher" / f"{name}.h5") as b,
        ):
            np.testing.assert_allclose(a["images"], b["images"], rtol=1e-4, atol=1e-5)
            assert a["images"].shape == (8, 1, 16, 16)


def test_samplers_of_the_command(study, tmp_path, capsys):
    """Any sampler of a recipe; what is none, or for a generator, is refused before a file is there."""
    teacher = ["sample", str(study / "teacher" / "model"), "--maps", str(study / "store"), "--seeds", "0-1"]
    command = [*teacher, "--device", "cpu", "--out"]
    kinds = {
        "a": [],
        "b": ["--sampler", "euler"],
        "c": ["--set", "clip=0.1"],
        "d": ["--set", "grid.sigma_min=1"],
    }
    images = {}
    for name, more in kinds.items():
        assert run([*command, str(tmp_path / f"{name}.h5"), "--steps", "4", *more]) == 0
        with h5py.File(tmp_path / f"{name}.h5") as file:
            images[name] = file["images"][:]
    assert len({value.tobytes() for value in images.values()}) == 4
    assert np.abs(np.stack([images["c"].real, images["c"].imag])).max() <= 0.1 + 1e-4
    student = ["sample", str(study / "student" / "model"), "--device", "cpu", "--out"]
    for words, message in (
        ([*command, str(tmp_path / "x.h5"), "--sampler", "hein"], "did you mean 'heun'?"),
        ([*command, str(tmp_path / "x.h5"), "--set", "stopp=1"], "stopp: unknown key"),
        ([*command, str(tmp_path / "x.h5"), "--set", "stop"], "--set stop: write key=value"),
        ([*command, str(tmp_path / "x.h5"), "--set", "stop=100"], "lower sampler.stop"),
        ([*student, str(tmp_path / "x.h5"), "--steps", "4"], "4 steps of a generator that has 1"),
        ([*student, str(tmp_path / "x.h5"), "--sampler", "heun"], "is a generator, which needs no sampler"),
        ([*student, str(tmp_path / "x.h5"), "--set", "clip=1"], "is a generator, which needs no sampler"),
    ):
        assert run(words) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len([line for line in error.splitlines() if line.startswith("mrigen: ")]) == 1
    assert sorted(path.stem for path in tmp_path.glob("*.h5")) == ["a", "b", "c", "d"]


def test_figure_shows_the_references(study):
    with Image.open(study / "figure.png") as file:
        picture = np.asarray(file.convert("L"))
    assert picture.shape[1] > 1000
    assert (picture < 50).mean() > 0.1


def test_finished_stages_are_skipped(study, capsys):
    before = {p: p.stat().st_mtime_ns for p in study.rglob("model.safetensors")}
    assert run(arguments(study)) == 0
    out = capsys.readouterr().out
    for stage in ("data", "teacher", "student", "samples of the teacher"):
        assert f"{stage}: finished before, skipped" in out
    assert {p: p.stat().st_mtime_ns for p in study.rglob("model.safetensors")} == before


def test_other_settings_are_refused_and_named(study, capsys):
    assert run(arguments(study, "--set", "teacher.optimizer.lr=0.5")) == 2
    error = capsys.readouterr().err
    assert "teacher.optimizer.lr: 0.001 → 0.5" in error
    assert "choose another --out" in error
    assert len(error.strip().splitlines()) == 1


def test_models_say_how_they_were_made(study):
    teacher = read_description(study / "teacher" / "model")
    student = read_description(study / "student" / "model")
    assert teacher.role == "teacher"
    assert teacher.objective == {"name": "ambient"}
    assert teacher.corruption["mask"]["acceleration"] == 2
    assert student.role == "generator"
    assert student.sigma_init == 2.5
    assert student.generator_input == "full"
    assert student.image_shape == (1, 16, 16)


def test_samples_depend_on_their_seed_alone(study, tmp_path):
    model = str(study / "student" / "model")
    assert run(["sample", model, "--seeds", "0-9", "--out", str(tmp_path / "a.h5"), "--device", "cpu"]) == 0
    some = ["--seeds", "7,3", "--batch", "1"]
    assert run(["sample", model, *some, "--out", str(tmp_path / "b.h5"), "--device", "cpu"]) == 0
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert list(b["seeds"]) == [7, 3]
        np.testing.assert_allclose(a["images"][[3, 7]], b["images"][:][::-1], rtol=1e-4, atol=1e-5)
        assert a["images"].dtype == np.complex64
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] >= 128


def test_teacher_samples_need_maps_and_do_not_depend_on_the_batch(study, tmp_path, capsys):
    model = str(study / "teacher" / "model")
    command = ["sample", model, "--steps", "2", "--device", "cpu", "--out"]
    assert run([*command, str(tmp_path / "x.h5")]) == 2
    assert "--maps STORE" in capsys.readouterr().err
    maps = ["--maps", str(study / "store")]
    assert run([*command, str(tmp_path / "a.h5"), *maps, "--seeds", "0-4"]) == 0
    assert run([*command, str(tmp_path / "b.h5"), *maps, "--seeds", "4", "--batch", "1"]) == 0
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        np.testing.assert_allclose(a["images"][4], b["images"][0], rtol=1e-3, atol=1e-4)


def test_evaluate_measures_sample_files(study, tmp_path, capsys):
    files = [str(study / "samples" / name / "images.h5") for name in ("teacher", "student")]
    out = tmp_path / "numbers.json"
    command = ["evaluate", *files, "--reference", str(study / "store-reference"), "--out", str(out)]
    assert run(command) == 0
    results = json.loads(out.read_text())["results"]
    summary = json.loads((study / "summary.json").read_text())
    assert results[1]["fd"] == pytest.approx(summary["student"]["fd"], rel=0.05)
    assert [row["n"] for row in results] == [8, 8]
    capsys.readouterr()
    assert run(["evaluate", files[0], "--reference", str(study / "store")]) == 2
    assert "not references" in capsys.readouterr().err


def test_training_cannot_open_references(study, tmp_path, capsys):
    command = [
        "train",
        TINY,
        "--data",
        str(study / "store-reference"),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    assert run(command) == 2
    assert "reference images for evaluation" in capsys.readouterr().err


def test_store_holds_no_clean_image(study):
    """Nothing beyond the measured points: with maps of unit norm they cannot give the reference."""
    with h5py.File(next((study / "store").glob("*.h5"))) as file:
        assert set(file) <= {"samples", "mask", "acquired", "maps", "scale", "further", "record"}
        points = file["mask"][:].sum((1, 2)) * 16
        assert file["samples"].shape[-1] == points.max() <= 16 * 16 // 2


def test_interrupted_stage_continues_to_the_same_student(study, tmp_path):
    """The student distilled again from the same teacher, in two parts, has the same weights."""
    again = tmp_path / "run"
    shutil.copytree(study, again)
    whole = (again / "student" / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(again / "student" / "model")
    newest = max((again / "student").glob("state-*.json"))
    record = json.loads((again / "student" / "stage.json").read_text())
    (again / "student" / "stage.json").write_text(json.dumps({**record, "finished": False}))
    newest.unlink()
    assert run(["distill", TINY, "--out", str(again), "--device", "cpu"]) == 0
    assert (again / "student" / "model" / "model.safetensors").read_bytes() == whole


def test_given_teacher_is_distilled_with_given_maps(study, tmp_path):
    out = tmp_path / "run"
    teacher, maps = str(study / "teacher" / "model"), str(study / "store")
    command = ["distill", TINY, "--teacher", teacher, "--maps", maps, "--out", str(out), "--device", "cpu"]
    assert run(command) == 0
    ours = (out / "student" / "model" / "model.safetensors").read_bytes()
    assert ours == (study / "student" / "model" / "model.safetensors").read_bytes()


def test_released_teacher_is_distilled_and_sampled(study, tmp_path, data):
    """The golden Ambient-MRI checkpoint: imported, then run on a store of 32 x 32 slices."""
    imported = tmp_path / "imported"
    source = data / "golden" / "ambient_mri" / "network-snapshot.pkl"
    assert run(["import-checkpoint", str(source), str(imported)]) == 0
    description = json.loads((imported / "model.json").read_text())
    description["corruption"]["mask"]["acs_lines"] = 4
    (imported / "model.json").write_text(json.dumps(description))
    raw, store = tmp_path / "raw", tmp_path / "store"
    assert (
        run(["simulate", "--out", str(raw), "--volumes", "1", "--slices", "3", "--matrix", "32", "32"]) == 0
    )
    prep = ["prep-fastmri", str(raw), "--out", str(store), "--acceleration", "4", "--acs-lines", "4"]
    assert run([*prep, "--kernel-width", "3", "--no-noise-whitening"]) == 0
    out = tmp_path / "run"
    distill = ["distill", TINY, "--teacher", str(imported), "--maps", str(store), "--out", str(out)]
    assert run([*distill, "--device", "cpu", "--set", "distill.images=8"]) == 0
    student = read_description(out / "student" / "model")
    assert student.conventions.network_channels == 4
    assert student.image_shape == (1, 32, 32)
    sample = [
        "sample",
        str(imported),
        "--maps",
        str(store),
        "--steps",
        "2",
        "--seeds",
        "0-1",
        "--device",
        "cpu",
    ]
    assert run([*sample, "--out", str(tmp_path / "teacher.h5")]) == 0
    with h5py.File(tmp_path / "teacher.h5") as file:
        assert torch.from_numpy(file["images"][:]).abs().isfinite().all()
