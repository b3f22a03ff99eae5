"""Measurements as a zip of pictures for EDM and the codes that descend from it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mrigen.data.image_store import ImageStore
from mrigen.files import atomic
from mrigen.prep.images.files import LABELS

BATCH = 256
FOLDER = 1000
DATE = (1980, 1, 1, 0, 0, 0)


def write(store: ImageStore, path: Path) -> float:
    """Write ``00000/img00000000.png`` ... and ``dataset.json``, as EDM's ``dataset_tool.py`` does.

    Measurements are taken as images (Aᴴ y, or y where that looks like an image), with 8 bits; equal stores
    give equal bytes.

    Returns:
        The fraction of pixels that were outside [-1, 1] and had to be clipped.
    """
    labels: list[list[object]] = []
    clipped, pixels = 0, 0
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for first in range(0, len(store), BATCH):
            indices = list(range(first, min(first + BATCH, len(store))))
            batch = store.measurements(indices)
            pictures, outside = to_bytes(batch.operator.as_image(batch.y))
            clipped, pixels = clipped + outside, pixels + pictures.size
            for index, picture in zip(indices, pictures, strict=True):
                name = f"{index // FOLDER:05d}/img{index:08d}.png"
                _add(archive, name, _png(picture))
                if batch.labels is not None:
                    labels.append([name, _label(batch.labels[index - first])])
        _add(archive, LABELS, json.dumps({"labels": labels or None}).encode())
    return clipped / pixels


def to_bytes(images: Tensor) -> tuple[NDArray[np.uint8], int]:
    """Images (n, C, H, W) in [-1, 1] as uint8 (n, H, W, 3 or 1), and how many values were outside."""
    shown = images.abs() if images.is_complex() else images
    outside = int((shown.abs() > 1).sum())
    values = ((shown + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return values[..., 0] if values.shape[-1] == 1 else values, outside


def _png(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def _label(label: Tensor) -> int | list[float]:
    """The class of a one-hot label, or the vector."""
    one_hot = bool(((label == 0) | (label == 1)).all()) and label.sum() == 1
    return int(label.argmax()) if one_hot else label.tolist()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, DATE), content)
