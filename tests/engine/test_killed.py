"""SIGKILL at random moments of training and distillation: the continued weights are bit-identical."""

import os
import random
import signal
import time

import pytest
import torch
from tiny_jobs import distill_job, fabric, teacher_job, weights

from mrigen.engine.loop import drive
from mrigen.engine.states import load_state, save_state
from mrigen.errors import UsageError
from mrigen.files import locked


def in_child(action):
    """Run ``action`` in a forked process; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return child


def kill(child, after):
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_killed_at_random_moments(tmp_path, make):
    """Three kills each, wherever they hit; a state is written after every step."""
    whole = make(snapshot_images=4)
    start = time.monotonic()
    drive(whole, tmp_path / "whole", fabric(), "whole")
    length = time.monotonic() - start
    for _ in range(3):
        child = in_child(lambda: drive(make(snapshot_images=4), tmp_path / "parts", fabric(), "parts"))
        kill(child, random.uniform(0, length))
    continued = make(snapshot_images=4)
    drive(continued, tmp_path / "parts", fabric(), "parts")
    assert torch.equal(weights(whole), weights(continued))
    left = {path.suffix for path in (tmp_path / "parts").iterdir()}
    assert left == {".pt", ".json", ".jsonl"}


@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_killed_inside_a_write(tmp_path, monkeypatch, moment):
    """The state before is the newest whole one, and what was half-written goes at the next start."""
    job = teacher_job()
    drive(job, tmp_path / "whole", fabric(), "whole")

    def die(*arguments):
        os.kill(os.getpid(), signal.SIGKILL)

    def action():
        broken, real = teacher_job(), save_state

        def second(folder, images, state, keep):
            if images > 16:
                target = "mrigen.files.os.fsync" if moment == "fsync" else "pathlib.Path.replace"
                monkeypatch.setattr(target, die)
            real(folder, images, state, keep)

        monkeypatch.setattr("mrigen.engine.loop.save_state", second)
        drive(broken, tmp_path / "parts", fabric(), "parts")

    os.waitpid(in_child(action), 0)
    assert list((tmp_path / "parts").glob(".state-*.tmp"))
    assert load_state(tmp_path / "parts")["images"] == 16
    continued = teacher_job()
    drive(continued, tmp_path / "parts", fabric(), "parts")
    assert torch.equal(weights(job), weights(continued))
    assert not list((tmp_path / "parts").glob(".state-*.tmp"))


def test_a_damaged_state_does_not_outlive_what_follows_it(tmp_path):
    """With one state kept, a damaged newer one must not push out the good one."""
    save_state(tmp_path, 20, {"value": torch.tensor(2)}, keep=1)
    (tmp_path / "state-000000000020.pt").write_bytes(b"torn")
    save_state(tmp_path, 10, {"value": torch.tensor(1)}, keep=1)
    assert int(load_state(tmp_path)["value"]) == 1


def test_two_processes_do_not_write_one_run(tmp_path):
    with locked(tmp_path), pytest.raises(UsageError, match="another mrigen is writing"):
        drive(teacher_job(), tmp_path, fabric(), "run")
