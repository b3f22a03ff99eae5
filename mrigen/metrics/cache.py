"""What was computed of reference sets before, in files named by everything that decides it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrigen.files import atomic

Arrays = dict[str, NDArray[Any]]
KEY = "key"


def data_digest(batches: Iterable[Tensor]) -> str:
    """SHA-256 of images, whatever their batches: kind, size and every byte."""
    total = hashlib.sha256()
    first = True
    for batch in batches:
        if first:
            total.update(f"{batch.dtype} {tuple(batch.shape[1:])}".encode())
            first = False
        total.update(batch.contiguous().cpu().numpy().tobytes())
    return total.hexdigest()


@dataclass(frozen=True)
class Cache:
    """Arrays in files of a folder.

    Attributes:
        folder: where; made when needed.
    """

    folder: Path

    def load(self, key: Mapping[str, Any]) -> Arrays | None:
        """What was saved under a key; None where nothing was, or the file is damaged."""
        try:
            with np.load(self.path(key), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return arrays if str(arrays.pop(KEY, "")) == _text(key) else None

    def save(self, key: Mapping[str, Any], arrays: Arrays) -> None:
        """Keep arrays under a key."""
        with atomic(self.path(key)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **{KEY: np.array(_text(key)), **arrays})

    def path(self, key: Mapping[str, Any]) -> Path:
        """The file of a key."""
        return self.folder / f"{hashlib.sha256(_text(key).encode()).hexdigest()[:32]}.npz"


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
