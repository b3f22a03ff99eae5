"""The ``Reader`` protocol: one class per format of raw k-space, chosen by what a file holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.prep.measured import measured
from mrigen.prep.readers import signatures
from mrigen.prep.scan import MAX_SLICE_BYTES, ReadSlices, Scan
from mrigen.registry import Registry

READERS: Registry[Reader] = Registry("format", "mrigen.prep.readers", "mrigen.prep.readers.Reader")
Rows = Callable[[list[int]], NDArray[Any]]
MOST_COILS = 128


@dataclass(frozen=True)
class Choice:
    """Which repetition, contrast, set, frame or echo of a file that holds several.

    Attributes:
        values: number from 0 by the axis' name; None takes all, one after another, as further slices.
        first: take the first one where nothing is said, for a look at a file.
    """

    values: tuple[tuple[str, int | None], ...] = ()
    first: bool = False

    @classmethod
    def parse(cls, text: str, *, first: bool = False) -> Choice:
        """From ``contrast=0,repetition=all``.

        Raises:
            UsageError: not of that form.
        """
        values: dict[str, int | None] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if not name or not (value == "all" or value.isdecimal()) or name in values:
                raise UsageError(f"--choose {text}: write it as contrast=0,repetition=all")
            values[name] = None if value == "all" else int(value)
        return cls(tuple(values.items()), first)

    def of(self, path: Path, counts: dict[str, int]) -> dict[str, list[int]]:
        """The chosen numbers along each axis.

        Args:
            path: for messages.
            counts: length of every axis that the file has beside slices, coils, H and W.

        Raises:
            UsageError: an axis has several and nothing was chosen, or there is no such axis or number.
        """
        numbers = dict(self.values)
        several = {name: count for name, count in counts.items() if count > 1}
        unknown = [name for name in numbers if name not in counts]
        if unknown:
            there = ", ".join(f"{n} (0 to {c - 1})" for n, c in several.items()) or "nothing to choose"
            raise UsageError(f"{path}: --choose {unknown[0]}: the file has {there}; mend or leave it out")
        silent = [name for name in several if name not in numbers]
        if silent and not self.first:
            words = ", ".join(f"{several[name]} {name}s" for name in silent)
            say = ",".join(f"{name}=0" for name in silent)
            raise UsageError(
                f"{path}: holds {words}: choose with --choose {say}, or `all` to take all in turn"
            )
        chosen = {}
        for name, count in counts.items():
            number = numbers.get(name, 0)
            if number is not None and number >= count:
                raise UsageError(f"{path}: --choose {name}={number}: there are {count}, counted from 0")
            chosen[name] = list(range(count)) if number is None else [number]
        return chosen


class Reader(ABC):
    """A format of raw Cartesian k-space.

    Attributes:
        title: what the format is called.
        suffixes: endings of its files in lower case, asked after the content.
    """

    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def matches(cls, path: Path) -> bool:
        """Whether the content of a file is of this format; never raises."""

    @abstractmethod
    def inspect(self, path: Path, choice: Choice) -> Scan:
        """What a file declares: sizes, coils, mask, header, geometry, noise scan.

        Raises:
            UsageError: no usable k-space of this format, or a choice that is missing or impossible.
        """

    @abstractmethod
    def open(self, scan: Scan, choice: Choice) -> AbstractContextManager[ReadSlices]:
        """Give a function that reads slices: increasing indices to k-space, complex64 (n, coils, H, W)."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """k-space of a file, in memory or read when it is asked for.

    Attributes:
        rows: k-space of some slices, (n, coils, H, W), DC in the centre.
        scan: what the file declares.
    """

    rows: Rows
    scan: Scan

    @classmethod
    def of(cls, path: Path, kspace: NDArray[Any], **more: Any) -> Loaded:
        """From an array (slices, coils, H, W).

        Args:
            path: the file.
            kspace: the array.
            more: attributes of ``Scan``.
        """
        slices, coils, height, width = kspace.shape
        return cls(lambda indices: kspace[indices], Scan(path, slices, coils, height, width, **more))

    def read(self, slices: list[int]) -> torch.Tensor:
        """k-space of slices with increasing numbers, complex64 (n, coils, H, W).

        Raises:
            UsageError: they are not finite.
        """
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(self.rows(slices), np.complex64)
        faults = (~np.isfinite(values)).reshape(len(values), -1).sum(1)
        if faults.any():
            bad = ", ".join(str(s) for s, count in zip(slices, faults, strict=True) if count)
            raise UsageError(
                f"{self.scan.path}: {faults.sum()} points of k-space are NaN or infinite, in slice {bad}; "
                "mend the file, or leave it out with --slices"
            )
        return torch.from_numpy(values)


class LoadedReader(Reader):
    """A format whose files are turned into ``Loaded`` k-space as a whole."""

    @abstractmethod
    def load(self, path: Path, choice: Choice) -> Loaded:
        """The k-space of a file.

        Raises:
            UsageError: as ``inspect``.
        """

    def inspect(self, path: Path, choice: Choice) -> Scan:
        """What the file declares."""
        scan = _loaded(self, path, choice).scan
        require_coils((scan.coils, scan.height, scan.width), str(path))
        if scan.slice_bytes > MAX_SLICE_BYTES:
            size = f"{scan.coils}x{scan.height}x{scan.width}"
            raise UsageError(f"{path}: one slice of k-space, {size}, needs more than 1 GiB; leave it out")
        return scan

    @contextmanager
    def open(self, scan: Scan, choice: Choice) -> Iterator[ReadSlices]:
        """Slices of the loaded k-space.

        Raises:
            UsageError: they are not finite.
        """
        yield _loaded(self, scan.path, choice).read


def _loaded(reader: LoadedReader, path: Path, choice: Choice) -> Loaded:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a file of raw k-space")
    status = path.stat()
    return _load(type(reader), path, choice, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _load(kind: type[LoadedReader], path: Path, choice: Choice, modified: int, size: int) -> Loaded:
    """The file that was looked at last, which is most often the one that is read next."""
    del modified, size
    return kind().load(path, choice)


def find_reader(path: Path) -> str | None:
    """Name of the format of a file, by its content first and its ending second; None for another file.

    Raises:
        UsageError: the file is of several formats alike.
    """
    names = [name for name in READERS.names() if READERS[name].matches(path)]
    if not names:
        suffix = path.suffix.lower()
        names = [name for name in READERS.names() if suffix in READERS[name].suffixes[:1]]
    elif len(names) > 1:
        names = [n for n in names if path.suffix.lower() in READERS[n].suffixes] or names
    if len(names) > 1:
        raise UsageError(f"{path}: could be {' or '.join(names)}; say which with --reader {names[0]}")
    return names[0] if names else None


def reader_of(path: Path, name: str = "") -> Reader:
    """The reader of a file.

    Args:
        path: the file.
        name: of the format; empty to see it by the file.

    Raises:
        UsageError: no format has this name, or the file is of none.
    """
    reader_name = name or find_reader(path)
    if path.is_file() and not path.stat().st_size:
        raise UsageError(f"{path}: is empty; copy the file again")
    if reader_name is None:
        known = ", ".join(READERS.names())
        raise UsageError(
            f"{path}: is {signatures.describe(path)}, not raw k-space; formats that are read: {known}"
        )
    reader: Reader = READERS[reader_name]()
    return reader


def inspect(path: Path, reader: str = "", choose: str = "", *, first: bool = False) -> Scan:
    """What a file of raw k-space declares, whatever its format, and what was measured of it.

    Args:
        path: the file.
        reader: name of the format; empty to see it by the file.
        choose: repetition, contrast and the like, as ``contrast=0``.
        first: take the first of several where nothing is chosen.

    Raises:
        UsageError: the file is of no format, holds no usable k-space, or a choice is missing.
    """
    opened = reader_of(path, reader)
    scan = opened.inspect(path, Choice.parse(choose, first=first))
    require_coils((scan.coils, scan.height, scan.width), str(path))
    with open_slices(scan, reader, choose, first=first) as read:
        return with_mask(scan, read)


def with_mask(scan: Scan, read: ReadSlices) -> Scan:
    """What a reader declares, with what was measured.

    Raises:
        UsageError: mask and data disagree, or DC is not in the centre.
    """
    size = (scan.slices, scan.coils, scan.height, scan.width)
    if scan.complete and scan.mask is None:
        return scan
    seen = measured(read, size, scan.header.acquired_lines(scan.width), scan.mask, str(scan.path))
    return replace(scan, mask=seen.mask, full=seen.full, inferred=seen.inferred)


def require_coils(shape: tuple[int, ...], where: str) -> None:
    """Refuse k-space whose first axis cannot be coils.

    Args:
        shape: (..., coils, H, W).
        where: for messages.

    Raises:
        UsageError: there are absurdly many, or the last axis looks like the coils.
    """
    coils, height, width = shape[-3:]
    if width <= MOST_COILS // 4 and 2 * width <= min(coils, height):
        raise UsageError(
            f"{where}: k-space of shape {shape} has {coils} coils of {height}x{width}: the coils seem to "
            "come last; move them first with numpy.moveaxis(k, -1, -3)"
        )
    if height <= MOST_COILS // 4 and 2 * height <= min(coils, width):
        raise UsageError(
            f"{where}: k-space of shape {shape} has {coils} coils of {height}x{width}: an axis of coils or "
            "slices seems to stand where H is; the axes must be (coils, H, W), in MATLAB (H, W, coils)"
        )
    if coils > MOST_COILS:
        raise UsageError(
            f"{where}: k-space of shape {shape} has {coils} coils, more than {MOST_COILS}; the axes must be "
            "(coils, H, W)"
        )


@contextmanager
def open_slices(
    scan: Scan, reader: str = "", choose: str = "", *, first: bool = False
) -> Iterator[ReadSlices]:
    """Give a function that reads slices of a scan: increasing indices to k-space (n, coils, H, W).

    Raises:
        UsageError: as ``inspect``, or the data are not finite.
    """
    with reader_of(scan.path, reader).open(scan, Choice.parse(choose, first=first)) as read:
        yield read


def pick_axes(
    path: Path, array: NDArray[Any], names: tuple[str, ...], choice: Choice
) -> tuple[NDArray[Any], dict[str, int]]:
    """Choose along the leading axes of an array, (*names, ...) to (chosen, ...).

    Args:
        path: for messages.
        array: with one axis for every name first.
        names: of those axes.
        choice: the user's.

    Returns:
        The array with its leading axes made one, the last of them fastest; and the length of every named
        axis that has more than one.

    Raises:
        UsageError: as ``Choice.of``.
    """
    counts = dict(zip(names, array.shape, strict=False))
    for axis, numbers in enumerate(choice.of(path, counts).values()):
        if len(numbers) < array.shape[axis]:
            array = array[(slice(None),) * axis + (numbers,)]
    return array.reshape(-1, *array.shape[len(names) :]), {n: c for n, c in counts.items() if c > 1}


def read_kspace(path: str | Path, reader: str = "", choose: str = "") -> torch.Tensor:
    """Raw k-space of a file of any format that is read, in memory.

    Args:
        path: fastMRI, ISMRMRD, Siemens, BART, MATLAB, numpy or another format of ``mrigen list readers``.
        reader: name of the format; empty to see it by the file.
        choose: repetition, contrast and the like where there are several, as ``contrast=0``.

    Returns:
        Complex (slices, coils, H, W) in the file's units: H along the readout, with its oversampling, DC at
        (H // 2, W // 2), 0 where nothing was measured.

    Raises:
        UsageError: the file is of no format, holds no usable k-space, or a choice is missing.

    Examples:
        >>> import mrigen as mg
        >>> from tempfile import TemporaryDirectory
        >>> kspace = mg.fft(torch.rand(2, 4, 32, 24).to(torch.complex64))
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/scan.npy", kspace.numpy())
        ...     torch.equal(mg.read_kspace(f"{folder}/scan.npy"), kspace)
        True
    """
    scan = inspect(Path(path), reader, choose)
    with open_slices(scan, reader, choose) as read:
        kspace = read(list(range(scan.slices)))
    if scan.mask is None:
        return kspace
    mask = torch.as_tensor(scan.mask, dtype=torch.bool)
    return kspace * (mask[:, None] if mask.ndim == 3 else mask)
