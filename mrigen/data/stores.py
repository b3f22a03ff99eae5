"""What training sees of prepared data, whatever kind they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from mrigen.data.image_store import ImageStore, described_corruption
from mrigen.data.manifest import Manifest, data_kind
from mrigen.data.mixed_store import MixedStore
from mrigen.data.mri_store import MeasurementStore
from mrigen.errors import UsageError
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.masks import MASKS
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MRICorruption, MultiCoilMRI, OperatorBank
from mrigen.operators.noise import parse_noise


class Packed(Protocol):
    """A batch as it is stored, in tensors."""

    @property
    def sigma(self) -> Tensor | None:
        """Standard deviation (B,) of the noise; None for 0."""
        ...

    def mask_further(self, further: Callable[[Operator], Operator]) -> Self:
        """The same with Ã drawn for each A, unless the batch has further masks of its own."""
        ...

    def to(self, *, device: torch.device, non_blocking: bool = False) -> Self:
        """The same on a device; ``non_blocking`` for pinned memory and work that is queued on the device."""
        ...

    def pin_memory(self) -> Self:
        """The same in memory that a GPU can fetch from on its own."""
        ...

    def unpack(self) -> Measurements:
        """The measurements, on the device of the tensors."""
        ...


class Store(Protocol):
    """Measurements of one split of a prepared store, by index."""

    folder: Path
    complex_valued: bool

    def __len__(self) -> int: ...

    @property
    def manifest(self) -> Manifest:
        """Everything about the store except the arrays."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W); MRI images are complex and have one channel."""
        ...

    @property
    def classes(self) -> int:
        """Number of class labels, 0 where there are none."""
        ...

    def measurements(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """A batch of measurements with their operators."""
        ...

    def packed(self, indices: list[int], *, fixed_further: bool = False) -> Packed:
        """A batch as it is stored, from which its measurements can be put together on a device."""
        ...

    def noise_levels(self, indices: list[int]) -> Tensor:
        """σ (n,) of the noise that was measured with some samples, as far as it is known."""
        ...

    def described(self) -> dict[str, Any]:
        """The corruption in words, for a model's description."""
        ...

    def corruption(self, *, described: Mapping[str, Any] | None = None) -> Corruption:
        """The corruption of this data, or the described one on images like these."""
        ...


Stores = Store | str | Path | Sequence[Store | str | Path]
"""A store, the folder of one, or several of these that are one."""


def open_store(folder: str | Path, split: str | None = "train") -> Store:
    """The store in a folder, of the kind that its manifest says.

    Args:
        folder: folder with ``manifest.json``.
        split: part of the data; None for all of it.

    Raises:
        UsageError: no store, references, a missing file, or an empty split.

    Examples:
        >>> import contextlib, io, tempfile
        >>> import numpy as np
        >>> import mrigen as mg
        >>> from mrigen.cli.main import run
        >>> folder = tempfile.mkdtemp()
        >>> np.save(f"{folder}/scan.npy", np.random.default_rng(0).standard_normal((1, 2, 24, 24)) + 0j)
        >>> command = f"prep-fastmri {folder}/scan.npy --out {folder}/store --acceleration 2 --acs-lines 8"
        >>> with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ...     code = run([*command.split(), "--kernel-width", "4", "--calib-readout", "12", "--jobs", "1"])
        >>> type(mg.open_store(f"{folder}/store")).__name__
        'MeasurementStore'
    """
    kinds: dict[str, type[ImageStore | MeasurementStore]] = {"mri": MeasurementStore, "images": ImageStore}
    kind = data_kind(Path(folder))
    return kinds.get(kind, MeasurementStore)(folder, split)


def as_store(store: Stores | None) -> Store | None:
    """The training part of a folder's store, or of several as one; an open store, or None, as it is.

    Raises:
        UsageError: as ``open_store``, or it is no store.
    """
    if isinstance(store, str | Path):
        return open_store(store)
    if isinstance(store, Sequence):
        return MixedStore([part for part in map(as_store, store) if part is not None])
    if store is not None and not hasattr(store, "measurements"):
        raise UsageError(
            "give a store, mrigen.TensorStore(y, maps, mask) or mrigen.open_store(folder), or its folder, "
            f"not {type(store).__name__}"
        )
    return store


def scan_corruption(
    described: Mapping[str, Any] | None, operator: Operator, image_shape: tuple[int, int, int]
) -> Corruption:
    """The corruption that a model's description speaks of, with the coils of one scan's operator.

    Args:
        described: the corruption in words, as ``Store.described`` gives it; None for clean data.
        operator: of the scan; only coil maps are taken from it, and nothing from others than MRI.
        image_shape: (C, H, W) of an image.

    Raises:
        UsageError: as ``described_corruption``.
    """
    if not isinstance(operator, MultiCoilMRI) or described is None or "mask" not in described:
        return described_corruption(described, image_shape)
    scanner = parse_noise(described["sigma"]) if "sigma" in described else None
    fresh = bool(described.get("fresh_masks", True))
    return MRICorruption(OperatorBank(operator), MASKS.build(described["mask"]), fresh=fresh, scanner=scanner)
