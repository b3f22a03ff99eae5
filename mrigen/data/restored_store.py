"""Reconstructed images of a store's measurements, as if they had been measured whole."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
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
from mrigen.tensors import batch_size

BATCH = 100


class RestoredStore:
    """Images x̂ of a store's samples under A = I and without noise, with the interface of a store.

    Args:
        path: HDF5 file with ``images`` (n, C, H, W), in the order of the store.
        measured: the store that they were reconstructed from.
        origin: how, for the description of models that are trained on them.
        usable_from: noise level from which on restored images are as good as true ones; 0 where all of
            them count as true. Samples that were measured whole are true at all levels.
        operators: whether batches have the operators that they were reconstructed from, which the objective
            ``reconstructed`` needs; measurements are read with every batch for that.

    Raises:
        UsageError: no such images, or not one for each sample.
    """

    def __init__(
        self,
        path: Path,
        measured: Store,
        origin: Mapping[str, Any],
        usable_from: float = 0.0,
        *,
        operators: bool = False,
    ) -> None:
        self.folder, self.image_shape = measured.folder, measured.image_shape
        self.complex_valued, self.classes = measured.complex_valued, measured.classes
        self._path, self._measured, self._origin = path, measured, dict(origin)
        self._usable_from, self._operators = usable_from, operators
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
        measured = self._measured.measurements(indices) if self.classes or self._operators else None
        return Measurements(
            images,
            Identity(torch.zeros_like(images)),
            torch.zeros(len(indices)),
            labels=measured.labels if measured is not None and self.classes else None,
            reconstructed_from=measured.operator if measured is not None and self._operators else None,
        )

    def noise_levels(self, indices: list[int]) -> Tensor:
        """σ (n,) that training takes the images to have: ``usable_from`` of those that were restored."""
        if not self._usable_from:
            return torch.zeros(len(indices))
        return self._usable_from * (~self._whole[indices]).float()

    @cached_property
    def _whole(self) -> Tensor:
        """Samples whose masks leave nothing out, bool (n,)."""
        flags = []
        for first in range(0, len(self), BATCH):
            operator = self._measured.measurements(list(range(first, min(first + BATCH, len(self))))).operator
            count, mask = batch_size(operator), getattr(operator, "mask", None)
            whole = torch.zeros(count, dtype=torch.bool) if mask is None else mask.bool().flatten(1).all(1)
            flags.append(whole.expand(count))
        return torch.cat(flags)

    def described(self) -> dict[str, Any]:
        """What a model of these images was trained on: A = I, the phase of the images, their origin."""
        operator = {"name": "identity", "complex_valued": self.complex_valued}
        phase = {key: value for key, value in self._measured.described().items() if key == "phase"}
        return {"operator": operator, **phase, "restored": self._origin}

    def corruption(self, *, described: Mapping[str, Any] | None = None) -> Corruption:
        """A = I, with the noise that is added to restored images."""
        words = {**self.described(), "sigma": self._usable_from}
        return described_corruption(described or words, self.image_shape)
