"""The LPIPS column of tables: there where the weights are, else a line that says how to get it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mrigen.errors import UsageError
from mrigen.metrics.reconstruction import LPIPS, SMALLEST
from mrigen.metrics.rendering import magnitude_window

Distance = Callable[[Tensor, Tensor], list[float]]


def perception(size: tuple[int, int], *, download: bool) -> Distance | None:
    """LPIPS of images of a size; None, and a line about it, where there is none.

    Args:
        size: H and W.
        download: fetch the weights where they are missing.
    """
    if min(size) < SMALLEST:
        print(
            f"no LPIPS: it needs images of at least {SMALLEST} x {SMALLEST} pixels, not {size[0]} x {size[1]}"
        )
        return None
    try:
        network = LPIPS(download=download)
    except UsageError as error:
        print(f"no LPIPS: {error}")
        return None

    def distance(estimate: Tensor, target: Tensor) -> list[float]:
        window = magnitude_window(target) if target.is_complex() else None
        distances: list[float] = network(estimate, target, window).tolist()
        return distances

    return distance
