"""Reconstructed images of a store's measurements, as if they had been measured whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrigen import hdf5
from mrigen.data.image_store import described_corruption
from mrigen.data.manifest import Manifest
from mrigen.data.stores import Store
from mrigen.errors import UsageError
from mrigen.operators.corruption import Corruption
from mrigen.operators.identity import Identity
from mrigen.operators.measurements import Measurements


class RestoredStore:
    """Images x̂ of a store's samples under A = I and without noise, with the interface of a store.

    Args:
        path: HDF5 file with ``images`` (n, C, H, W), in the order of the store.
        measured: the store that they were reconstructed from.
        origin: how, for the description of models that are trained on them.

    Raises:
        UsageError: no such images, or not one for each sample.
    """

    def __init__(self, path: Path, measured: Store, origin: Mapping[str, Any]) -> None:
        self.folder, self.image_shape = measured.folder, measured.image_shape
        self.complex_valued, self.classes = measured.complex_valued, measured.classes
        self._path, self._measured, self._origin = path, measured, dict(origin)
        try:
            with hdf5.reader(path) as file:
                shape = tuple(file["images"].shape)
        except (OSError, KeyError, AttributeError) as error:
            raise UsageError(f"{path}: no images here ({error}); delete the file and run again") from error
        if shape != (len(measured), *measured.image_shape):
            raise UsageError(
                f"{path}: holds images {shape}, not one for each of the {len(measured)} samples of "
                f"{measured.folder}; delete the file and run again"
            )

    def __len__(self) -> int:
        return len(self._measured)

    @property
    def manifest(self) -> Manifest:
        """Of the measurements."""
        return self._measured.manifest

    def packed(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """The same as ``measurements``."""
        return self.measurements(indices, fixed_further=fixed_further)

    def measurements(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """The images themselves, under the identity.

        Raises:
            UsageError: ``fixed_further``, for nothing is hidden.
        """
        if fixed_further:
            raise UsageError("reconstructions have no further masks; leave out teacher.fixed_further")
        rows, back = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        with hdf5.reader(self._path) as file:
            images = torch.from_numpy(file["images"][rows][back.reshape(-1)])
        labels = self._measured.measurements(indices).labels if self.classes else None
        return Measurements(
            images, Identity(torch.zeros_like(images)), torch.zeros(len(indices)), labels=labels
        )

    def noise_levels(self, indices: list[int]) -> Tensor:
        """Zero: what noise is left is part of the images."""
        return torch.zeros(len(indices))

    def described(self) -> dict[str, Any]:
        """What a model of these images was trained on: A = I, the phase of the images, their origin."""
        operator = {"name": "identity", "complex_valued": self.complex_valued}
        phase = {key: value for key, value in self._measured.described().items() if key == "phase"}
        return {"operator": operator, **phase, "restored": self._origin}

    def corruption(self, *, described: Mapping[str, Any] | None = None) -> Corruption:
        """None: A = I."""
        return described_corruption(described or self.described(), self.image_shape)
