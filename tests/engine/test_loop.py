"""The training loop: exact continuation, damaged states, non-finite losses, stop signals."""

import json
import os
import signal

import pytest
import torch
from gpu import needs_gpu
from tiny_jobs import StopAfter, distill_job, fabric, newest, teacher_job, weights

from mrigen.engine.loop import Job, fit
from mrigen.engine.micro_batches import MicroBatch
from mrigen.engine.params import OptimizerParams, RunParams
from mrigen.engine.states import save_state
from mrigen.engine.stops import Interrupted
from mrigen.engine.teacher import sample_indices
from mrigen.errors import NonFiniteLossError


@pytest.mark.parametrize("make", [teacher_job, distill_job])
@pytest.mark.parametrize("steps", [1, 4, 5])
def test_continued_run_is_bit_identical(tmp_path, make, steps):
    """Dropout, order, noise and moments continue exactly from the last saved state."""
    assert torch.equal(*whole_and_continued(tmp_path, make, steps, "cpu"))


@needs_gpu
@pytest.mark.parametrize("make", [teacher_job, distill_job])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("deterministic", [False, True])
def test_continued_run_on_a_gpu(tmp_path, make, steps, deterministic):
    """Bit by bit with ``deterministic``, otherwise within what its kernels differ from run to run."""
    try:
        torch.use_deterministic_algorithms(mode=deterministic)
        whole, continued = whole_and_continued(tmp_path, make, steps, "cuda")
    finally:
        torch.use_deterministic_algorithms(mode=False)
    if deterministic:
        assert torch.equal(whole, continued)
    torch.testing.assert_close(whole, continued, rtol=1e-3, atol=1e-3)


def whole_and_continued(tmp_path, make, steps, device):
    """Weights of a run, and of one that dies after some steps and is continued."""
    whole = make(device=device)
    fit(whole, tmp_path / "whole", fabric(device=device), "whole")
    broken = make(device=device)
    StopAfter(broken, steps)
    with pytest.raises(MemoryError):
        fit(broken, tmp_path / "parts", fabric(device=device), "parts")
    continued = make(device=device)
    fit(continued, tmp_path / "parts", fabric(device=device), "parts")
    return weights(whole), weights(continued)


def test_training_reduces_the_loss(tmp_path):
    job = teacher_job(images=1600, batch=8, snapshot_images=10_000, optimizer=OptimizerParams(lr=2e-3))
    real, losses = job.step, []
    job.step = lambda number: losses.append(real(number)) or losses[-1]
    fit(job, tmp_path, fabric(), "teacher")
    values = [entry["loss"] for entry in losses]
    assert sum(values[-40:]) < 0.8 * sum(values[:40])


def test_micro_batches_accumulate_to_the_mean_gradient(tmp_path):
    """One step on a batch equals the mean over its micro-batches, each with its own randomness."""
    params = {"batch": 4, "micro_batch": 2, "images": 4}
    job = teacher_job(**params)
    before = [p.detach().clone() for p in job.optimizer.module.parameters()]
    parts = []
    for index in range(2):
        single = teacher_job(**params)
        single._micro(0, MicroBatch(index, 0.5, last=True))
        parts.append([p.grad.clone() for p in single.optimizer.module.parameters()])
    grads = []
    job.optimizer.adam.step = lambda: grads.extend(p.grad.clone() for p in job.optimizer.module.parameters())
    job.optimizer._params = job.optimizer._params.model_copy(update={"max_grad_norm": None})
    job.step(0)
    for joint, first, second in zip(grads, *parts, strict=True):
        torch.testing.assert_close(joint, first + second)
    assert before


def test_damaged_state_falls_back_to_the_one_before(tmp_path):
    save_state(tmp_path, 10, {"value": torch.tensor(1)}, keep=2)
    save_state(tmp_path, 20, {"value": torch.tensor(2)}, keep=2)
    (tmp_path / "state-000000000020.pt").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="damaged"):
        assert int(newest(tmp_path)["value"]) == 1


def test_states_without_a_checksum_do_not_count(tmp_path):
    save_state(tmp_path, 10, {"value": torch.tensor(1)}, keep=2)
    (tmp_path / "state-000000000020.pt").write_bytes(b"half written")
    assert int(newest(tmp_path)["value"]) == 1
    assert newest(tmp_path / "nothing") is None


def test_only_the_last_states_are_kept(tmp_path):
    for images in (10, 20, 30):
        save_state(tmp_path, images, {"value": torch.tensor(images)}, keep=2)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["state-000000000020.pt", "state-000000000030.pt"]


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_non_finite_loss_stops_with_the_state_saved(tmp_path, make):
    job = make()
    drive_steps = StopAfter(job, 2)
    with pytest.raises(MemoryError):
        fit(job, tmp_path, fabric(), "run")
    del drive_steps
    bad = make()
    objective = bad.objective if hasattr(bad, "objective") else bad.loss.objective
    poisoned = torch.tensor(float("nan"))
    type_ = type(objective)
    objective.__class__ = type(
        "Poisoned", (type_,), {"__call__": lambda self, *args: poisoned.expand(4) * _grad(args)}
    )
    with pytest.raises(NonFiniteLossError, match="lower the learning rate"):
        fit(bad, tmp_path, fabric(), "run")
    saved = newest(tmp_path)
    assert saved["images"] == bad.images
    assert all(v.isfinite().all() for v in bad.result.parameters())


def _grad(args):
    """A factor that keeps the graph to the network alive."""
    return next(args[0].parameters()).sum() * 0 + 1


def test_stop_signal_saves_and_ends(tmp_path):
    job = teacher_job()
    real = job.step

    def step(number):
        if number == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(number)

    job.step = step
    with pytest.raises(Interrupted):
        fit(job, tmp_path, fabric(), "run")
    assert newest(tmp_path)["images"] == 24
    fit(teacher_job(keep=9), tmp_path, fabric(), "run")
    saved = sorted(int(path.stem.removeprefix("state-")) for path in tmp_path.glob("state-*.pt"))
    assert saved == [16, 24, 32, 48]  # the multiples of 16, as without the stop


def test_log_is_json_lines(tmp_path):
    fit(teacher_job(), tmp_path, fabric(), "run")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["images"] == 4
    assert lines[0]["loss"] > 0


def test_every_epoch_is_a_permutation_that_depends_on_the_position_alone():
    stream = sample_indices(7, seed=3, first=0, batch=28)
    for epoch in range(4):
        assert sorted(stream[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert stream[:7] != stream[7:14]
    assert sample_indices(7, seed=3, first=10, batch=9) == stream[10:19]


def test_run_parameters_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="divide"):
        RunParams(images=10, batch=8, micro_batch=3)


def test_job_is_abstract():
    with pytest.raises(TypeError):
        Job()
