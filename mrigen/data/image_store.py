"""The image store: measurements of images with the operators and noise that were drawn for them once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrigen.data.image_manifest import ImageManifest, Shard
from mrigen.data.manifest import in_split
from mrigen.data.shards import OPERATOR, Array, ShardIndex, map_shard, rows
from mrigen.errors import UsageError
from mrigen.operators.base import Operator
from mrigen.operators.corruption import ImageCorruption, make_corruption
from mrigen.operators.measurements import Measurements
from mrigen.operators.noise import Noise, parse_noise
from mrigen.seeds import seeded_rng
from mrigen.tensors import tensors_of, varying, with_tensors

PROBE = 2


class ImageStore:
    """Measurements of one split of a prepared image store, by index.

    Args:
        folder: folder with ``manifest.json``.
        split: part of the data; ``"train"`` by default, None for all of it.

    Raises:
        UsageError: no image store, a reference folder (training must not see clean images), a missing
            or damaged shard, or an empty split.
    """

    complex_valued = False

    def __init__(self, folder: str | Path, split: str | None = "train") -> None:
        self.folder = Path(folder)
        self.manifest = ImageManifest.load(self.folder)
        self.manifest.require("measurements", self.folder)
        shards = in_split(self.folder, self.manifest.shards, split)
        self._index = ShardIndex(shard.images for shard in shards)
        self._corruption = make_corruption(
            self.manifest.operator, self.image_shape, self.manifest.known_noise
        )
        self._template = self._corruption.draw(PROBE, seeded_rng(0, "template"))
        self._stored = varying(self._template, PROBE)
        self._expected = self._layout()
        self._shards = [self._mapped(shard) for shard in shards]

    def __len__(self) -> int:
        return len(self._index)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        return self.manifest.shape

    @property
    def classes(self) -> int:
        """Number of class labels, 0 where none are stored."""
        return self.manifest.classes

    def measurements(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """A batch of measurements with their operators.

        Args:
            indices: images of this split.
            fixed_further: not to be had: an image store holds no further corruption.

        Raises:
            UsageError: ``fixed_further``.
        """
        if fixed_further:
            raise UsageError(f"{self.folder}: image stores hold no fixed further masks; leave fixed_further")
        labels = torch.from_numpy(self._take("label", indices)) if self.classes else None
        y = torch.from_numpy(self._take("y", indices))
        return Measurements(y, self.operators(indices), self.noise_levels(indices), labels)

    def packed(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """The same as ``measurements``: images are stored as they are used."""
        return self.measurements(indices, fixed_further=fixed_further)

    def noise_levels(self, indices: list[int]) -> Tensor:
        """σ (n,) of some images' noise: as it was drawn, estimated or stated."""
        if self.manifest.estimate is not None or self.manifest.stated is not None:
            return torch.full((len(indices),), self.manifest.known_noise.low)
        return torch.from_numpy(self._take("sigma", indices))

    def operators(self, indices: list[int]) -> Operator:
        """The operators of some images."""
        stored = {name: torch.from_numpy(self._take(f"{OPERATOR}/{name}", indices)) for name in self._stored}
        return with_tensors(self._template, stored)

    def names(self, indices: list[int]) -> list[str]:
        """Names of some images in their source."""
        return [str(name, "utf-8") for name in self._take("name", indices).tolist()]

    def described(self) -> dict[str, Any]:
        """The corruption in words, for a model's description."""
        noise = self.manifest.known_noise.model_dump(mode="json")
        return {"operator": self.manifest.operator, "sigma": noise}

    def corruption(self, *, described: Mapping[str, Any] | None = None) -> ImageCorruption:
        """The corruption of this data.

        Args:
            described: the corruption that a model was trained under, as ``described`` gives it;
                None for the store's own.

        Raises:
            UsageError: the description is of another kind of data, or does not fit the images.
        """
        if described is not None and dict(described) != self.described():
            return described_corruption(described, self.image_shape)
        return self._corruption

    def _take(self, dataset: str, indices: list[int]) -> Any:
        """Rows of a dataset, gathered from the shards that hold them."""
        values: Array | None = None
        for number, at, inside in self._index.located(indices):
            part = rows(self._shards[number][dataset], inside)
            if values is None:
                values = np.empty((len(indices), *part.shape[1:]), part.dtype)
            values[at] = part
        return values

    def _layout(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Kind of number and shape per image of each dataset."""
        tensors = tensors_of(self._template)
        rows = {f"{OPERATOR}/{name}": tensors[name].numpy() for name in self._stored}
        rows["y"] = self._template.forward(self._template.zero_image()).numpy()
        expected = {name: (array.dtype.kind, array.shape[1:]) for name, array in rows.items()}
        return {**expected, "sigma": ("f", ()), "label": ("f", (self.classes,))}

    def _mapped(self, shard: Shard) -> dict[str, Array]:
        """A shard that has what its manifest and operator say."""
        path = self.folder / shard.file
        arrays = map_shard(path)
        operator = {f"{OPERATOR}/{name}" for name in self._stored}
        needed = {"y", "name"} | operator
        needed |= {"label"} if self.classes else set()
        needed |= {"sigma"} if self.manifest.estimate is None else set()
        lengths = {name: len(arrays[name]) if name in arrays else 0 for name in needed}
        other = [
            name
            for name, (kind, shape) in self._expected.items()
            if name in arrays and (arrays[name].dtype.kind, arrays[name].shape[1:]) != (kind, shape)
        ]
        if other:
            raise UsageError(f"{path}: {', '.join(other)} not as the manifest says; prepare the data again")
        wrong = [
            name
            for name, length in sorted(lengths.items())
            if length != shard.images and not (length == 1 and name in operator)
        ]
        if wrong:
            raise UsageError(
                f"{path}: lacks {', '.join(wrong)} of {shard.images} images; prepare the data again"
            )
        return arrays


def described_corruption(described: Mapping[str, Any] | None, shape: tuple[int, int, int]) -> ImageCorruption:
    """The corruption of images of a shape that a model's description speaks of; None is clean data.

    Raises:
        UsageError: it speaks of another kind of data, or the operator does not fit the images.
    """
    description = {"operator": {"name": "identity"}} if described is None else described
    operator = description.get("operator")
    if not isinstance(operator, Mapping):
        raise UsageError("the model's corruption is none of images; give data of its own kind")
    return make_corruption(operator, shape, parse_noise(description.get("sigma", 0.0)) or Noise())
