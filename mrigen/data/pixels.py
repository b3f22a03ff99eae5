"""Image files of strangers: what a file declares is checked before it is decoded."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mrigen.pickles.plain import printable

MAX_PIXELS = 1 << 26
MAX_FILE_BYTES = 1 << 28
BYTE, WORD = 255.0, 65535.0
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".pbm",
}  # fmt: skip
TO_RGB = {"CMYK", "YCbCr", "LAB", "HSV", "RGBX"}


class ImageError(Exception):
    """An image that cannot be prepared; the message says why, in a few words."""


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        image: of mode L or RGB (8 bits), or F (one plane of any other range).
        peak: the value of white; black is 0.
    """

    image: Image.Image
    peak: float = BYTE

    @classmethod
    def of(cls, values: NDArray[np.generic], peak: float) -> Picture:
        """Pixels (H, W) or (H, W, 3); anything but 8 bits has one plane."""
        eight = values.dtype == np.uint8 and peak == BYTE
        return cls(Image.fromarray(values if eight else values.astype(np.float32)), peak)


def is_image(name: str) -> bool:
    """Whether a name, with slashes between folders, ends as images' do and is none of the hidden files."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part.strip(".") for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden and "__MACOSX" not in path.parts


def decode(data: bytes) -> Picture:
    """Decode an image file: PNG, JPEG, WebP, BMP, TIFF, PPM or a GIF of one frame.

    Turned as its EXIF orientation says. Palettes and unusual colour spaces become RGB, transparent
    parts white, 16-bit grey stays as precise as it is.

    Raises:
        ImageError: not an image, damaged, of several frames, or declares an absurd size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check(image)
                return _plain(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("is no image of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"declares more than {MAX_PIXELS >> 20} million pixels") from error
    except Exception as error:
        reason = printable(" ".join(str(error).split()))
        raise ImageError(f"is damaged ({reason or type(error).__name__})") from error


def tensor(picture: Picture, channels: int) -> Tensor:
    """Float32 (C, H, W) in [-1, 1], 2 v / peak − 1; filters that overshoot are clipped.

    8-bit values v give v / 127.5 − 1.
    """
    values = np.array(picture.image, np.float32)
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    scaled = torch.from_numpy(np.ascontiguousarray(planes)) / (picture.peak / 2) - 1
    return scaled.clamp(-1, 1).expand(channels, -1, -1)


def _check(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"declares {width} x {height} pixels, more than {MAX_PIXELS >> 20} million")
    if image.format == "MPO":  # a photograph with smaller copies or a second view behind it
        return
    try:
        image.seek(1)
    except EOFError:
        return
    raise ImageError("has several frames; take them apart first")


def _plain(image: Image.Image) -> Picture:
    if image.mode == "1":
        return Picture(image.convert("L"))
    if image.mode.startswith("I"):
        return _words(image)
    if image.mode in {"PA", "RGBa"} or (image.mode in {"P", "RGB"} and "transparency" in image.info):
        image = image.convert("RGBA")
    if image.mode == "L" and "transparency" in image.info:
        image = image.convert("LA")
    if image.mode in {"LA", "RGBA"}:
        return Picture(_on_white(image))
    if image.mode == "P":
        grey = image.palette is None or image.palette.mode == "L"
        return Picture(image.convert("L" if grey else "RGB"))
    if image.mode in TO_RGB:
        image = image.convert("RGB")
    if image.mode not in {"L", "RGB"}:
        raise ImageError(f"has pixels of mode {printable(image.mode)}, whose range is unknown")
    image.load()
    return Picture(image)


def _words(image: Image.Image) -> Picture:
    """Integers of 16 bits, which some files keep in 32."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > WORD:
        raise ImageError("has pixels of 32 bits, whose range is unknown")
    return Picture.of(values, WORD)


def _on_white(image: Image.Image) -> Image.Image:
    """What an image of mode LA or RGBA looks like on white."""
    page = Image.new(image.mode.removesuffix("A"), image.size, "white")
    page.paste(image.convert(page.mode), mask=image.getchannel("A"))
    return page
