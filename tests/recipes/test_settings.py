"""Other settings on a finished or running study: what continues, what is made again, what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mrigen.checkpoints.description import read_description
from mrigen.cli.main import run
from mrigen.engine.states import newest_state, read_state

TINY = str(Path(__file__).with_name("tiny.yaml"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    assert run(command(out)) == 0
    return out


@pytest.fixture
def study(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def command(out, *settings, name="run", redo=None):
    words = [name, TINY, "--out", str(out), "--device", "cpu"]
    words += [word for setting in settings for word in ("--set", setting)]
    return words if redo is None else [*words, "--redo", redo]


def weights(out, stage="teacher"):
    return read_description(out / stage / "model").weights_sha256


def files(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def lines(text):
    return " ".join(text.split())


def test_more_images_continue_a_finished_teacher_exactly(study, tmp_path, capsys):
    """The same weights as a run that was that long from the start."""
    assert run(command(study, "teacher.images=48", name="train")) == 0
    out = capsys.readouterr().out
    assert "continues after 32 images, to 48 instead of 32, exactly as a run of that length" in lines(out)
    whole = [*command(tmp_path / "whole", "teacher.images=48", name="train"), "--data", str(study / "store")]
    assert run(whole) == 0
    assert weights(study) == weights(tmp_path / "whole")
    assert read_description(study / "teacher" / "model").provenance["images"] == 48


def test_more_images_continue_a_finished_student_and_its_evaluation(study, capsys):
    """Teacher and its samples stay; student and its samples follow; the numbers before are kept."""
    before, summary = files(study), json.loads((study / "summary.json").read_text())
    assert run(command(study, "distill.images=32", "distill.selection.patience=9")) == 2
    assert "distill.selection.patience: None → 9" in lines(capsys.readouterr().err)
    assert run(command(study, "distill.images=32")) == 0
    after = files(study)
    for path in before:
        if path.is_relative_to(study / "teacher") or path.is_relative_to(study / "samples"):
            assert after[path] == before[path]
    assert read_state(newest_state(study / "student"))["images"] == 32
    assert [path.name for path in (study / "samples").glob("student.*")]
    kept = json.loads((study / f"summary.{summary['settings']}.json").read_text())
    assert kept == summary
    assert (study / f"figure.{summary['settings']}.png").is_file()
    assert json.loads((study / "summary.json").read_text())["settings"] != summary["settings"]


def test_another_sampler_evaluates_again_and_nothing_else(study, capsys):
    """And a recipe's hints name this run."""
    before = files(study)
    hints = "next=['mrigen sample RUN/student --out x.h5', 'RUNNING']"
    assert run(command(study, "evaluate.sampler.steps=4", hints)) == 0
    out = lines(capsys.readouterr().out)
    assert f"next: mrigen sample {study}/student --out x.h5 next: RUNNING" in out
    assert "the evaluation with other settings is kept" in out
    assert "samples of the student: finished before, skipped" in out
    after = files(study)
    changed = {path.relative_to(study).parts[0] for path in before if after.get(path) != before[path]}
    assert changed <= {"summary.json", "figure.png", "recipe.yaml", "report.html"}
    assert json.loads((study / "summary.json").read_text())["teacher"]["evaluations"] == 7
    assert sorted(path.name.partition(".")[0] for path in (study / "samples").iterdir()) == [
        "student",
        "teacher",
        "teacher",
    ]


def test_other_references_evaluate_again_and_nothing_else(study, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(study / "store-reference", other)
    before, summary = files(study), json.loads((study / "summary.json").read_text())
    assert run(command(study, f"data.reference={other}")) == 0
    after = files(study)
    changed = {path.relative_to(study).parts[0] for path in before if after.get(path) != before[path]}
    assert changed <= {"summary.json", "figure.png", "recipe.yaml", "report.html"}
    assert json.loads((study / "summary.json").read_text())["settings"] != summary["settings"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("teacher.images=16", "has seen 32 images, more than teacher.images=16: --set teacher.images=32"),
        ("teacher.micro_batch=4", "teacher.micro_batch: None → 4"),
        ("distill.images=8", "has seen 16 images, more than distill.images=8: --set distill.images=16"),
        ("distill.sigma_init=1.0", "distill.sigma_init: 2.5 → 1.0); --redo distill discards it"),
        ("teacher.optimizer.lr=0.5", "teacher.optimizer.lr: 0.001 → 0.5); --redo teacher discards it"),
        ("teacher.images=48", "was made with the teacher as it is"),
    ],
)
def test_what_would_lose_something_is_refused_with_the_remedy(finished, capsys, setting, words):
    before = files(finished)
    assert run(command(finished, setting)) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert files(finished) == before


