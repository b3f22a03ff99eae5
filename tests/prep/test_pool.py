"""Processes: results do not depend on their number, and a killed one is a user's error."""

import os
import time

import pytest
import torch
from waiting import wait_until

from mrigen.errors import UsageError
from mrigen.prep import pool


def test_one_job_runs_here_with_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = dict(pool.run(lambda task: (task, torch.get_num_threads(), os.getpid()), [1, 2], 1))
        assert seen == {task: (task, 1, os.getpid()) for task in (1, 2)}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def meet(folder):
    """Wait for the other process, so that none gets all tasks."""
    (folder / str(os.getpid())).touch()
    wait_until(lambda: len(list(folder.iterdir())) == 2)
    return torch.get_num_threads(), os.getpid()


def test_two_jobs_are_this_process_and_another_one_with_one_thread_each(tmp_path):
    results = [result for _, result in pool.run(meet, [tmp_path] * 4, 2)]
    assert {threads for threads, _ in results} == {1}
    processes = {process for _, process in results}
    assert len(processes) == 2
    assert os.getpid() in processes


def square(task):
    return task**2


def test_every_task_is_done_once():
    found = list(pool.run(square, range(50), 3))
    assert sorted(found) == [(task, task**2) for task in range(50)]


def fail_at_two(task):
    if task == 2:
        raise IndexError(task)
    return task


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_task_raises_is_raised_here(jobs):
    with pytest.raises(IndexError, match="2"):
        list(pool.run(fail_at_two, [2, 2, 2], jobs))


def die_elsewhere(parent):
    if os.getpid() != parent:
        os._exit(9)
    time.sleep(0.05)


def test_a_killed_worker_is_named():
    with pytest.raises(UsageError, match="fewer --jobs"):
        list(pool.run(die_elsewhere, [os.getpid()] * 2000, 2))


def test_only_as_many_processes_as_are_worth_it():
    cores = len(os.sched_getaffinity(0))
    assert pool.processes(100, 1 << 20) == 1
    assert pool.processes(1, 1 << 40) == 1
    assert pool.processes(1000, 1 << 50) == min(cores, 1000)
