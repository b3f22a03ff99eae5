"""Crop and size of images."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BeforeValidator, Field, model_validator

from mrigen.data.pixels import BYTE, ImageError, Picture
from mrigen.registry import Params

CELEBA = 140
MAX_SIZE = 4096
FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Side = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Crop = Annotated[Literal["center", "celeba", "dhariwal", "pad", "none"] | Side, BeforeValidator(_number)]


class Geometry(Params):
    """How images of any size become images of one.

    Attributes:
        size: H and W of the result; None keeps the size that the crop leaves.
        crop: what is kept of the image before it is resampled to ``size``:

            - ``center``: the largest centred square, as EDM's ``center-crop``;
            - ``celeba``: the centred square of 140 pixels of the aligned 178 x 218 CelebA images (Song
              et al. 2021, score_sde);
            - a number: the centred square of so many pixels;
            - ``dhariwal``: halve by box averages while twice too large, bicubic to ``size`` on the short
              side, then the centre, as ADM (Dhariwal & Nichol 2021) and EDM's ``center-crop-dhariwal``;
            - ``pad``: nothing is resampled, black is added around the image up to ``size``;
            - ``none``: the whole image, which must be square where it is to be resampled.
        resample: filter, ``lanczos`` by default, or ``box`` for area averages.
        channels: 1 for grey (ITU-R 601 luma), 3 for colour.
    """

    size: Side | None = None
    crop: Crop = "center"
    resample: Literal["lanczos", "box"] | None = None
    channels: Literal[1, 3] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Geometry:
        if self.size is None and self.crop in {"dhariwal", "pad"}:
            raise ValueError(f"crop {self.crop} needs a size")
        if self.resample is not None and self.crop in {"dhariwal", "pad"}:
            raise ValueError(f"crop {self.crop} leaves no choice of resample")
        return self

    def enlarges(self, picture: Picture) -> bool:
        """Whether the image has fewer pixels than the result."""
        return self.size is not None and self.crop != "pad" and min(self._kept(picture.image)) < self.size

    def apply(self, picture: Picture, shape: tuple[int, int, int] | None = None) -> Picture:
        """Crop, resample, and convert to grey or colour.

        Args:
            picture: decoded image.
            shape: (C, H, W) that the result must have; None to take what comes.

        Raises:
            ImageError: the image does not fit.
        """
        image = self._sized(self._coloured(picture.image, shape))
        if shape is not None and (image.height, image.width) != shape[1:]:
            raise ImageError(
                f"is {image.width} x {image.height} pixels where the first image has "
                f"{shape[2]} x {shape[1]}; give --size"
            )
        return Picture(image, picture.peak)

    def shape(self, picture: Picture) -> tuple[int, int, int]:
        """(C, H, W) that a picture gets.

        Raises:
            ImageError: the image does not fit.
        """
        image = self.apply(picture).image
        return self.channels or len(image.getbands()), image.height, image.width

    def _coloured(self, image: Image.Image, shape: tuple[int, int, int] | None) -> Image.Image:
        channels = self.channels if shape is None else shape[0]
        if channels == 1 and self.channels is None and image.mode == "RGB":
            raise ImageError("is in colour where the first image is grey; say --channels 1 or 3")
        if channels is None or image.mode == "F":
            return image
        return image.convert("L" if channels == 1 else "RGB")

    def _kept(self, image: Image.Image) -> tuple[int, int]:
        """Width and height of what the crop keeps."""
        side = {"celeba": CELEBA}.get(str(self.crop), self.crop)
        if isinstance(side, int):
            return side, side
        return (min(image.size),) * 2 if side in {"center", "dhariwal"} else image.size

    def _sized(self, image: Image.Image) -> Image.Image:
        width, height = self._kept(image)
        if width > image.width or height > image.height:
            raise ImageError(f"is {image.width} x {image.height} pixels, smaller than --crop {self.crop}")
        if self.crop == "dhariwal":
            return self._dhariwal(image)
        image = _centre(image, width, height)
        if self.size is None or image.size == (self.size, self.size):
            return image
        if self.crop == "pad":
            return self._padded(image)
        if width != height:
            raise ImageError(f"is {width} x {height} pixels, not square; choose --crop center or another")
        return image.resize((self.size, self.size), FILTERS[self.resample or "lanczos"])

    def _dhariwal(self, image: Image.Image) -> Image.Image:
        size = self.size or 0
        while min(image.size) >= 2 * size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        scale = size / min(image.size)
        resized = (round(image.width * scale), round(image.height * scale))
        return _centre(image.resize(resized, Image.Resampling.BICUBIC), size, size)

    def _padded(self, image: Image.Image) -> Image.Image:
        size = self.size or 0
        if max(image.size) > size:
            raise ImageError(f"is {image.width} x {image.height} pixels, larger than --size {size}")
        page = Image.new(image.mode, (size, size))
        page.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        return page


def byte_values(picture: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
    """uint8 (C, H, W), or None where the image has more than 8 bits."""
    if picture.peak != BYTE or picture.image.mode == "F":
        return None
    values = np.asarray(picture.image)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if (width, height) == image.size:
        return image
    return image.crop((left, top, left + width, top + height))
