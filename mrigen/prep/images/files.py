"""Sets of image files: folders and archives, with the labels of EDM's ``dataset.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self

from mrigen.data.archives import Files
from mrigen.data.pixels import ImageError, is_image
from mrigen.errors import UsageError
from mrigen.pickles.plain import printable
from mrigen.prep.images.base import PARTS, ImageSet, Item, Label, with_labels, with_parts

LABELS = "dataset.json"


@dataclass(frozen=True, eq=False)
class FileSet(ImageSet):
    """Image files below a folder or in an archive, EDM's data sets among them.

    Attributes:
        files: what the items lie in.
    """

    kind: ClassVar[str] = "files"

    files: Files = field(kw_only=True)

    @classmethod
    def of(cls, files: Files, *, labels: bool) -> FileSet:
        """All image files.

        Raises:
            UsageError: there are no images, or no labels although they are wanted.
        """
        images = [name for name in files.places if is_image(name)]
        if not images:
            more = f", but {files.others} other files" if files.others else ""
            more = f", but {files.links} links that lead out of it" if files.links else more
            raise UsageError(
                f"{files.path}: holds no images (PNG, JPEG, WebP, BMP, TIFF, PPM){more}; give another SRC"
                + (", and unpack DICOM and NIfTI" if files.others and files.path.is_file() else "")
            )
        items = with_parts([Item(name) for name in images])
        if labels:
            items = _labelled(items, files)
        return cls(files.path, items, files.others, files=files)

    def select(self, positions: Sequence[int]) -> Self:
        """The set of some of the images, with what is kept of their archive."""
        chosen = super().select(positions)
        return replace(chosen, files=self.files.only(item.name for item in chosen.items))

    def raw(self, position: int) -> bytes:
        """The file."""
        return self.files.read(self.items[position].name)


def is_relevant(name: str) -> bool:
    """Whether a file is an image or has the labels of images."""
    return is_image(name) or PurePosixPath(name).name == LABELS


def _labelled(items: list[Item], files: Files) -> list[Item]:
    """Items with the labels of the topmost ``dataset.json``, whose names count from its folder, or by folder.

    Raises:
        UsageError: as ``with_labels``, ``parse_labels`` and ``by_folder``.
    """
    tables = [name for name in files.places if PurePosixPath(name).name == LABELS]
    if not tables:
        return by_folder(items, files.path)
    name = min(tables, key=lambda name: name.count("/"))
    where = f"{files.path}/{name}"
    try:
        labels = parse_labels(files.read(name), where)
    except ImageError as error:
        raise UsageError(f"{where}: {error}; leave out --labels") from error
    folder = name.removesuffix(LABELS)
    return with_labels(items, {folder + image: label for image, label in labels.items()}, where)


def by_folder(items: list[Item], source: Path) -> list[Item]:
    """Items labelled by the folder that holds them: numbers of its name in alphabetical order.

    Folders that name a part of the data (``train``, ``test``) are no classes.

    Raises:
        UsageError: some images lie in no folder of a class, or all in the same.
    """
    parents = [PurePosixPath(item.name).parent for item in items]
    classes = sorted({p.name for p in parents if p.name and p.name.lower() not in PARTS})
    if len(classes) < 2 or any(p.name not in classes for p in parents):
        raise UsageError(
            f"{source}: no {LABELS} with labels here, and no folder for each class; leave out --labels"
        )
    return [replace(item, label=classes.index(p.name)) for item, p in zip(items, parents, strict=True)]


def parse_labels(text: bytes, where: str) -> dict[str, Label]:
    """The labels of EDM's ``{"labels": [["00000/img00000000.png", 6], ...]}``.

    Raises:
        UsageError: not of that form.
    """
    try:
        pairs = json.loads(text)["labels"]
        return {str(name): _label(value) for name, value in pairs}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(
            f"{where}: no labels of EDM's form ({printable(str(error))}); leave out --labels"
        ) from error


def _label(value: Any) -> Label:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 20:
        return value
    if isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
        numbers = tuple(float(v) for v in value)
        if all(map(math.isfinite, numbers)):
            return numbers
    raise ValueError(f"label {str(value)[:20]!r}")
