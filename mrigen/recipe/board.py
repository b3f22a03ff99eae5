"""Scalars and images for TensorBoard."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mrigen.engine.logs import Log, OpenLog
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.errors import UsageError
from mrigen.metrics.pictures import magnitude_window
from mrigen.report.views import view_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"

NewSampler = Callable[[], TeacherSampler | StudentSampler]


def require_tensorboard() -> None:
    """Refuse before anything starts.

    Raises:
        UsageError: the package is not installed.
    """
    if find_spec("tensorboard") is None:
        raise UsageError(
            "--tensorboard: the package tensorboard is not installed; pip install 'mrigen[tensorboard]'"
        )


def board(sampler: NewSampler) -> OpenLog:
    """A log of every step's numbers, and of a few images of the average at every snapshot.

    The same seeds are drawn every time. A continued run declares what a killed one logged beyond its last
    state void, so that no step is shown twice.

    Args:
        sampler: draws images with the present weights.
    """

    @contextmanager
    def opened(folder: Path, images: int) -> Iterator[Log]:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder / FOLDER), purge_step=images + 1 if images else 0) as writer:
            yield _Board(writer, sampler)

    return opened


class _Board(Log):
    def __init__(self, writer: SummaryWriter, sampler: NewSampler) -> None:
        self._writer, self._sampler = writer, sampler

    def step(self, images: int, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            self._writer.add_scalar(name, value, images)

    def snapshot(self, images: int) -> None:
        sampler = self._sampler()
        wanted = list(range(view_of(sampler.shape).compared))
        drawn = torch.cat([batch.cpu() for batch in sampler(wanted)])
        self._writer.add_image("samples", _picture(drawn), images, dataformats="HWC")
        self._writer.flush()


def _picture(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The figure that the views draw of a set, (H, W, 3)."""
    from PIL import Image

    window = magnitude_window(images) if images.is_complex() else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.png"
        view_of(tuple(images.shape[1:])).several(images, window, path)
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
