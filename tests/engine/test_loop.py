"""The training loop: exact continuation, damaged states, non-finite losses, stop signals."""

import json
import os
import signal

import pytest
import torch
from lightning_fabric import Fabric

from mrigen.conventions import NetworkDenoiser
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.distill import LOSSES
from mrigen.engine.distillation import DistillJob
from mrigen.engine.loop import Interrupted, Job, drive
from mrigen.engine.params import DistillParams, OptimizerParams, RunParams, TeacherParams
from mrigen.engine.states import load_state, save_state
from mrigen.engine.teacher import TeacherJob, sample_indices
from mrigen.errors import NonFiniteLossError
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.base import randn_like
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption


class TinyStore:
    """Eight slices of random k-space in memory, with the interface of a measurement store."""

    image_shape = (1, 8, 8)

    def __init__(self):
        generator = torch.Generator().manual_seed(2)
        maps = torch.randn(8, 2, 8, 8, dtype=torch.complex64, generator=generator)
        self.maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
        self.law = MASKS.build({"name": "exact-random", "acceleration": 2, "acs_lines": 2})
        self.acquired = torch.ones(8, 8, dtype=torch.bool)
        self.masks = self.law.draw(self.acquired, generator)[:, None, None]
        operator = MultiCoilMRI(self.maps, self.masks)
        self.y = operator.forward(0.5 * randn_like(operator.zero_image(), generator))

    def __len__(self):
        return 8

    def bank(self, indices):
        return self.maps[indices], self.masks[indices], self.acquired[indices]

    def measurements(self, indices, *, fixed_further=False):
        assert not fixed_further
        operator = MultiCoilMRI(self.maps[indices], self.masks[indices])
        return Measurements(self.y[indices], operator, torch.zeros(len(indices)))


def tiny_denoiser():
    from mrigen.conventions import Conventions
    from mrigen.networks import NETWORKS, PRECONDITIONERS

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NETWORKS.build(
            {
                "name": "song-unet",
                "resolution": 8,
                "in_channels": 4,
                "out_channels": 2,
                "model_channels": 8,
                "channel_mult": [1],
                "num_blocks": 1,
                "attn_resolutions": [],
                "dropout": 0.2,
            }
        )
        model = PRECONDITIONERS.build({"name": "edm"}, network=network)
    return NetworkDenoiser(model, Conventions())


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def teacher_job(**params):
    store = TinyStore()
    objective = OBJECTIVES.build({"name": "ambient"}, corruption=MRICorruption(store, store.law))
    settings = TeacherParams(
        **{"images": 48, "batch": 4, "snapshot_images": 16, "ema_halflife": 20, **params}
    )
    return TeacherJob(settings, tiny_denoiser(), objective, store, fabric(), seed=7)


def distill_job(score=None, **params):
    store = TinyStore()
    corruption = MRICorruption(store, store.law)
    objective = OBJECTIVES.build({"name": "ambient"}, corruption=corruption)
    loss = LOSSES.build({"name": "sid"}, objective=objective)
    fast = {"lr": 1e-3, "betas": [0.0, 0.999]}
    settings = DistillParams(
        **{
            "images": 24,
            "batch": 4,
            "snapshot_images": 8,
            "ema_halflife": 20,
            "generator": fast,
            "fake": fast,
            **params,
        }
    )
    return DistillJob(settings, tiny_denoiser(), loss, corruption, (1, 8, 8), fabric(), seed=7, score=score)


def weights(job):
    return torch.cat([p.flatten() for p in job.result.parameters()])


class StopAfter:
    """Wrap a job's step so that the process 'dies' after some steps."""

    def __init__(self, job, steps):
        self.job, self.left, self.real = job, steps, job.step
        job.step = self

    def __call__(self, number):
        if self.left == 0:
            raise MemoryError("killed")
        self.left -= 1
        return self.real(number)


