"""The manifest of an image store: its operator, its noise and its shards."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mrigen.data.manifest import FileName, Manifest, Record
from mrigen.data.noise_estimate import NoiseEstimate
from mrigen.operators.noise import Noise
from mrigen.registry import Params

Size = Annotated[int, Field(ge=1, le=8192)]  # 8192² pixels are what a picture may have
REFERENCE = "image"  # dataset of a reference shard: uint8, or float32 in [-1, 1], (images, C, H, W)


class Source(Params):
    """Where the images came from.

    Attributes:
        name: name of the file or folder, without the folders above it.
        kind: ``files`` (in older stores ``folder`` or ``zip``), ``array``, ``volumes``, ``cifar10``, ``idx``,
            or the name of a built-in set.
        sha256: checksum of the file; of a folder, of the names and contents of its images.
    """

    name: str
    kind: str
    sha256: str


class Shard(Params):
    """One file of images.

    Attributes:
        file: its name beside the manifest.
        split: the part of the data that its images belong to.
        images: their number.
        enlarged: how many of them were smaller than the store's images.
        source_sha256: checksum of the names and contents of the images that it was made from.
        left_out: images that could not be prepared, with the reason.
    """

    file: FileName
    split: str
    images: int
    enlarged: int = 0
    source_sha256: str
    left_out: dict[str, str] = {}


class ShardRecord(Record):
    """The record of a shard's file.

    Attributes:
        shard: the shard's entry in the manifest.
    """

    shard: Shard


class ImageManifest(Manifest):
    """Everything about a store of images except the arrays.

    Attributes:
        shape: (C, H, W) of the images.
        operator: the forward model in a recipe's notation, ``name`` and all parameters.
        noise: distribution of the measurement noise's σ, which is stored per image.
        estimate: where σ is unknown: what was estimated from the measurements; training uses it.
        stated: where training is told another σ than the noise has, as a study of that: this σ.
        classes: number of class labels, 0 where none are stored.
        source: where the images came from.
        shards: the files, in order.
    """

    written_by: ClassVar[str] = "mrigen prep-images"

    data: Literal["images"] = "images"
    shape: tuple[Size, Size, Size]
    operator: dict[str, Any]
    noise: Noise = Noise()
    estimate: NoiseEstimate | None = None
    stated: float | None = None
    classes: int = 0
    source: Source
    shards: list[Shard]

    @property
    def files(self) -> list[str]:
        """Names of the shards' files."""
        return [shard.file for shard in self.shards]

    @property
    def known_noise(self) -> Noise:
        """The noise law that training goes by: an estimate or a stated σ where there is one."""
        sigma = self.stated if self.estimate is None else self.estimate.sigma
        return self.noise if sigma is None else Noise(low=sigma)
