"""A measurement store as a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from mrigen.data.image_store import ImageStore
from mrigen.data.store import MeasurementStore
from mrigen.data.stores import open_store
from mrigen.data_prep.options import choose_slices
from mrigen.errors import UsageError
from mrigen.metrics.reference import open_reference
from mrigen.reconstruction.sources import Batch, Source, voxel_of


class StoreSource(Source):
    """Slices or images of a prepared store.

    Args:
        folder: of the store; references are taken from ``FOLDER-reference`` where that exists.
        split: part of the data.
        slices: ``all``, a Python slice or indices, of the slices of this part.

    Raises:
        UsageError: no store, an empty split, or no such slices.
    """

    def __init__(self, folder: Path, split: str | None, slices: str) -> None:
        store = open_store(folder, split)
        self.name = folder.name
        self.shape = store.image_shape
        self.complex_valued = store.complex_valued
        self._store = store
        self._indices = choose_slices(slices, len(store))
        beside = folder.with_name(f"{folder.resolve().name}-reference")
        self._references = open_reference(beside, split) if beside.is_dir() else None
        if self._references is not None and len(self._references) != len(store):
            raise UsageError(f"{beside}: has {len(self._references)} images where {folder} has {len(store)}")
        self.has_reference = self._references is not None
        self._scale = torch.ones(len(store))
        self._mismatch = None
        self._noise = torch.zeros(len(store))
        if isinstance(store, MeasurementStore):
            volumes = [v for v in store.manifest.volumes if split is None or v.split == split]
            slices_of = [(v, s) for v in volumes for s in v.slices]
            self._scale = torch.tensor([s.scale for _, s in slices_of])
            self._mismatch = torch.tensor([s.mismatch for _, s in slices_of])
            self._noise = torch.tensor([s.noise or 0.0 for _, s in slices_of])
            names = [f"{Path(v.file).stem} slice {s.slice}" for v, s in slices_of]
            self.voxel = voxel_of(volumes[0].header)
        else:
            assert isinstance(store, ImageStore)
            names = store.names(list(range(len(store))))
        self.labels = [names[i] for i in self._indices]

    def batches(self, size: int) -> Iterator[Batch]:
        """As the store has them; the scale leads back to the source's units."""
        for first in range(0, len(self._indices), size):
            some = self._indices[first : first + size]
            data = self._store.measurements(some)
            sigma = data.sigma.where(data.sigma > 0, self._noise[some])
            yield Batch(
                list(range(first, first + len(some))),
                type(data)(data.y, data.operator, sigma, data.labels),
                self._scale[some],
                None if self._mismatch is None else self._mismatch[some],
                None if self._references is None else self._references.images(some),
            )
