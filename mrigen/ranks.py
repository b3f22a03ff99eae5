"""Which of the processes that ``torchrun`` started this one is; one alone is the first of one."""

import os


def launched() -> bool:
    """Whether ``torchrun`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Number of this process among all, from 0."""
    return _number("RANK", 0)


def world_size() -> int:
    """Number of processes on all nodes together."""
    return _number("WORLD_SIZE", 1)


def local_rank() -> int:
    """Number of this process among those of this node, from 0."""
    return _number("LOCAL_RANK", 0)


def local_world_size() -> int:
    """Number of processes on this node."""
    return _number("LOCAL_WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    return int(os.environ[name]) if launched() else default
