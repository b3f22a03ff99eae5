"""Killed at random moments of training and distillation: the continued run is bit-identical."""

import os
import select
import signal
import time
import traceback
from itertools import cycle, islice

import pytest
import torch
from tiny_jobs import distill_job, fabric, newest, teacher_job, weights
from waiting import moments

from mrigen.engine.loop import fit
from mrigen.engine.states import save_state
from mrigen.engine.stops import Interrupted
from mrigen.errors import UsageError
from mrigen.files import locked

JOBS = [teacher_job, distill_job]
KILLS = 10
SAVED, FAILED = 75, 70


def in_child(action):
    """Run ``action`` in a forked process; returns its id.

    Exit code 0 only if it returned, SAVED if it was stopped by a signal after it saved its state.
    """
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            action()
            code = 0
        except Interrupted:
            code = SAVED
        except BaseException:  # noqa: BLE001 (nothing may return into the test's own process)
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def kill(child, after, number=signal.SIGKILL):
    """Send a signal and wait for the end, 30 s at most: what a cluster grants a preempted job.

    Returns whether it struck; otherwise the process had come to its end before.
    """
    time.sleep(after)
    os.kill(child, number)
    end = time.monotonic() + 30
    while (found := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < end, "did not end"
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(found[1])
    assert code in ({0, -number, SAVED} if number == signal.SIGTERM else {0, -number})
    return code != 0


def same(one, other):
    """Whether two states are the same tree of values, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("make", JOBS)
def test_killed_at_random_moments(tmp_path, make):
    """Ten kills that strike, wherever; a state is written after every step.

    A run that comes through is compared with the one that nothing happened to: weights, moments, averages.
    """

    def run(name):
        job = make(images=24, snapshot_images=4)
        fit(job, tmp_path / name, fabric(), name)
        return job

    whole, start = run("whole"), time.monotonic()
    run("timed")
    length = time.monotonic() - start
    expected = newest(tmp_path / "whole")
    struck = completed = 0
    rng = moments()
    for number in islice(cycle([signal.SIGKILL, signal.SIGTERM]), 20 * KILLS):
        name = f"parts-{completed}"
        if struck == KILLS:
            break
        if kill(in_child(lambda name=name: run(name)), rng.uniform(0, length), number):
            struck += 1
        else:
            assert same(newest(tmp_path / name), expected)
            completed += 1
    assert struck == KILLS
    continued = run(name)
    assert torch.equal(weights(whole), weights(continued))
    assert same(newest(tmp_path / name), expected)
    assert {path.suffix for path in (tmp_path / name).iterdir()} == {".pt", ".json", ".jsonl"}


@pytest.mark.parametrize("make", JOBS)
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
        fit(job, tmp_path, fabric(), "run")

    child = in_child(action)
    done = b""
    while len(done) < 3:
        done += os.read(read, 1)
    assert kill(child, 0, signal.SIGTERM)
    done += os.read(read, 1000) if _waiting(read) else b""
    assert newest(tmp_path)["images"] == 4 * (done[-1] + 1)


def _waiting(handle):
    return bool(select.select([handle], [], [], 0)[0])


def norm(generator):
    """A metric without randomness."""
    return float(sum(p.square().sum() for p in generator.parameters()))


def test_a_preempted_measurement_is_made_again(tmp_path):
    """SIGTERM in the middle of a metric that takes an hour: its step is saved, the choice is the same."""
    read, write = os.pipe()

    def slow(ready):
        """A metric that returns ``ready`` times at once, then takes an hour."""
        calls = []

        def score(generator):
            calls.append(generator)
            if len(calls) > ready:
                os.write(write, b"!")
                time.sleep(3600)
            return norm(generator)

        return score

    def make(score):
        return distill_job(score, ema_halflife=[5, 50], selection={"every_images": 8, "samples": 4})

    whole = make(norm)
    fit(whole, tmp_path / "whole", fabric(), "whole")
    child = in_child(lambda: fit(make(slow(2)), tmp_path / "parts", fabric(), "parts"))
    assert os.read(read, 1)
    assert kill(child, 0, signal.SIGTERM)
    assert newest(tmp_path / "parts")["images"] == 8
    assert kill(
        in_child(lambda: fit(make(slow(0)), tmp_path / "parts", fabric(), "parts")), 0.5, signal.SIGTERM
    )
    continued = make(norm)
    fit(continued, tmp_path / "parts", fabric(), "parts")
    assert [row[0] for row in continued.averages.history] == [8, 16, 24]
    assert same(newest(tmp_path / "parts"), newest(tmp_path / "whole"))


def test_preempted_while_the_teacher_draws_its_pairs(tmp_path):
    """The pairs of a regression take longer than a cluster waits; nothing was trained yet."""
    read, write = os.pipe()

    def told(*given):  # returns nothing: anything else would be the network's input
        os.write(write, b"!")

    def action():
        regression = {"pairs": 20_000, "sampler": {"name": "heun", "steps": 2}}
        job = distill_job(loss={"name": "dmd", "regression": regression})
        job.teacher.register_forward_pre_hook(told)
        fit(job, tmp_path, fabric(), "run")

    child = in_child(action)
    assert len(os.read(read, 1) + os.read(read, 1)) == 2
    assert kill(child, 0, signal.SIGTERM)
    assert newest(tmp_path) is None


@pytest.mark.parametrize("make", JOBS)
@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_killed_inside_a_write(tmp_path, monkeypatch, make, moment):
    """The state before is the newest whole one, and what was half-written goes at the next start."""
    job = make(snapshot_images=8)
    fit(job, tmp_path / "whole", fabric(), "whole")

    def die(*arguments):
        os.kill(os.getpid(), signal.SIGKILL)

    def action():
        broken, real = make(snapshot_images=8), save_state

        def second(folder, images, state, keep):
            if images > 16:
                target = "mrigen.files.os.fsync" if moment == "fsync" else "pathlib.Path.replace"
                monkeypatch.setattr(target, die)
            real(folder, images, state, keep)

        monkeypatch.setattr("mrigen.engine.loop.save_state", second)
        fit(broken, tmp_path / "parts", fabric(), "parts")

    _, status = os.waitpid(in_child(action), 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert list((tmp_path / "parts").glob(".state-*.tmp"))
    assert newest(tmp_path / "parts")["images"] == 16
    continued = make(snapshot_images=8)
    fit(continued, tmp_path / "parts", fabric(), "parts")
    assert torch.equal(weights(job), weights(continued))
    assert same(newest(tmp_path / "parts"), newest(tmp_path / "whole"))
    assert not list((tmp_path / "parts").glob(".state-*.tmp"))


def test_a_damaged_state_does_not_outlive_what_follows_it(tmp_path):
    """With one state kept, a damaged newer one must not push out the good one."""
    save_state(tmp_path, 20, {"value": torch.tensor(2)}, keep=1)
    (tmp_path / "state-000000000020.pt").write_bytes(b"torn")
    save_state(tmp_path, 10, {"value": torch.tensor(1)}, keep=1)
    assert int(newest(tmp_path)["value"]) == 1


def test_two_processes_do_not_write_one_run(tmp_path):
    with locked(tmp_path), pytest.raises(UsageError, match="another mrigen is writing"):
        fit(teacher_job(), tmp_path, fabric(), "run")
