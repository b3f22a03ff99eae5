"""What ends a run before its time, and what it leaves: models of snapshots, requests to end."""

import os
import resource
import signal
import time

import pytest
import torch
from test_killed import in_child, kill, same
from tiny_jobs import StopAfter, distill_job, fabric, newest, teacher_job, weights
from waiting import wait_until

from mrigen.engine.loop import fit
from mrigen.engine.states import save_state
from mrigen.engine.stops import REQUEST, RUNNING, end_requests, request_end, running


def norm(generator):
    """A metric without randomness."""
    return float(sum(p.square().sum() for p in generator.parameters()))


def test_a_snapshot_follows_every_state(tmp_path):
    """Called once per saved state, after it, with the images of it; also where the run is interrupted."""
    calls = []

    def snapshot(images):
        calls.append((images, newest(tmp_path)["images"]))

    job = teacher_job()
    StopAfter(job, 5)
    with pytest.raises(MemoryError):
        fit(job, tmp_path, fabric(), "run", snapshot=snapshot)
    assert calls == [(16, 16)]
    fit(teacher_job(), tmp_path, fabric(), "run", snapshot=snapshot)
    assert calls == [(16, 16), (32, 32), (48, 48)]


def test_a_full_disk_is_named_and_leaves_the_states_before(tmp_path):
    """Files of at most 10 kB, as on a disk with no more space."""
    save_state(tmp_path, 10, {"value": torch.tensor(1)}, keep=1)

    def action():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(OSError, match=r"No space left on device.*state-000000000020\.pt"):
            save_state(tmp_path, 20, {"value": torch.zeros(100_000)}, keep=1)

    assert os.waitstatus_to_exitcode(os.waitpid(in_child(action), 0)[1]) == 0
    assert int(newest(tmp_path)["value"]) == 1


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_a_longer_run_continues_a_shorter_one_exactly(tmp_path, make):
    """Constant and warm-up rates: weights, moments and averages of an uninterrupted long run."""
    params = {"batch": 8, "snapshot_images": 1000}
    short = make(**params, images=20)  # three steps of 8
    fit(short, tmp_path / "parts", fabric(), "run")
    parts, whole = (make(**params, images=40) for _ in range(2))
    fit(parts, tmp_path / "parts", fabric(), "run")
    fit(whole, tmp_path / "whole", fabric(), "run")
    assert torch.equal(weights(parts), weights(whole))
    assert same(newest(tmp_path / "parts"), newest(tmp_path / "whole"))
    assert not torch.equal(weights(short), weights(whole))


def test_a_run_shorter_than_its_interval_is_measured_at_its_end(tmp_path):
    """And a longer one that continues it does not know: its state is that of an uninterrupted one."""
    selection = {"every_images": 32, "samples": 4}
    short = distill_job(norm, selection=selection)
    fit(short, tmp_path / "parts", fabric(), "run")
    assert [row[0] for row in short.averages.history] == [24]
    assert short.averages.chosen[1] == 24
    again = distill_job(norm, selection=selection)
    fit(again, tmp_path / "parts", fabric(), "run")
    assert again.averages.history == short.averages.history
    parts, whole = (distill_job(norm, selection=selection, images=64) for _ in range(2))
    fit(parts, tmp_path / "parts", fabric(), "run")
    fit(whole, tmp_path / "whole", fabric(), "run")
    assert [row[0] for row in parts.averages.history] == [32, 64]
    assert same(newest(tmp_path / "parts"), newest(tmp_path / "whole"))


def slowly(job, pause=0.02):
    real = job.step

    def step(number):
        time.sleep(pause)
        return real(number)

    job.step = step
    return job


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_a_request_ends_the_run_as_finished(tmp_path, make):
    """From another process; the state of the last step is there, and a longer run continues it exactly."""
    read, write = os.pipe()

    def action():
        job = slowly(make(images=100_000, snapshot_images=100_000))
        fit(job, tmp_path / "parts", fabric(), "run")
        os.write(write, str(job.images).encode())

    child = in_child(action)
    try:
        record = wait_until(lambda: running(tmp_path / "parts"))
        assert record["process"] == child
        assert request_end(tmp_path / "parts", record, 60) == "ending"
    except BaseException:
        kill(child, 0)
        raise
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    images = int(os.read(read, 100))
    assert newest(tmp_path / "parts")["images"] == images
    assert running(tmp_path / "parts") is None
    assert not any((tmp_path / "parts" / name).exists() for name in (RUNNING, REQUEST))
    longer = {"images": images + 16, "snapshot_images": 100_000}
    parts, whole = make(**longer), make(**longer)
    fit(parts, tmp_path / "parts", fabric(), "run")
    fit(whole, tmp_path / "whole", fabric(), "run")
    assert same(newest(tmp_path / "parts"), newest(tmp_path / "whole"))


def test_a_request_for_another_run_is_forgotten(tmp_path):
    """A run that died left its record and a request: the next one goes on to its end."""
    child = in_child(lambda: fit(slowly(teacher_job(images=100_000)), tmp_path, fabric(), "run"))
    record = wait_until(lambda: running(tmp_path))
    kill(child, 0)
    assert (tmp_path / RUNNING).is_file()
    assert running(tmp_path) is None
    assert request_end(tmp_path, record, 0) == "over"
    (tmp_path / REQUEST).write_text(record["token"])
    job = teacher_job()
    fit(job, tmp_path, fabric(), "run")
    assert job.images == 48


def test_a_request_that_is_not_answered_stays(tmp_path):
    with end_requests(tmp_path) as asked:
        record = running(tmp_path)
        assert not asked()
        assert request_end(tmp_path, record, 0) == "silent"
        wait_until(asked, 60)
        assert not (tmp_path / REQUEST).exists()
    assert list(tmp_path.iterdir()) == []
