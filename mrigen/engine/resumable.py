"""Images that several processes make together: each its part of the seeds, all of them read in order."""

from __future__ import annotations

import glob
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrigen import ranks
from mrigen.data.spool import Spool
from mrigen.engine.sampling import Shape, chunks
from mrigen.prefetch import prefetched
from mrigen.progress import bar, counted

Sample = Callable[[list[int]], Iterable[Tensor]]


class Parts:
    """One spool per process, beside a result; see ``Spool``.

    Each process gets whole batches of neighbouring seeds, and a batch of which a part is missing is made
    again, so that every image is made in the same company as by one process, to the last bit.

    Args:
        out: the result.
        settings: everything that decides the images, beside the seeds.
        wanted: seeds, one image each.
        batch: images per network call.
        shape: (C, H, W) of one image.
        complex_valued: complex64, or float32.
    """

    def __init__(
        self,
        out: Path,
        settings: Mapping[str, Any],
        wanted: list[int],
        batch: int,
        shape: Shape,
        *,
        complex_valued: bool,
    ) -> None:
        batches, size = list(chunks(wanted, batch)), ranks.world_size()
        edges = [len(batches) * number // size for number in range(size + 1)]
        parts = [list(chain.from_iterable(batches[a:b])) for a, b in pairwise(edges)]
        self._mine, self._batch = parts[ranks.rank()], batch

        def spool(number: int) -> Spool:
            name = out.name if size == 1 else f"{out.name}.{number}-of-{size}"
            digest = hashlib.sha256(repr(parts[number]).encode()).hexdigest()
            described = {**settings, "seeds": digest}
            return Spool(out.with_name(name), described, shape, complex_valued=complex_valued)

        self._spool = spool
        self._own = spool(ranks.rank())

    def make(self, sample: Sample, title: str) -> None:
        """Make what is missing of this process's part; the bar shows the part of the first process.

        Images are written while the next ones are computed; no more than a few batches are held.
        """
        there = len(self._own)
        if there < len(self._mine):
            there -= there % self._batch
        with bar(title, len(self._mine), "img", there) as advance:
            images = (batch.cpu() for batch in sample(self._mine[there:]))
            self._own.extend(counted(prefetched(images, depth=2), advance), there)

    def read(self, batch: int = 64) -> Iterator[Tensor]:
        """Batches of all images, in order; for the first process, when all are done."""
        rest: list[Tensor] = []
        for number in range(ranks.world_size()):
            for images in self._spool(number).read(batch):
                held = torch.cat([*rest, images])
                for some in held.split(batch):
                    rest = [some]
                    if len(some) == batch:
                        yield some
                        rest = []
        yield from rest


def forget(out: Path) -> None:
    """Remove all parts of a result, whatever the number of processes that made them."""
    for pattern in (".partial", ".*-of-*.partial"):
        for folder in out.parent.glob(f".{glob.escape(out.name)}{pattern}"):
            shutil.rmtree(folder, ignore_errors=True)
