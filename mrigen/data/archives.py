"""Files of a folder, or of a zip or tar archive, which are read in memory: nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self

from mrigen.data.pixels import MAX_FILE_BYTES, ImageError
from mrigen.errors import UsageError
from mrigen.files import CHUNK
from mrigen.memory import available
from mrigen.pickles.plain import printable

KEPT_BYTES = 1 << 32  # of the members of a compressed tar archive, which are kept in memory
MOST_HEADER = 1 << 16  # of a tar member's long name and attributes
COMPRESSIONS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
TAR_MAGIC = slice(257, 262)
TAR_NAME = re.compile(r"\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz)$", re.IGNORECASE)
EXTENSIONS = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,  # encrypted, or an unknown compression
)


@dataclass(frozen=True, eq=False)
class Files(ABC):
    """Some files of a folder or archive, by their names with slashes between folders.

    Attributes:
        path: the folder or archive.
        places: where each file is found, in the order of the names.
        others: number of other files in it.
        links: how many of those are links that lead out of a folder.
    """

    kind: ClassVar[str]

    path: Path
    places: dict[str, Any]
    others: int = 0
    links: int = 0

    def only(self, names: Iterable[str]) -> Self:
        """Some of the files, to be sent to another process."""
        return replace(self, places={name: self.places[name] for name in names})

    def read(self, name: str) -> bytes:
        """The content of a file, no larger than it declares.

        Raises:
            ImageError: it is damaged or too large.
        """
        try:
            return self._read(self.places[name])
        except DAMAGE as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageError(f"cannot be read ({printable(reason)})") from error

    @abstractmethod
    def _read(self, place: Any) -> bytes: ...


class Folder(Files):
    """A folder. A file's place is its path; links that lead out of the folder are left out."""

    kind = "folder"

    @classmethod
    def open(cls, path: Path, keep: Callable[[str], bool]) -> Folder:
        """The files below the folder whose names are to be kept."""
        root = path.resolve()
        members: list[tuple[str, Any]] = []
        others = links = 0
        for file in path.rglob("*"):
            if not file.is_file():
                continue
            name = plain(file.relative_to(path).as_posix())
            leads_out = keep(name) and not file.resolve().is_relative_to(root)
            if keep(name) and not leads_out:
                members.append((name, file))
            else:
                others, links = others + 1, links + leads_out
        return cls(path, _once(path, members), others, links)

    def _read(self, place: Path) -> bytes:
        with place.open("rb") as file:
            return read_limited(file, place.stat().st_size)


class Zip(Files):
    """A zip archive. A member's place is its name there, in which some programs write backslashes."""

    kind = "zip"

    @classmethod
    def open(cls, path: Path, keep: Callable[[str], bool]) -> Zip:
        """The members whose names are to be kept."""
        with zipfile.ZipFile(path) as archive:
            files = [member.filename for member in archive.infolist() if not member.is_dir()]
        named = [(plain(stored.replace("\\", "/")), stored) for stored in files]
        members = [pair for pair in named if keep(pair[0])]
        return cls(path, _once(path, members), len(files) - len(members))

    def _read(self, place: str) -> bytes:
        archive = _opened_zip(self.path, self.path.stat().st_mtime_ns)
        member = archive.getinfo(place)
        with archive.open(member) as file:
            return read_limited(file, member.file_size)


