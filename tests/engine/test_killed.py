"""Killed at random moments of training and distillation: the continued weights are bit-identical."""

import os
import random
import select
import signal
import time

import pytest
import torch
from tiny_jobs import distill_job, fabric, newest, teacher_job, weights

from mrigen.engine.loop import drive
from mrigen.engine.states import save_state
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


def kill(child, after, number=signal.SIGKILL):
    """Send a signal and wait for the end, 30 s at most: what a cluster grants a preempted job."""
    time.sleep(after)
    os.kill(child, number)
    end = time.monotonic() + 30
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert time.monotonic() < end, "did not end"
        time.sleep(0.01)


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_killed_at_random_moments(tmp_path, make):
    """Six kills each, wherever they hit; a state is written after every step."""
    whole = make(snapshot_images=4)
    start = time.monotonic()
    drive(whole, tmp_path / "whole", fabric(), "whole")
    length = time.monotonic() - start
    for number in [signal.SIGKILL, signal.SIGTERM] * 3:
        child = in_child(lambda: drive(make(snapshot_images=4), tmp_path / "parts", fabric(), "parts"))
        kill(child, random.uniform(0, length), number)
    continued = make(snapshot_images=4)
    drive(continued, tmp_path / "parts", fabric(), "parts")
    assert torch.equal(weights(whole), weights(continued))
    left = {path.suffix for path in (tmp_path / "parts").iterdir()}
    assert left == {".pt", ".json", ".jsonl"}


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_a_preempted_run_has_lost_no_step(tmp_path, make):
    """SIGTERM between two snapshots: the state of the last step is there."""
    read, write = os.pipe()

    def action():
        job = make(snapshot_images=1000, images=400)
        step = job.step

        def told(number):
            logs = step(number)
            os.write(write, bytes([number]))
            return logs

        job.step = told
        drive(job, tmp_path, fabric(), "run")

    child = in_child(action)
    done = b""
    while len(done) < 3:
        done += os.read(read, 1)
    kill(child, 0, signal.SIGTERM)
    done += os.read(read, 1000) if _waiting(read) else b""
    assert newest(tmp_path)["images"] == 4 * (done[-1] + 1)


def _waiting(handle):
    return bool(select.select([handle], [], [], 0)[0])


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
    assert newest(tmp_path / "parts")["images"] == 16
    continued = teacher_job()
    drive(continued, tmp_path / "parts", fabric(), "parts")
    assert torch.equal(weights(job), weights(continued))
    assert not list((tmp_path / "parts").glob(".state-*.tmp"))


def test_a_damaged_state_does_not_outlive_what_follows_it(tmp_path):
    """With one state kept, a damaged newer one must not push out the good one."""
    save_state(tmp_path, 20, {"value": torch.tensor(2)}, keep=1)
    (tmp_path / "state-000000000020.pt").write_bytes(b"torn")
    save_state(tmp_path, 10, {"value": torch.tensor(1)}, keep=1)
    assert int(newest(tmp_path)["value"]) == 1


def test_two_processes_do_not_write_one_run(tmp_path):
    with locked(tmp_path), pytest.raises(UsageError, match="another mrigen is writing"):
        drive(teacher_job(), tmp_path, fabric(), "run")
