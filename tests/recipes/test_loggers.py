"""Loggers: every step once, images of every snapshot, the same weights; and without their packages."""

import csv
import importlib.util
from pathlib import Path

import pytest

from mrigen.checkpoints.description import read_description
from mrigen.cli import study
from mrigen.cli.main import run
from mrigen.engine.distillation import DistillJob
from mrigen.engine.teacher import TeacherJob
from mrigen.recipe.loggers import KINDS, open_loggers

TINY = str(Path(__file__).with_name("tiny.yaml"))
CHANGES = {
    "teacher": {"batch": 4, "snapshot_images": 16},
    "distill": {"batch": 4, "snapshot_images": 16, "images": 32, "selection.every_images": 32},
}
SMALL = [f"--set={part}.{key}={value}" for part, some in CHANGES.items() for key, value in some.items()]


def distill(out, *more):
    return run(["distill", TINY, "--out", str(out), "--device", "cpu", *SMALL, *more])


def fail_after(monkeypatch, job, steps):
    """The next run is killed after some steps."""
    real, left = job.step, [steps]

    def step(self, number):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("killed")
        return real(self, number)

    monkeypatch.setattr(job, "step", step)


def test_a_killed_run_shows_every_step_once(tmp_path, monkeypatch):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    both = ("--logger", "tensorboard", "--logger", "csv")
    assert distill(tmp_path / "silent") == 0
    for job in (TeacherJob, DistillJob):
        with monkeypatch.context() as patch:
            fail_after(patch, job, 6)
            assert distill(tmp_path / "run", *both) == 1
    assert distill(tmp_path / "run", *both) == 0
    for name, tag in (("teacher", "loss"), ("student", "generator")):
        folder = tmp_path / "run" / name
        events = reader.EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == list(range(4, 33, 4))
        shown = [image.step for image in events.Images("samples")]
        assert shown == [16, 32]
        assert rows(folder / "csv" / "from-0", tag) == list(range(4, 25, 4))
        assert rows(folder / "csv" / "from-16", tag) == list(range(20, 33, 4))
        alone = tmp_path / "silent" / name / "model"
        assert read_description(folder / "model").weights_sha256 == read_description(alone).weights_sha256


@pytest.mark.filterwarnings("default")
def test_mlflow_has_every_step_and_the_images_of_every_snapshot_in_the_run_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # mlflow-skinny does without, and needs a server
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    settings = [setting for setting in SMALL if setting.startswith("--set=teacher")]
    assert run(["train", TINY, "--out", "run", "--device", "cpu", *settings, "--logger", "mlflow"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/run/teacher/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'mrigen'")
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(record.info.run_id, "loss")]
    assert steps == list(range(4, 33, 4))
    shown = [file.path for file in client.list_artifacts(record.info.run_id, "images")]
    assert sorted(int(name.split("step")[1].split("+")[1]) for name in shown if name.endswith(".png")) == [
        16,
        32,
    ]


def rows(folder, tag):
    with (folder / "metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row[tag]]


def test_a_start_replaces_the_tables_that_it_repeats(tmp_path):
    for images in (0, 16, 32, 16):
        with open_loggers(["csv"], None)(tmp_path, images) as log:
            log.step(images + 4, {"loss": 1.0})
            log.snapshot(images + 4)
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == ["from-0", "from-16"]


@pytest.mark.filterwarnings("default")  # of SQLAlchemy and others, which are not ours
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_continued_training_continues_the_run_of_a_service(name, tmp_path, monkeypatch):
    """Weights & Biases without a connection, MLflow in a file of the run folder."""
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    known = []
    for images in (0, 16):
        with open_loggers([name], None)(tmp_path, images) as log:
            log.step(images + 4, {"loss": 1.0})
        known.append((tmp_path / "loggers.json").read_text())
    assert known[0] == known[1]
    with open_loggers([name], None)(tmp_path, 0):
        pass
    assert (tmp_path / "loggers.json").read_text() != known[0]


def test_without_the_package_one_line_says_so(tmp_path, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "mrigen.recipe.loggers.find_spec", lambda name: None if name == "tensorboard" else real(name)
    )
    assert distill(tmp_path / "run", "--logger", "tensorboard") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'mrigen[tensorboard]'" in error
    assert not (tmp_path / "run").exists()


def test_the_command_offers_every_logger():
    assert [each.value for each in study.Logger] == list(KINDS)
