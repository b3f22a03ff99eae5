"""Images that are reconstructed at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from mrigen.engine.footprint import batch_that_fits, even_batch
from mrigen.inverse import Solver
from mrigen.operators.measurements import Measurements
from mrigen.tensors import concatenate

if TYPE_CHECKING:
    from mrigen.model import Model
    from mrigen.reconstruction.sources import Source

T = TypeVar("T")
MOST, PIXELS, MOST_ON_GPU = 4, 2 * 384 * 320, 64


def batch_size_for(
    solver: Solver[Any], source: Source, model: Model | None, samples: int, device: torch.device
) -> int:
    """Images at once: few large ones, fewer for gradients, to keep a volume of 384 x 320 below 6 GiB.

    With a model no more than fit into the free memory, and on a GPU as many as fit, up to ``MOST_ON_GPU``, in
    batches that are as equal as possible.

    Args:
        solver: what reconstructs.
        source: slices.
        model: the prior, or None.
        samples: of each slice.
        device: where.
    """
    _, height, width = source.shape
    pixels = PIXELS // 2 if solver.differentiates else PIXELS
    few = max(1, min(MOST, pixels // (height * width)))
    if model is None:
        return few
    most = MOST_ON_GPU if device.type == "cuda" else few
    shape, gradients = source.shape, solver.differentiates
    fitting = batch_that_fits(model.description, shape, device, most, differentiated=gradients)
    if device.type != "cuda":
        return fitting
    if samples > fitting:
        return even_batch(samples, fitting)
    return samples * even_batch(len(source), fitting // samples)


def filled(chunk: list[T], size: int, device: torch.device) -> list[T]:
    """A smaller batch, on a GPU filled up with its last item.

    A batch of another size would have its kernels chosen, and a compiled network compiled, once more.
    """
    missing = size - len(chunk) if device.type == "cuda" else 0
    return chunk + missing * chunk[-1:]


def rows_of(data: Measurements, rows: list[int]) -> Measurements:
    """Some of the measurements, repeated where a row is."""
    if rows == list(range(len(data))):
        return data
    operator = concatenate([data.operator.select(row) for row in rows])
    return replace(data, y=data.y[rows], operator=operator, sigma=data.sigma[rows], labels=None, further=None)
