"""What a run leaves in its logs, and that a continued one tells nothing twice."""

import json
from contextlib import contextmanager

import pytest
import torch
from tiny_jobs import StopAfter, fabric, teacher_job, weights

from mrigen.engine import logs
from mrigen.engine.logs import Log
from mrigen.engine.loop import fit


class Noted(Log):
    def __init__(self, images):
        self.begun, self.steps, self.snapshots = images, [], []

    def step(self, images, logs):
        self.steps.append((images, logs["loss"]))

    def snapshot(self, images):
        self.snapshots.append(images)


@pytest.fixture
def noted():
    found = []

    @contextmanager
    def opened(folder, images):
        found.append(Noted(images))
        yield found[-1]

    return found, opened


def test_lines_of_a_continued_run_are_those_of_a_whole_one(tmp_path, monkeypatch):
    """What a killed run logged beyond its last state is logged again, once."""
    monkeypatch.setattr(logs, "SECONDS", 0.0)
    fit(teacher_job(), tmp_path / "whole", fabric(), "whole")
    broken = teacher_job()
    StopAfter(broken, 6)  # 24 images; the last state has 16
    with pytest.raises(MemoryError):
        fit(broken, tmp_path / "parts", fabric(), "parts")
    with (tmp_path / "parts" / "log.jsonl").open("a") as file:
        file.write('{"images": 28, "lo')
    fit(teacher_job(), tmp_path / "parts", fabric(), "parts")
    whole, parts = ((tmp_path / n / "log.jsonl").read_text().splitlines() for n in ("whole", "parts"))
    assert parts == whole
    assert [json.loads(line)["images"] for line in whole] == list(range(4, 49, 4))


def test_another_log_is_told_where_the_run_goes_on(tmp_path, noted):
    found, opened = noted
    broken = teacher_job()
    StopAfter(broken, 6)
    with pytest.raises(MemoryError):
        fit(broken, tmp_path, fabric(), "run", opened)
    fit(teacher_job(), tmp_path, fabric(), "run", opened)
    first, second = found
    assert (first.begun, second.begun) == (0, 16)
    assert [images for images, _ in second.steps] == list(range(20, 49, 4))
    assert first.steps[4:6] == second.steps[:2]
    assert (first.snapshots, second.snapshots) == ([16], [32, 48])


def test_looking_does_not_change_the_run(tmp_path, noted):
    _, opened = noted
    jobs = [teacher_job(), teacher_job()]
    fit(jobs[0], tmp_path / "a", fabric(), "a")
    fit(jobs[1], tmp_path / "b", fabric(), "b", opened)
    assert torch.equal(weights(jobs[0]), weights(jobs[1]))
