"""Time on a device, whose work goes on when a call has returned, and the peers that are installed."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable

import torch

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def wait(device: torch.device) -> None:
    """Until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], object], device: torch.device, clock: str = "wall") -> float:
    """Seconds of a call, with what it leaves to the device; processor seconds are those of this process."""
    now = CLOCKS[clock]
    wait(device)
    start = now()
    run()
    wait(device)
    return now() - start


def installed(module: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(module) is not None


def absent(modules: Iterable[str]) -> list[str]:
    """A row of a table for every peer that is not installed."""
    hint = "not installed (pip install 'mrigen[bench]')"
    return [f"| {module} | {hint} |" for module in modules if not installed(module)]


def device_name(device: torch.device) -> str:
    """What a GPU calls itself; empty for a processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""