class Tar(Files):
    """A tar archive, plain or compressed with gzip, bzip2 or xz.

    A member's place in a plain one is its first byte and its size. What is kept of a compressed one, which
    can be read from its beginning to its end only, stays in memory.
    """

    kind = "tar"

    @classmethod
    def open(cls, path: Path, keep: Callable[[str], bool]) -> Tar:
        """The regular files whose names are keep; links and devices are not.

        Raises:
            UsageError: a compressed archive is too large to be kept.
        """
        unpack = _compression(path)
        members: list[tuple[str, Any]] = []
        others = kept = 0
        limit = min(KEPT_BYTES, available() // 8)
        with (
            (unpack or open)(path, "rb") as file,
            tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as archive,
        ):
            for member in archive:
                name = plain(member.name)
                if not member.isreg() or member.issparse() or not keep(name):
                    others += not member.isdir()
                    continue
                place: Any = (member.offset_data, member.size)
                if unpack is not None and member.size <= MAX_FILE_BYTES:
                    kept += member.size
                    if kept > limit:
                        raise UsageError(
                            f"{path}: unpacks to more than {limit >> 20} MiB, and a compressed tar archive "
                            f"is kept in memory; unpack it (tar -xf {path.name}) and give the folder"
                        )
                    inside = archive.extractfile(member)
                    assert inside is not None
                    place = read_limited(inside, member.size)
                members.append((name, place))
            file.seek(archive.offset)
            if any(file.read(tarfile.BLOCKSIZE)):
                raise ValueError(f"no member begins at byte {archive.offset}")
        return cls(path, _once(path, members), others)

    def _read(self, place: tuple[int, int] | bytes) -> bytes:
        if isinstance(place, bytes):
            return place
        with self.path.open("rb") as file:
            file.seek(place[0])
            return read_limited(file, place[1], end=False)


class _Header(tarfile.TarInfo):
    """A member's header whose extensions may not be of any size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENSIONS and header.size > MOST_HEADER:
            raise tarfile.ReadError(f"a header of {header.size >> 10} KiB")
        return header


def open_files(path: Path, keep: Callable[[str], bool]) -> Files:
    """The files of a folder or archive whose names are to be kept.

    Args:
        path: a folder, or see ``is_archive``.
        keep: whether a name, with slashes between folders, is to be kept.

    Raises:
        UsageError: it cannot be read, or holds one name twice.
    """
    kind: type[Folder | Zip | Tar] = Folder if path.is_dir() else Zip if is_zip(path) else Tar
    try:
        return kind.open(path, keep)
    except DAMAGE as error:
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        what = "folder" if kind is Folder else f"{kind.kind} archive"
        raise UsageError(f"{path}: not a readable {what} ({reason}); fetch it again") from error


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive by its content or by its name; numpy's ``.npz`` is none."""
    return is_zip(path) or is_tar(path)


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive."""
    if path.suffix.lower() in {".npz", ".pt", ".pth"}:
        return False
    return path.suffix.lower() == ".zip" or _head(path).startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_tar(path: Path) -> bool:
    """Whether a file is a tar archive."""
    return bool(TAR_NAME.search(path.name)) or _head(path)[TAR_MAGIC] == b"ustar"


def plain(name: str) -> str:
    """The name of a file without ``./`` before it, and with bytes that are no text in hexadecimal."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return str(PurePosixPath(text))


def read_limited(file: Any, size: int, *, end: bool = True) -> bytes:
    """Read ``size`` bytes, as declared, and no more.

    Args:
        file: open for reading.
        size: in bytes.
        end: the file ends there.

    Raises:
        ImageError: too many, or there are others.
    """
    if size > MAX_FILE_BYTES:
        raise ImageError(f"has {size >> 20} MiB, more than {MAX_FILE_BYTES >> 20}")
    parts, total, most = [], 0, size + end
    while total < most and (part := file.read(min(CHUNK, most - total))):
        parts.append(part)
        total += len(part)
    if total != size:
        raise ImageError("does not have the declared size")
    return b"".join(parts)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(tarfile.BLOCKSIZE)
    except OSError:
        return b""


def _compression(path: Path) -> Callable[..., Any] | None:
    head = _head(path)
    return next((unpack for magic, unpack in COMPRESSIONS.items() if head.startswith(magic)), None)


def _once(path: Path, members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Places by name, in the order of the names.

    Raises:
        UsageError: a name is there twice.
    """
    places: dict[str, Any] = {}
    for name, place in sorted(members, key=lambda pair: pair[0]):
        if name in places:
            raise UsageError(f"{path}: holds {printable(name)!r} twice; pack it again")
        places[name] = place
    return places


@lru_cache(maxsize=2)
def _opened_zip(path: Path, modified: int) -> zipfile.ZipFile:
    """An archive that stays open, for its directory is long."""
    del modified
    return zipfile.ZipFile(path)