@pytest.mark.parametrize("stage", ["teacher", "distill"])
def test_redo_of_what_does_not_fit_deletes_nothing(finished, capsys, stage):
    before = files(finished)
    assert run(command(finished, f"{stage}.batch=1000000000", redo=stage)) == 2
    assert "1,000,000,000 images at once need at least" in capsys.readouterr().err
    assert files(finished) == before


def test_states_that_are_gone_cannot_be_continued(study, capsys):
    for path in (study / "student").glob("state-*"):
        path.unlink()
    assert run(command(study, "distill.images=32")) == 2
    assert "its states are gone" in capsys.readouterr().err
    assert run(command(study, name="distill")) == 0


def test_how_often_states_are_saved_decides_nothing(study, capsys):
    assert run(command(study, "teacher.snapshot_images=7", "distill.keep=5", name="distill")) == 0
    assert lines(capsys.readouterr().out).count("finished before, skipped") == 3


def test_redo_says_what_it_deletes_and_makes_it_anew(study, capsys):
    """The teacher stays, and so do its samples; the new student is another."""
    before, teacher = weights(study, "student"), files(study / "teacher")
    assert run(command(study, "distill.sigma_init=1.0", redo="distill")) == 0
    out = lines(capsys.readouterr().out)
    assert (
        "--redo distill: deletes student (trained on 16 images), samples/student, report.html, figure.png"
        in out
    )
    assert weights(study, "student") != before
    assert files(study / "teacher") == teacher
    assert "samples of the teacher: finished before, skipped" in out
    assert not list(study.glob("summary.*.json"))


def test_redo_continues_what_it_has_begun(study, monkeypatch, capsys):
    """An interrupted --redo, given again, does not delete what was trained meanwhile."""
    setting = ("distill.images=24", "distill.snapshot_images=8")

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mrigen.recipe.distillation.remove_snapshots", die)
        assert run(command(study, *setting, name="distill", redo="distill")) == 130
    assert "run the same command without --redo to continue" in capsys.readouterr().err
    state = (study / "student" / "state-000000000024.pt").stat().st_mtime_ns
    assert run(command(study, *setting, name="distill", redo="distill")) == 0
    assert "student: not finished yet, continued" in lines(capsys.readouterr().out)
    assert (study / "student" / "state-000000000024.pt").stat().st_mtime_ns == state


def test_redo_of_the_teacher_takes_everything_with_it(study, capsys):
    assert run(command(study, "teacher.optimizer.lr=0.002", name="train", redo="teacher")) == 0
    assert not any((study / name).exists() for name in ("student", "summary.json", "figure.png"))
    assert list((study / "samples").iterdir()) == []
    assert run(command(study, name="train", redo="distill")) == 2
    assert "this command has no such stage; give teacher or laps" in capsys.readouterr().err


def test_a_falling_rate_says_what_it_does(tmp_path, finished, capsys):
    """It continues, and the last rate is that of the longer run."""
    out = tmp_path / "run"
    given = ["--data", str(finished / "store")]
    falling = ["teacher.optimizer.decay=linear", "teacher.optimizer.decay_from=0.5"]
    assert run([*command(out, *falling, name="train"), *given]) == 0
    capsys.readouterr()
    assert run([*command(out, *falling, "teacher.images=64", name="train"), *given]) == 0
    words = "its learning rate falls with the length of the run (linear): so far that of 32 images, from here"
    told = lines(capsys.readouterr().out)
    assert words in told
    assert "(0 → 0.001)" in told
    adam = read_state(newest_state(out / "teacher"))["job"]["optimizer"]["adam"]
    assert adam["param_groups"][0]["lr"] == 0
    assert adam["state"][0]["step"] == torch.tensor(8.0)


def test_smaller_micro_batches_go_on_from_what_was_learnt(tmp_path, finished, capsys):
    """Where less memory is left; it is said that the randomness is another."""
    out = tmp_path / "run"
    given = ["--data", str(finished / "store")]
    assert run([*command(out, name="train"), *given]) == 0
    assert run([*command(out, "teacher.images=48", "teacher.micro_batch=4", name="train"), *given]) == 0
    assert "teacher.micro_batch is another from here on" in lines(capsys.readouterr().out)


def test_hints_can_be_copied(study, capsys):
    assert run(command(study, "teacher.batch=8", name="train")) == 0
    hint = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert hint == [f"next: mrigen distill {TINY} --out {study} --set teacher.batch=8"]
    assert run(command(study, name="distill")) == 0
    hint = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert hint == [f"next: mrigen sample {study}/student/model --seeds 0-99 --out samples.h5"]
