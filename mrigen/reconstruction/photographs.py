"""Degraded pictures as a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrigen import recipe, seeds
from mrigen.data.pixels import ImageError, Picture, decode, is_image, tensor
from mrigen.errors import UsageError
from mrigen.operators import Measurements
from mrigen.operators.base import Operator
from mrigen.operators.corruption import CORRUPTIONS, ImageCorruption, make_corruption
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.noise import Noise
from mrigen.reconstruction.sources import Batch, Shape, Source
from mrigen.tensors import tensors_of

LARGEST_FACTOR, MOST_PIXELS = 8, 1 << 26


class PictureSource(Source):
    """Pictures and the operator that degraded them.

    Args:
        path: an image file, or a folder of them.
        shape: (C, H, W) of clean images, a model's; None to take it from the first picture.
        operator: in a command's words, for example ``super-resolution:factor=2``; None with a mask.
        sigma: standard deviation of the noise, in [-1, 1] units.
        mask: picture that is black where pixels are missing.
        degrade: the pictures are clean: apply the operator and the noise to them first, and compare.
        seed: of the operator and the noise, with ``degrade``.

    Raises:
        UsageError: no pictures, of another size than the operator gives, or an operator that is drawn at
            random although the pictures were degraded elsewhere.
    """

    complex_valued = False

    def __init__(
        self,
        path: Path,
        shape: Shape | None,
        operator: str | None,
        sigma: float,
        mask: Path | None = None,
        *,
        degrade: bool = False,
        seed: int = 0,
    ) -> None:
        self.name, self.has_reference = path.stem, degrade
        files = sorted(p for p in path.iterdir() if is_image(p.name)) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"{path}: no pictures in this folder; give image files")
        self.labels = [p.name for p in files]
        self._files, self._sigma, self._seed = files, sigma, seed
        if (operator is None) == (mask is None):
            raise UsageError(f"{path}: say how it was degraded, with --operator or with --mask")
        spec = None if operator is None else _operator_of(operator)
        self._whose = "the first picture is" if shape is None else "the model's images are"
        self.shape = shape or clean_shape(files[0], None if degrade else spec)
        if mask is not None:
            self._operator: Operator | None = PixelMask(self._read_mask(mask), self.shape[0])
            return
        assert spec is not None
        self._corruption = make_corruption(spec, self.shape, Noise(low=sigma))
        self._operator = None if degrade else self._certain(str(operator))

    def batches(self, size: int) -> Iterator[Batch]:
        """Pictures in the order of their names."""
        for first in range(0, len(self), size):
            files = self._files[first : first + size]
            positions = list(range(first, first + len(files)))
            pictures = [self._read(path) for path in files]
            for path, picture in zip(files, pictures, strict=True):
                self._require_size(path, tuple(picture.shape))
            y = torch.stack(pictures)
            if self.has_reference:
                yield self._degraded(positions, y)
                continue
            assert self._operator is not None
            if isinstance(self._operator, PixelMask):
                y = self._operator.forward(y)
            sigma = torch.full((len(files),), self._sigma)
            yield Batch(positions, Measurements(y, self._operator, sigma), torch.ones(len(files)))

    def _require_size(self, path: Path, shape: tuple[int, ...]) -> None:
        """Refuse a picture of another size than the first one, the model or the operator has."""
        if self.has_reference:
            if shape != self.shape:
                raise UsageError(
                    f"{path}: is {shape} (C, H, W), but {self._whose} {self.shape}; take one size at a time"
                )
            return
        assert self._operator is not None
        expected = tuple(self._operator.forward(self._operator.zero_image()).shape[1:])
        if shape != expected:
            raise UsageError(
                f"{path}: is {shape} (C, H, W), but the operator makes {expected} of images {self.shape}"
            )

    def _degraded(self, positions: list[int], images: Tensor) -> Batch:
        if self._operator is not None:
            operator, sigma = self._operator, torch.full((len(images),), self._sigma)
            drawn = operator.noise(
                operator.forward(images), sigma, seeds.seeded_rng(self._seed, "noise", positions[0])
            )
            data = Measurements(operator.forward(images) + drawn, operator, sigma)
        else:
            rng = seeds.seeded_rng(self._seed, "degrade", positions[0])
            data = self._corruption.measure(images, rng)
        return Batch(positions, data, torch.ones(len(images)), reference=images)

    def _read(self, path: Path) -> Tensor:
        picture = read_picture(path)
        if self.shape[0] == 1 and picture.image.mode == "RGB":
            picture = replace(picture, image=picture.image.convert("L"))
        image: Tensor = tensor(picture, self.shape[0])
        return image

    def _read_mask(self, path: Path) -> Tensor:
        seen = self._read(path)[:1] > 0
        if seen.shape[1:] != self.shape[1:]:
            raise UsageError(f"{path}: is {tuple(seen.shape[1:])} (H, W), but {self._whose} {self.shape}")
        return seen.unsqueeze(0)

    def _certain(self, words: str) -> Operator:
        """The operator, which must not be drawn at random.

        Raises:
            UsageError: two draws differ.
        """
        corruption: ImageCorruption = self._corruption
        one, other = (corruption.draw(1, seeds.seeded_rng(seed, "certain")) for seed in range(2))
        pairs = zip(tensors_of(one).values(), tensors_of(other).values(), strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            raise UsageError(
                f"--operator {words}: is drawn at random, which no picture tells; give missing pixels with "
                "--mask, or a clean picture with --degrade"
            )
        return one


def read_picture(path: Path) -> Picture:
    """A decoded picture.

    Raises:
        UsageError: the file is none.
    """
    try:
        return decode(path.read_bytes())
    except ImageError as error:
        raise UsageError(f"{path}: {error}; give another picture") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give image files") from error


def _operator_of(words: str) -> dict[str, Any]:
    """An operator in a command's words, or a recipe's.

    Raises:
        UsageError: no such operator, or a recipe that is not about images.
    """
    if words not in recipe.names():
        return CORRUPTIONS.parse(words)
    images = recipe.load(words).data.images
    if images is None:
        raise UsageError(f"--operator {words}: this recipe is not about images; name another")
    return dict(images.operator)


def clean_shape(path: Path, operator: dict[str, Any] | None) -> Shape:
    """(C, H, W) of the clean image behind a picture, where no model says.

    Without an operator it is the picture's; with one, the smallest whole multiple of the picture's size
    that the operator turns into a picture like this.

    Raises:
        UsageError: no picture, or there is no such multiple.
    """
    picture = read_picture(path).image
    channels = 3 if picture.mode == "RGB" else 1
    width, height = picture.size
    if operator is None:
        return channels, height, width
    refused: UsageError | None = None
    for factor in range(1, LARGEST_FACTOR + 1):
        shape = (channels, factor * height, factor * width)
        if factor > 1 and shape[1] * shape[2] > MOST_PIXELS:
            break
        try:
            drawn = make_corruption(operator, shape, Noise()).draw(1, seeds.seeded_rng(0, "size"))
        except UsageError as error:
            refused = refused or error
            continue
        if drawn.forward(drawn.zero_image()).shape[1:] == (channels, height, width):
            return shape
    raise refused or UsageError(
        f"{path}: is {(channels, height, width)} (C, H, W), which this operator makes of no multiple of its "
        "size; give --model, whose size the clean pictures have"
    )
