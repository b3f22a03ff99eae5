"""Two processes under torchrun against one: losses, weights, exact continuation, stops and deaths."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from launcher import torchrun, torchrun_nodes
from spread_worker import MAKE, job, traced
from tiny_jobs import weights

from mrigen.engine.micro_batches import MicroBatchPlan
from mrigen.engine.params import TeacherParams
from mrigen.errors import UsageError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """Everything that two processes do until the second one is killed."""
    folder = tmp_path_factory.mktemp("spread")
    return folder, torchrun(HERE / "spread_worker.py", "compare", folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Loss curves and weights of one process."""
    folder, found = tmp_path_factory.mktemp("alone"), {}
    for name in MAKE:
        some = job(name, "ddp")
        found[name] = traced(some, folder / name), weights(some)
    return found


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", MAKE)
def test_two_processes_give_the_curve_of_one(spread, alone, name, strategy):
    """Three micro-batches shared by two: losses, selection metric and averaged weights.

    Weights are compared as a whole: Adam makes steps of the learning rate of gradients that are rounding.
    """
    folder, run = spread
    assert (folder / f"{strategy}.json").is_file(), run.stderr
    found = json.loads((folder / f"{strategy}.json").read_text())[name]
    curve, expected = alone[name]
    assert [sorted(logs) for logs in found] == [sorted(logs) for logs in curve]
    for mine, theirs in zip(curve, found, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4, abs=1e-4)
    found = torch.load(folder / strategy / f"{name}.pt")
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", MAKE)
def test_continued_run_is_bit_identical(spread, name, strategy):
    folder, run = spread
    assert (folder / f"{strategy}.json").is_file(), run.stderr
    assert json.loads((folder / f"{strategy}.json").read_text())[f"{name}-identical"]


@pytest.mark.parametrize("name", MAKE)
def test_one_process_continues_what_two_had_in_parts(spread, alone, tmp_path, name):
    """States are whole whatever the strategy and the number of processes."""
    folder, run = spread
    saved = list((folder / "fsdp" / f"{name}-whole").glob("state-000000000024.*"))
    assert len(saved) == 2, run.stderr
    for path in saved:
        shutil.copy(path, tmp_path)
    some = job(name, "ddp")
    assert len(traced(some, tmp_path)) == 2
    _, expected = alone[name]
    assert (weights(some) - expected).norm() < 1e-4 * expected.norm()


def test_parts_of_uneven_sizes_are_put_together(spread):
    folder, run = spread
    assert (folder / "whole_again.json").is_file(), run.stderr
    assert json.loads((folder / "whole_again.json").read_text()) == [[True] * 4] * 2


def test_a_signal_to_one_stops_all_and_a_death_ends_all(spread):
    """Both stop after the same step; after a later death the other one says so, and the state goes on."""
    folder, run = spread
    assert json.loads((folder / "stopped.json").read_text()) == [18, 18]
    assert run.returncode != 0
    assert "LostProcessError: another process of this run has ended" in run.stderr
    again = torchrun(HERE / "spread_worker.py", "continue", folder)
    assert again.returncode == 0, again.stderr
    continued, whole = torch.load(folder / "continued.pt"), torch.load(folder / "ddp" / "teacher.pt")
    assert torch.equal(continued, whole)


def test_a_signal_to_the_one_that_measures_stops_all(spread):
    """Both save the step before the measurement, which the continued run makes; its choice is the same."""
    folder, run = spread
    assert (folder / "measured.pt").is_file(), run.stderr
    assert json.loads((folder / "measured.json").read_text()) == [12, 12]
    measured, whole = torch.load(folder / "measured.pt"), torch.load(folder / "ddp" / "student.pt")
    assert torch.equal(measured, whole)


def test_two_nodes_give_the_files_of_one(spread, tmp_path):
    """A process on each of two nodes against two processes on one: losses and weights to the last bit."""
    folder, run = spread
    assert (folder / "ddp.json").is_file(), run.stderr
    nodes = torchrun_nodes(HERE / "spread_worker.py", "whole", tmp_path)
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(node.stderr for node in nodes)
    # A process group that outlives Python may abort the process.
    assert [json.loads(path.read_text()) for path in tmp_path.glob("group-*.json")] == [False, False]
    found, expected = (
        json.loads(path.read_text()) for path in (tmp_path / "whole.json", folder / "ddp.json")
    )
    assert (found["local"], found["all"]) == (1, 2)
    for name in MAKE:
        assert found[name] == expected[name]
        one, other = tmp_path / f"{name}.pt", folder / "ddp" / f"{name}.pt"
        assert torch.equal(torch.load(one), torch.load(other))
        states = [
            {p.name for p in place.glob("state-*")}
            for place in (tmp_path / name, folder / "ddp" / f"{name}-whole")
        ]
        assert states[0] == states[1] != set()


@pytest.mark.parametrize(("micro_batches", "processes"), [(1, 1), (4, 2), (5, 2), (5, 3), (7, 7), (8, 3)])
def test_gradients_average_to_the_mean_over_micro_batches(micro_batches, processes):
    """Every process has as many shares; weighted, each micro-batch counts once in the average."""
    params = TeacherParams(images=1, batch=2 * micro_batches, micro_batch=2)
    every = [list(MicroBatchPlan("teacher", params, Rank(rank, processes))) for rank in range(processes)]
    assert len({len(shares) for shares in every}) == 1
    weight = torch.zeros(micro_batches, dtype=torch.float64)
    for shares in every:
        assert [share.last for share in shares] == [False] * (len(shares) - 1) + [True]
        for share in shares:
            weight[share.index] += share.weight / processes
    torch.testing.assert_close(weight, torch.full_like(weight, 1 / micro_batches))


class Rank:
    def __init__(self, rank, size):
        self.global_rank, self.world_size = rank, size


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "advice"),
    [
        (64, None, 8, "--set distill.micro_batch=8 gives"),
        (24, 12, 5, "--set distill.micro_batch=4 gives"),
        (4, None, 8, "start at most 4"),
    ],
)
def test_too_few_micro_batches_are_refused_with_the_setting_that_works(batch, micro, processes, advice):
    params = TeacherParams(images=1, batch=batch, micro_batch=micro)
    with pytest.raises(UsageError, match=advice):
        MicroBatchPlan("distill", params, Rank(0, processes))
    better = advice.partition("=")[2].partition(" ")[0]
    if better:
        fixed = params.model_copy(update={"micro_batch": int(better)})
        assert len(list(MicroBatchPlan("distill", fixed, Rank(0, processes)))) > 0
