"""What each process of ``test_spread.py`` does under torchrun: ``spread_worker.py TASK FOLDER``."""

import atexit
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import torch
from tiny_jobs import StopAfter, distill_job, teacher_job, weights
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from mrigen import ranks
from mrigen.engine import sharding
from mrigen.engine.loop import fit
from mrigen.engine.processes import all_gather, is_rank_zero
from mrigen.engine.stops import Interrupted

MAKE = {"teacher": teacher_job, "student": distill_job}
SIZES = {"batch": 6, "micro_batch": 2, "images": 36, "snapshot_images": 12}


def norm(generator):
    """A selection metric without randomness."""
    return float(sum(p.square().sum() for p in generator.parameters()))


def slow_second():
    """A metric that is stopped by a signal when it is asked for the second time."""
    calls = []

    def score(generator):
        calls.append(generator)
        if len(calls) > 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(3600)
        return norm(generator)

    return score


def job(name, strategy, score=norm):
    """Three micro-batches a step: one process has two of them, the other one.

    The student's loss has a fake score, a teacher, and two further looks at the generator.
    """
    if name == "teacher":
        return teacher_job(strategy=strategy, **SIZES)
    chosen = {"every_images": 12, "samples": 4}
    loss = {"name": "dmd", "regression": {"pairs": 3, "sampler": {"name": "heun", "steps": 2}}}
    loss["denoising_weight"] = 0.1
    return distill_job(score, strategy=strategy, selection=chosen, fake_steps=2, loss=loss, **SIZES)


def traced(some, folder):
    """Run a job; its logs step by step, with what was measured before the first step or after one."""
    step, measure, logs = some.step, some.measure, []

    def measured():
        found = measure()
        if logs:
            logs[-1].update(found)
        else:
            logs.append(dict(found))
        return found

    some.step = lambda number: logs.append(step(number)) or logs[-1]
    some.measure = measured
    fit(some, folder, some.fabric, folder.name)
    return [{name: float(value) for name, value in step.items()} for step in logs]


def compare(folder, strategy):
    """Whole runs, and the same with a break after four steps, which loses two of them."""
    found = {}
    for name in MAKE:
        whole, broken, continued = (job(name, strategy) for _ in range(3))
        found[name] = traced(whole, folder / f"{name}-whole")
        StopAfter(broken, 3)
        try:
            fit(broken, folder / f"{name}-parts", broken.fabric, name)
        except MemoryError:
            fit(continued, folder / f"{name}-parts", continued.fabric, name)
        vectors = all_gather([weights(whole), weights(continued)])
        found[f"{name}-identical"] = all(
            torch.equal(one, other) for one in vectors[0] for vector in vectors for other in vector
        )
        if is_rank_zero():
            torch.save(weights(whole), folder / f"{name}.pt")
    return found


def whole_again():
    """Layers of which two processes have unequal rows, or one has none: are they put together right?"""
    torch.manual_seed(0)
    layers = [nn.Linear(3, 5), nn.Linear(2, 4, bias=False), nn.Linear(4, 1), nn.Linear(2, 3).bfloat16()]
    module = nn.Sequential(*layers)
    expected = [p.detach().clone() for p in module.parameters()]
    sharding.shard(module, init_device_mesh("cpu", (2,), mesh_dim_names=("data_parallel",)))
    parts = list(module.parameters())
    return [
        sum(len(p.to_local()) for p in parts) < sum(map(len, expected)),
        all(map(torch.equal, sharding.whole_parameters(module), expected)),
        all(map(torch.equal, map(sharding.whole, parts), expected)),
        math.isclose(sharding.whole(parts[0].norm()), expected[0].norm(), rel_tol=1e-6),
    ]


def at_step(some, step, action):
    """Do something in the second process before a step."""
    real = some.step

    def stepped(number):
        if number == step and not is_rank_zero():
            action()
        return real(number)

    some.step = stepped


def interrupted(some, folder):
    """Drive a job until a signal stops it; ``folder.json`` says where each process was then."""
    try:
        fit(some, folder, some.fabric, folder.name)
    except Interrupted:
        where = all_gather(some.images)
        if is_rank_zero():
            folder.with_suffix(".json").write_text(json.dumps(where))


def stop(folder):
    """SIGTERM to the second process alone, and to the first one while it measures; then SIGKILL."""
    some = job("teacher", "ddp")
    at_step(some, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    interrupted(some, folder / "stopped")
    interrupted(job("student", "ddp", slow_second()), folder / "measured")
    measured = job("student", "ddp")
    fit(measured, folder / "measured", measured.fabric, "student")
    if is_rank_zero():
        torch.save(weights(measured), folder / "measured.pt")
    some = job("teacher", "ddp")
    at_step(some, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))
    fit(some, folder / "stopped", some.fabric, "teacher")


def go_on(folder):
    """Finish what died."""
    some = job("teacher", "ddp")
    fit(some, folder / "stopped", some.fabric, "teacher")
    if is_rank_zero():
        torch.save(weights(some), folder / "continued.pt")


def note_group(path):
    """Whether the process group is still there when Python has done all that it does at its end."""
    path.write_text(json.dumps(distributed.is_initialized()))


def whole(folder):
    """Both jobs without a break."""
    atexit.register(note_group, folder / f"group-{ranks.rank()}.json")
    found = {"local": ranks.local_world_size(), "all": ranks.world_size()}
    for name in MAKE:
        some = job(name, "ddp")
        found[name] = traced(some, folder / name)
        if is_rank_zero():
            torch.save(weights(some), folder / f"{name}.pt")
    if is_rank_zero():
        (folder / "whole.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    task, folder = sys.argv[1], Path(sys.argv[2])
    if task == "continue":
        go_on(folder)
    elif task == "whole":
        whole(folder)
    else:
        for strategy in ("ddp", "fsdp"):
            found = compare(folder / strategy, strategy)
            if is_rank_zero():
                (folder / f"{strategy}.json").write_text(json.dumps(found))
        together = all_gather(whole_again())
        if is_rank_zero():
            (folder / "whole_again.json").write_text(json.dumps(together))
        stop(folder)
