"""Processes: results do not depend on their number, and a killed one is a user's error."""

import os
import time

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


def threads_and_process(task):
    time.sleep(0.2)  # so that the other process gets the other task
    return torch.get_num_threads(), os.getpid()


def test_two_jobs_are_two_processes_with_one_thread_each():
    found = dict(pool.run(threads_and_process, [1, 2], 2))
    assert [threads for threads, _ in found.values()] == [1, 1]
    assert os.getpid() not in {process for _, process in found.values()}


def test_a_killed_worker_is_named():
    with pytest.raises(UsageError, match="fewer --jobs"):
        list(pool.run(os._exit, [9, 9], 2))


def test_only_as_many_processes_as_are_worth_it():
    cores = len(os.sched_getaffinity(0))
    assert pool.processes(100, 1 << 20) == 1
    assert pool.processes(1, 1 << 40) == 1
    assert pool.processes(1000, 1 << 50) == min(cores, 1000)
