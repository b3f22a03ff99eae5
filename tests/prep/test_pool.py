"""Processes: results do not depend on their number, and a killed one is a user's error."""

import os

import pytest
import torch

from mrigen.data_prep import pool
from mrigen.errors import UsageError


def test_one_job_runs_here_with_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = dict(pool.run(lambda task: (task, torch.get_num_threads(), os.getpid()), [1, 2], 1))
        assert seen == {task: (task, 1, os.getpid()) for task in (1, 2)}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_killed_worker_is_named():
    with pytest.raises(UsageError, match="fewer --jobs"):
        list(pool.run(os._exit, [9, 9], 2))


def test_only_as_many_processes_as_are_worth_it():
    cores = len(os.sched_getaffinity(0))
    assert pool.processes(100, 1 << 20) == 1
    assert pool.processes(1, 1 << 40) == 1
    assert pool.processes(1000, 1 << 50) == min(cores, 1000)
