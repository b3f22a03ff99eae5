"""Models of runs that are not finished, and the command that finishes them."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from mrigen.checkpoints.description import read_description
from mrigen.checkpoints.folder import verify_model
from mrigen.checkpoints.snapshots import find_model, snapshots
from mrigen.cli.main import run
from mrigen.engine.distillation import DistillJob
from mrigen.engine.stops import running
from mrigen.engine.teacher import TeacherJob

TINY = str(Path(__file__).with_name("tiny.yaml"))
CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose teacher is finished."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert run(["train", TINY, "--out", str(out), *CPU]) == 0
    return out


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def interrupted_at(monkeypatch, job, images):
    """Ctrl-C in the step that reaches so many images."""
    real = job.step

    def step(self, number):
        if self.images + self.params.batch == images:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, number)

    monkeypatch.setattr(job, "step", step)


def test_an_interrupted_teacher_is_sampled_and_distilled(trained, tmp_path, monkeypatch, capsys):
    out, store = tmp_path / "run", trained / "store"
    train = ["train", TINY, "--out", str(out), "--data", str(store), *CPU]
    small = ["--set", "teacher.snapshot_images=8"]
    with monkeypatch.context() as patched:
        interrupted_at(patched, TeacherJob, 16)
        assert run([*train, *small]) == 130
    assert [path.name for path in snapshots(out / "teacher")] == ["model-000000000008", "model-000000000016"]
    newest = find_model(out)
    assert newest == find_model(out / "teacher") == out / "teacher" / "model-000000000016"
    verify_model(newest)
    assert read_description(newest).provenance["snapshot"] == {"images": 16, "of": 32}
    capsys.readouterr()
    sample = ["sample", "--maps", str(store), "--seeds", "0-1", "--steps", "2", *CPU]
    assert run([*sample, str(out / "teacher"), "--out", str(tmp_path / "a.h5")]) == 0
    assert f"model: {newest} (snapshot after 16 of 32 images)" in capsys.readouterr().out
    assert run([*sample, str(newest), "--out", str(tmp_path / "b.h5")]) == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    distil = ["distill", TINY, "--teacher", str(out / "teacher"), "--maps", str(store), *CPU]
    assert run([*distil, "--out", str(tmp_path / "student"), "--set", "distill.images=8"]) == 0
    student = read_description(tmp_path / "student" / "student" / "model").provenance
    assert student["teacher_snapshot"] == {"images": 16, "of": 32}
    assert "snapshot" not in student
    assert run([*train, *small]) == 0
    assert find_model(out) == out / "teacher" / "model"
    assert snapshots(out / "teacher") == []
    weights = [read_description(each / "teacher" / "model").weights_sha256 for each in (out, trained)]
    assert weights[0] == weights[1]


def test_an_interrupted_student_is_sampled(copied, tmp_path, monkeypatch, capsys):
    distil = ["distill", TINY, "--out", str(copied), *CPU]
    with monkeypatch.context() as patched:
        interrupted_at(patched, DistillJob, 8)
        assert run(distil) == 130
    capsys.readouterr()
    assert run(["sample", str(copied), "--seeds", "0-1", "--out", str(tmp_path / "a.h5"), *CPU]) == 0
    assert "student/model-000000000008 (snapshot after 8 of 16 images)" in capsys.readouterr().out


def test_a_run_without_a_model_says_so(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    (out / "teacher").mkdir(parents=True)
    (out / "teacher" / "stage.json").write_text("{}")
    for path in (out, out / "teacher"):
        assert run(["sample", str(path), "--out", str(tmp_path / "a.h5")]) == 2
        assert "has no model yet" in capsys.readouterr().err


def test_stop_ends_the_teacher_and_the_study_goes_on(trained, tmp_path, monkeypatch, capsys):
    """From another thread, as from another shell."""
    out = tmp_path / "run"
    real = TeacherJob.step

    def step(self, number):
        time.sleep(0.02)
        return real(self, number)

    monkeypatch.setattr(TeacherJob, "step", step)
    codes = []

    def stop():
        end = time.monotonic() + 120
        while running(out / "teacher") is None and time.monotonic() < end:
            time.sleep(0.01)
        codes.append(run(["stop", str(out)]))

    thread = threading.Thread(target=stop)
    thread.start()
    length = ["--set", "teacher.images=1000000"]
    distil = ["distill", TINY, "--data", str(trained / "store"), "--out", str(out), *CPU, *length]
    assert run(distil) == 0
    thread.join()
    assert codes == [0]
    assert "ends after this step as finished" in capsys.readouterr().out
    images = read_description(out / "teacher" / "model").provenance["images"]
    assert 0 < images < 1_000_000
    assert json.loads((out / "teacher" / "stage.json").read_text())["finished"]
    assert read_description(out / "student" / "model").role == "generator"


def test_stop_where_nothing_runs(trained, tmp_path, capsys):
    for path, message in ((trained, "nothing is being trained there now"), (tmp_path / "no", "no such run")):
        assert run(["stop", str(path)]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize("stage", ["teacher", "distill"])
def test_an_absurd_batch_is_refused_and_leaves_nothing(trained, tmp_path, capsys, stage):
    """Before anything is allocated; the corrected command is not another study."""
    out, store = tmp_path / "run", str(trained / "store")
    command = ["distill", TINY, "--data", store, "--out", str(out), *CPU]
    given = ["--teacher", str(trained / "teacher")] if stage == "distill" else []
    assert run([*command, *given, "--set", f"{stage}.batch=1000000000"]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{stage}: 1,000,000,000 images at once need at least" in error
    assert f"--set {stage}.micro_batch=" in error
    assert len(error.splitlines()) == 1
    assert not out.exists()
