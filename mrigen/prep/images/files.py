"""Sets of image files: folders and zip archives, with the labels of EDM's ``dataset.json``."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from mrigen.data.pixels import MAX_FILE_BYTES, ImageError, is_image, posix
from mrigen.errors import UsageError
from mrigen.pickles.plain import printable
from mrigen.prep.images.base import PARTS, ImageSet, Item, Label, read_limited, with_labels, with_parts

LABELS = "dataset.json"
FULL_LABELS = 1 << 28


@dataclass(frozen=True, eq=False)
class FolderSet(ImageSet):
    """Image files below a folder."""

    kind: ClassVar[str] = "folder"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> FolderSet:
        """All image files below ``source``; links that lead out of it are left out.

        Raises:
            UsageError: there are no images, or no labels although they are wanted.
        """
        root = source.resolve()
        found, ignored = [], 0
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source).as_posix()
            if not path.is_file():
                continue
            if is_image(name) and path.resolve().is_relative_to(root):
                found.append(Item(name, place=str(path)))
            else:
                ignored += path.name != LABELS
        items = with_parts(_some(found, source))
        if labels:
            path = source / LABELS
            if path.is_file():
                items = with_labels(items, parse_labels(_bounded(path), str(path)), str(path))
            else:
                items = by_folder(items, source)
        return cls(source, items, ignored)

    def raw(self, position: int) -> bytes:
        """The file."""
        path = Path(self.items[position].place)
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                return read_limited(file, size)
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror})") from error


@dataclass(frozen=True, eq=False)
class ZipSet(ImageSet):
    """Image files in a zip archive, EDM's data sets among them. Nothing is unpacked."""

    kind: ClassVar[str] = "zip"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> ZipSet:
        """All image files in the archive.

        Raises:
            UsageError: no zip archive, no images, one name twice, or no labels although they are wanted.
        """
        try:
            with zipfile.ZipFile(source) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                names = [member.filename for member in members]
                images = sorted(filter(is_image, names), key=posix)
                told = _member(archive, LABELS, source) if labels and LABELS in names else None
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UsageError(f"{source}: not a readable zip archive ({error}); fetch it again") from error
        twice = next((a for a, b in pairwise(map(posix, images)) if a == b), None)
        if twice is not None:
            raise UsageError(f"{source}: holds {printable(twice)!r} twice; pack it again")
        items = with_parts(_some([Item(posix(name), place=name) for name in images], source))
        if labels and told is None:
            items = by_folder(items, source)
        if told is not None:
            where = f"{source}/{LABELS}"
            items = with_labels(items, parse_labels(told, where), where)
        return cls(source, items, len(members) - len(images) - (LABELS in names))

    def raw(self, position: int) -> bytes:
        """The archive's member, unpacked in memory."""
        try:
            return unpack(_opened(self.source, self.source.stat().st_mtime_ns), self.items[position].place)
        except (
            zipfile.BadZipFile,
            OSError,
            RuntimeError,
            NotImplementedError,
            ValueError,
            EOFError,
        ) as error:
            raise ImageError(f"cannot be unpacked ({printable(str(error))})") from error


@lru_cache(maxsize=2)
def _opened(path: Path, modified: int) -> zipfile.ZipFile:
    """An archive that stays open, for its directory is long."""
    del modified
    return zipfile.ZipFile(path)


def unpack(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of an archive, no larger than it declares.

    Raises:
        ImageError: it is too large.
    """
    member = archive.getinfo(name)
    if member.file_size > MAX_FILE_BYTES:
        raise ImageError(f"has {member.file_size >> 20} MiB, more than {MAX_FILE_BYTES >> 20}")
    with archive.open(member) as file:
        return read_limited(file, member.file_size)


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


def _member(archive: zipfile.ZipFile, name: str, source: Path) -> bytes:
    try:
        return unpack(archive, name)
    except ImageError as error:
        raise UsageError(f"{source}/{name}: {error}; leave out --labels") from error


def _bounded(path: Path) -> bytes:
    if path.stat().st_size > FULL_LABELS:
        raise UsageError(f"{path}: more than {FULL_LABELS >> 20} MiB of labels; leave out --labels")
    return path.read_bytes()


def _some(items: list[Item], source: Path) -> list[Item]:
    if not items:
        raise UsageError(f"{source}: holds no images (PNG, JPEG, WebP, BMP, TIFF, PPM); give another SRC")
    return items