@pytest.mark.parametrize("make", [teacher_job, distill_job])
@pytest.mark.parametrize("steps", [1, 4, 5])
def test_continued_run_is_bit_identical(tmp_path, make, steps):
    """Dropout, order, noise and moments continue exactly from the last saved state."""
    whole = make()
    drive(whole, tmp_path / "whole", fabric(), "whole")
    broken = make()
    StopAfter(broken, steps)
    with pytest.raises(MemoryError):
        drive(broken, tmp_path / "parts", fabric(), "parts")
    continued = make()
    drive(continued, tmp_path / "parts", fabric(), "parts")
    assert torch.equal(weights(whole), weights(continued))


def test_training_reduces_the_loss(tmp_path):
    job = teacher_job(images=1600, batch=8, snapshot_images=10_000, optimizer=OptimizerParams(lr=2e-3))
    real, losses = job.step, []
    job.step = lambda number: losses.append(real(number)) or losses[-1]
    drive(job, tmp_path, fabric(), "teacher")
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
        single._micro(0, index)
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
        assert int(load_state(tmp_path)["value"]) == 1


def test_states_without_a_checksum_do_not_count(tmp_path):
    save_state(tmp_path, 10, {"value": torch.tensor(1)}, keep=2)
    (tmp_path / "state-000000000020.pt").write_bytes(b"half written")
    assert int(load_state(tmp_path)["value"]) == 1
    assert load_state(tmp_path / "nothing") is None


def test_only_the_last_states_are_kept(tmp_path):
    for images in (10, 20, 30):
        save_state(tmp_path, images, {"value": torch.tensor(images)}, keep=2)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["state-000000000020.pt", "state-000000000030.pt"]


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_non_finite_loss_stops_with_the_state_saved(tmp_path, make):
    job = make()
    drive_steps = StopAfter(job, 2)
    with pytest.raises(MemoryError):
        drive(job, tmp_path, fabric(), "run")
    del drive_steps
    bad = make()
    objective = bad.objective if hasattr(bad, "objective") else bad.loss.objective
    poisoned = torch.tensor(float("nan"))
    type_ = type(objective)
    objective.__class__ = type(
        "Poisoned", (type_,), {"__call__": lambda self, *args: poisoned.expand(4) * _grad(args)}
    )
    with pytest.raises(NonFiniteLossError, match="lower the learning rate"):
        drive(bad, tmp_path, fabric(), "run")
    saved = load_state(tmp_path)
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
        drive(job, tmp_path, fabric(), "run")
    assert load_state(tmp_path)["images"] == 24


def test_log_is_json_lines(tmp_path):
    drive(teacher_job(), tmp_path, fabric(), "run")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["images"] == 4
    assert lines[0]["loss"] > 0


def test_selection_keeps_the_best_and_stops_when_patience_is_over(tmp_path):
    """Scores 3, 1, 2, 2: the second generator is kept, and two measurements later the run ends."""
    scores, seen = iter([3.0, 1.0, 2.0, 2.0, 0.0]), []

    def score(generator):
        seen.append(torch.cat([p.flatten() for p in generator.parameters()]).clone())
        return next(scores)

    job = distill_job(score, images=400, selection={"every_images": 8, "samples": 4, "patience": 2})
    drive(job, tmp_path, fabric(), "run")
    assert job.images == 32
    assert torch.equal(weights(job), seen[1])
    assert [value for _, value in job.history] == [3.0, 1.0, 2.0, 2.0]


def test_teacher_is_frozen_and_its_dropout_stays_on():
    job = distill_job()
    before = [p.clone() for p in job.teacher.parameters()]
    job.step(0)
    assert job.teacher.network.training
    for old, new in zip(before, job.teacher.parameters(), strict=True):
        assert torch.equal(old, new)


def test_sampled_generator_input_sees_the_mask(tmp_path):
    full, sampled = distill_job(), distill_job(generator_input="sampled")
    for job in (full, sampled):
        drive(job, tmp_path / job.distill.generator_input, fabric(), "run")
    assert not torch.equal(weights(full), weights(sampled))


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
