"""Images on their way to a file: appended as they come, kept when a run is interrupted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.files import write_json

ROWS, RECORD = "rows.bin", "record.json"
DTYPES = {True: np.dtype(np.complex64), False: np.dtype(np.float32)}


class Spool:
    """A hidden folder beside a result, with the images that there are so far.

    What a run of the same settings wrote is continued; what another one wrote is thrown away. Rows that were
    half written when the run was killed do not count.

    Args:
        out: the result, whose name the folder has.
        settings: everything that decides the images, JSON values only.
        shape: (C, H, W) of one image.
        complex_valued: complex64, or float32.

    Raises:
        UsageError: the folder is a link, which may lead to what is somebody else's.
    """

    def __init__(
        self, out: Path, settings: Mapping[str, Any], shape: tuple[int, int, int], *, complex_valued: bool
    ) -> None:
        self.folder = out.with_name(f".{out.name}.partial")
        if self.folder.is_symlink():
            raise UsageError(f"{self.folder}: is a link; remove it or choose another --out")
        self.shape, self._dtype = shape, DTYPES[complex_valued]
        self._bytes = int(np.prod(shape)) * self._dtype.itemsize
        header = json.loads(json.dumps({**settings, "shape": shape, "dtype": str(self._dtype)}))
        if self._record() != header:
            self.remove()
            write_json(self.folder / RECORD, header)

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

    def _record(self) -> Any:
        with suppress(OSError, ValueError):
            return json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        return None
