"""Time on a device, whose work goes on when a call has returned."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def wait(device: torch.device) -> None:
    """Until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, with what it leaves to the device."""
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def device_name(device: torch.device) -> str:
    """What a GPU calls itself; empty for a processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""
