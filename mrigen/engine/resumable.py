"""Resumable sampling: images that several processes make together, kept when a run is interrupted."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrigen import ranks
from mrigen.engine.sampling import Shape, chunks
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.prefetch import on_host, prefetched
from mrigen.progress import bar, counted

ROWS, RECORD, BATCH = "rows.bin", "record.json", "batch"
DTYPES = {True: np.dtype(np.complex64), False: np.dtype(np.float32)}
Sample = Callable[[list[int]], Iterable[Tensor]]


class PartialFile:
    """A hidden folder beside a result, with the images that there are so far.

    What a run of the same settings wrote is continued; what another one wrote is thrown away. Rows that were
    half written when the run was killed do not count.

    Args:
        out: the result, whose name the folder has.
        settings: everything that decides the images, JSON values only.
        shape: (C, H, W) of one image.
        batch: images per network call; recorded, and free to change.
        complex_valued: complex64, or float32.

    Raises:
        UsageError: the folder is a link, which may lead to what is somebody else's.
    """

    def __init__(
        self,
        out: Path,
        settings: Mapping[str, Any],
        shape: tuple[int, int, int],
        batch: int,
        *,
        complex_valued: bool,
    ) -> None:
        self.folder = _partial(out)
        if self.folder.is_symlink():
            raise UsageError(f"{self.folder}: is a link; remove it or choose another --out")
        self.shape, self._dtype = shape, DTYPES[complex_valued]
        self._bytes = int(np.prod(shape)) * self._dtype.itemsize
        header = json.loads(json.dumps({**settings, "shape": shape, "dtype": str(self._dtype)}))
        there = _record(self.folder)
        if {**there, BATCH: batch} != {**header, BATCH: batch}:
            self.remove()
        if there != {**header, BATCH: batch}:
            write_json(self.folder / RECORD, {**header, BATCH: batch})

    def __len__(self) -> int:
        rows = self.folder / ROWS
        return rows.stat().st_size // self._bytes if rows.is_file() else 0

    def extend(self, batches: Iterable[Tensor], after: int) -> None:
        """Append batches (B, C, H, W) to the first ``after`` images; what follows these is forgotten.

        Each batch is on the disk before the next is asked for.
        """
        with (self.folder / ROWS).open("ab") as file:
            file.truncate(after * self._bytes)
            for batch in batches:
                if tuple(batch.shape[1:]) != self.shape:
                    raise ValueError(f"images are {tuple(batch.shape[1:])}, not {self.shape}")
                file.write(np.ascontiguousarray(batch.cpu().numpy(), self._dtype).data)
                file.flush()
                os.fsync(file.fileno())

    def read(self, batch: int = 64) -> Iterator[Tensor]:
        """Batches of all images, in order."""
        with (self.folder / ROWS).open("rb") as file:
            for first in range(0, len(self), batch):
                count = min(batch, len(self) - first)
                rows = np.empty((count, *self.shape), self._dtype)
                file.readinto(rows.data)
                yield torch.from_numpy(rows)

    def remove(self) -> None:
        """Forget all images."""
        shutil.rmtree(self.folder, ignore_errors=True)


class ResumableSampling:
    """One ``PartialFile`` per process, beside a result.

    Each process gets whole batches of neighbouring seeds, and a batch of which a part is missing is made
    again, so that with the same ``batch`` every image is made in the same company as by one process that is
    not interrupted, to the last bit.

    Args:
        out: the result.
        settings: everything that decides the images, beside the seeds.
        image_seeds: seeds, one image each.
        batch: images per network call.
        shape: (C, H, W) of one image.
        complex_valued: complex64, or float32.
    """

    def __init__(
        self,
        out: Path,
        settings: Mapping[str, Any],
        image_seeds: list[int],
        batch: int,
        shape: Shape,
        *,
        complex_valued: bool,
    ) -> None:
        batches, size = list(chunks(image_seeds, batch)), ranks.world_size()
        edges = [len(batches) * number // size for number in range(size + 1)]
        parts = [list(chain.from_iterable(batches[a:b])) for a, b in pairwise(edges)]
        self._mine, self._batch = parts[ranks.rank()], batch

        def spool(number: int) -> PartialFile:
            name = out.name if size == 1 else f"{out.name}.{number}-of-{size}"
            digest = hashlib.sha256(repr(parts[number]).encode()).hexdigest()
            described = {**settings, "seeds": digest}
            return PartialFile(out.with_name(name), described, shape, batch, complex_valued=complex_valued)

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
            images = on_host(sample(self._mine[there:]))
            self._own.extend(counted(prefetched(images, 2), advance), there)

    def read(self, batch: int = 64) -> Iterator[Tensor]:
        """Batches of all images, in order; for the first process, when all are done."""
        rest: list[Tensor] = []
        for number in range(ranks.world_size()):
            for images in self._spool(number).read(batch):
                held = torch.cat([*rest, images])
                for part in held.split(batch):
                    rest = [part]
                    if len(part) == batch:
                        yield part
                        rest = []
        yield from rest


def recorded_batch(out: Path, settings: Mapping[str, Any]) -> int | None:
    """Images per network call of an interrupted run of one process; None without one of these settings."""
    there, expected = _record(_partial(out)), json.loads(json.dumps(dict(settings)))
    batch = there.get(BATCH)
    same = all(name in there and there[name] == value for name, value in expected.items())
    return batch if same and isinstance(batch, int) and batch > 0 else None


def _partial(out: Path) -> Path:
    return out.with_name(f".{out.name}.partial")


def _record(folder: Path) -> dict[str, Any]:
    """What is recorded of a folder's images; empty where nothing is."""
    with suppress(OSError, ValueError):
        there = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return there if isinstance(there, dict) else {}
    return {}


def discard(out: Path) -> None:
    """Remove all parts of a result, whatever the number of processes that made them."""
    for pattern in (".partial", ".*-of-*.partial"):
        for folder in out.parent.glob(f".{glob.escape(out.name)}{pattern}"):
            shutil.rmtree(folder, ignore_errors=True)
