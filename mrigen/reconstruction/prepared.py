"""A measurement store as a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from mrigen.data.image_store import ImageStore
from mrigen.data.mri_manifest import Volume
from mrigen.data.mri_store import MeasurementStore
from mrigen.data.slice_geometry import SliceGeometry
from mrigen.data.stores import open_store
from mrigen.errors import UsageError
from mrigen.metrics.reference import open_reference
from mrigen.operators import MultiCoilMRI
from mrigen.prep.kspace.options import choose_slices
from mrigen.prep.kspace.steps import mismatch
from mrigen.reconstruction.coil_maps import CoilMaps
from mrigen.reconstruction.sources import Batch, Source, voxel_of


class StoreSource(Source):
    """Slices or images of a prepared store.

    Args:
        folder: of the store; references are taken from ``FOLDER-reference`` where that exists.
        split: part of the data.
        slices: ``all``, a Python slice or indices, of the slices of this part.
        maps: coil maps instead of the store's.

    Raises:
        UsageError: no store, an empty split, no such slices, or maps of other scans.
    """

    def __init__(self, folder: Path, split: str | None, slices: str, maps: CoilMaps | None = None) -> None:
        store = open_store(folder, split)
        self.name = folder.name
        self.shape = store.image_shape
        self.complex_valued = store.complex_valued
        self._store = store
        self._indices = choose_slices(slices, len(store))
        self._maps = maps
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
            self.volumes = [slices_of[i][0].file for i in self._indices]
            self.places = [(slices_of[i][0].file, 0, slices_of[i][1].slice) for i in self._indices]
            self.voxel = voxel_of(volumes[0].header)
            if len({slices_of[i][0].file for i in self._indices}) == 1:
                self._place(slices_of[self._indices[0]][0], [slices_of[i][1].slice for i in self._indices])
        else:
            assert isinstance(store, ImageStore)
            names = store.names(list(range(len(store))))
        self.labels = [names[i] for i in self._indices]
        if maps is not None:
            if not isinstance(store, MeasurementStore):
                raise UsageError(f"{folder}: holds pictures, which have no coils; leave out --maps")
            maps.require(store.maps_and_masks([0])[0].shape[1], [(self.shape[1], self.shape[2])])
            self._rows = maps.choose(self._indices, len(store))

    def require_phase(self, phase: str) -> None:
        """Refuse a model whose images have another phase than the store's.

        Raises:
            UsageError: says how to prepare the store.
        """
        own = getattr(self._store.manifest, "phase", phase)
        if own != phase:
            raise UsageError(
                f"{self.name}: its images have the phase relative to {own}, the model's are relative to "
                f"{phase}; prepare the store again with --phase {phase}"
            )

    def _place(self, volume: Volume, slices: list[int]) -> None:
        """Where the slices of the only volume lie."""
        self.acquisition = volume.header.get("acquisition")
        known = volume.header.get("geometry")
        if known is not None:
            self.geometry = SliceGeometry.model_validate(known).chosen(slices)

    def batches(self, size: int) -> Iterator[Batch]:
        """As the store has them; the scale leads back to the source's units."""
        for first in range(0, len(self._indices), size):
            part = self._indices[first : first + size]
            data = self._store.measurements(part)
            sigma = data.sigma.where(data.sigma > 0, self._noise[part])
            operator, deviation = data.operator, None if self._mismatch is None else self._mismatch[part]
            if self._maps is not None:
                assert isinstance(operator, MultiCoilMRI)
                maps = self._maps.read(self._rows[first : first + size], (self.shape[1], self.shape[2]))
                operator = MultiCoilMRI(maps, operator.mask)
                deviation = mismatch(data.y, operator)
            yield Batch(
                list(range(first, first + len(part))),
                type(data)(data.y, operator, sigma, data.labels),
                self._scale[part],
                deviation,
                None if self._references is None else self._references.images(part),
            )
