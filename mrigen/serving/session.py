"""One measurement of a scanner: acquisitions in, an image out as soon as its slice is complete."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Solver
from mrigen.model import Model
from mrigen.prep import ismrmrd
from mrigen.prep.kspace.options import Options
from mrigen.prep.kspace.pipeline import Calibration
from mrigen.prep.readers import Choice, Loaded
from mrigen.prep.readers.mrd import (
    CALIBRATION,
    CALIBRATION_AND_IMAGE,
    EMBEDDED,
    LEFT_OUT,
    NOISE,
    Measurement,
    calibration_mode,
)
from mrigen.reconstruction.coil_maps import CoilMaps
from mrigen.reconstruction.job import Request, prior_for, require_role, solve_batch, with_phase
from mrigen.reconstruction.scans import ScanSource
from mrigen.seeds import seeded_rng
from mrigen.serving.messages import Line, image_head

LAST_IN_SLICE, LAST_IN_MEASUREMENT = 8, 25
KEY = ("slice", "contrast", "phase", "repetition", "set")
MOST_SIDE = 4096
LINE_BYTES = 1 << 10  # of a line beside its samples
WARM_UP = (64, 64)
FAULTS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What strangers' lines may raise beside ``UsageError``."""
Key = tuple[int, ...]
Picture = NDArray[Any]


class Reconstructor:
    """Slices to images by one solver, one at a time, whoever asks.

    Args:
        solver: in a command's words, ``cg-sense:steps=20``.
        model: a teacher or a generator, for solvers that need one.
        prep: preparation of the k-space.
        device: where solvers work.
        seed: of everything random.
        complex_valued: images are complex; otherwise they are magnitudes.

    Raises:
        UsageError: there is no such solver, or it needs another model.
    """

    def __init__(
        self,
        solver: str,
        model: Model | None,
        prep: Options,
        device: torch.device,
        *,
        seed: int = 0,
        complex_valued: bool = False,
    ) -> None:
        self._solver: Solver[Any] = SOLVERS.build(SOLVERS.parse(solver))
        require_role(model, self._solver, solver)
        self._request = Request(solver=solver, prep=prep, seed=seed)
        if model is not None:
            self._request = with_phase(self._request, model)
        self._model, self._device, self._complex = model, device, complex_valued
        self._priors: dict[tuple[int, int, int], Any] = {}
        self._turn = threading.Lock()

    def warm_up(self) -> None:
        """Load what a first slice would wait for, with a slice of noise."""
        height, width = WARM_UP if self._model is None else self._model.image_shape[1:]
        noise = torch.randn(1, 4, height, width, dtype=torch.complex64, generator=seeded_rng(0, "warm up"))
        self.reconstruct(Loaded.of(Path("warm-up"), noise.numpy(), complete=True), 0, None)

    def calibrated_by(self, steps: set[int], step: int, centre: int, width: int) -> bool:
        """Whether a slice has all its calibration lines, as far as anybody can know before its last line.

        These are ``acs_lines`` around DC where the options say how many. Otherwise the fully sampled centre
        is taken to be complete with the first line beyond it: so it is in ascending, descending and centric
        order.

        Args:
            steps: phase encodes of the lines that have come, with the last one.
            step: the last one.
            centre: phase encode at DC.
            width: phase encodes of the matrix.
        """
        lines, least = self._request.prep.acs_lines, self._request.prep.kernel_width
        first = centre - width // 2 + (width - (lines or least) + 1) // 2
        if not all(number in steps for number in range(first, first + (lines or least))):
            return False
        return lines is not None or any(n not in steps for n in range(*sorted((centre, step))))

    def calibrate(self, loaded: Loaded) -> Calibration:
        """Coil maps of a slice of which no more than the calibration lines need be there.

        Raises:
            UsageError: they cannot be computed.
        """
        with self._turn:
            return ScanSource(loaded, self._request.prep).calibrate()

    def reconstruct(
        self, loaded: Loaded, number: int, maps: NDArray[np.complex64] | Calibration | None
    ) -> tuple[Picture, NDArray[np.complex64]]:
        """The image (x, y) of a slice in the data's units, and its coil maps (coils, x, y).

        Args:
            loaded: k-space of one slice.
            number: of the slice, on which what is random depends.
            maps: coil maps that the slice had before, or what ``calibrate`` computed from the first of its
                lines, which counts where the others have not changed the centre; None to compute them.

        Raises:
            UsageError: the k-space cannot be reconstructed.
        """
        own = CoilMaps.of_one(loaded.scan.path, maps) if isinstance(maps, np.ndarray) else maps
        with self._turn:
            source = ScanSource(loaded, self._request.prep, own)
            batch = replace(next(source.batches(1)).with_sigma(None), positions=[number])
            if source.shape not in self._priors:
                self._priors = {source.shape: prior_for(self._model, self._solver, source, self._request)}
            prior = self._priors[source.shape]
            solved, _, _ = solve_batch(
                self._solver, batch, prior, self._request, self._device, lambda *_: None
            )
        coil_maps = batch.data.operator.maps[0]  # type: ignore[attr-defined]
        image = solved[0, 0, 0] * batch.scale[0]
        if batch.phase is not None:
            image, coil_maps = image * batch.phase[0, 0], coil_maps * batch.phase[0].conj()
        if not torch.view_as_real(image).isfinite().all():
            raise UsageError(f"{loaded.scan.path}: the reconstruction is not finite; scan it again")
        return (image if self._complex else image.abs()).numpy(), coil_maps.numpy()


@dataclass
class Session:
    """A measurement: its header, the slices that are not complete yet, and the coil maps of the others.

    A slice is complete with its line that has the flag LAST_IN_SLICE (of the last average), all of them are
    with LAST_IN_MEASUREMENT or at the end of the stream. Coil maps are computed once for each slice: its
    further repetitions, contrasts, phases and sets have the same, as long as maps and lines fit into memory.
    They are computed as soon as its calibration lines have come (``Reconstructor.calibrated_by``), and again
    with its last line where these were not all.

    Attributes:
        reconstructor: what makes the images.
        memory: bytes of samples and coil maps that are kept at most.
    """

    reconstructor: Reconstructor
    memory: int
    _xml: dict[str, str] = field(default_factory=dict)
    _header: ismrmrd.Header | None = None
    _open: dict[Key, list[Line]] = field(default_factory=dict)
    _noise: list[Line] = field(default_factory=list)
    _steps: dict[Key, set[int]] = field(default_factory=dict)
    _calibrated: set[int] = field(default_factory=set)
    _early: dict[Key, Calibration] = field(default_factory=dict)
    _maps: dict[int, NDArray[np.complex64]] = field(default_factory=dict)
    _held: int = 0
    _count: int = 0
    _averages: int = 1

    @property
    def room(self) -> int:
        """Bytes of lines that can still be kept; coil maps make way for them."""
        return self.memory - self._held

    def start(self, xml: bytes) -> None:
        """Take the header.

        Raises:
            UsageError: it is damaged, the second one, or of data that are not two-dimensional and Cartesian.
        """
        if self._header is not None:
            raise UsageError("the client sent a second header; open a connection for each measurement")
        try:
            leaves, header = ismrmrd.leaves(xml), ismrmrd.parse(xml)
        except ismrmrd.HeaderError as error:
            raise UsageError(f"the header: {error}; write it again") from error
        if header.encoded_matrix is None or not 0 < min(header.encoded_matrix) <= MOST_SIDE:
            raise UsageError("the header has no matrix of the encoded space; send one")
        x, y, partitions = header.encoded_matrix
        if max(x, y) > MOST_SIDE or 8 * x * y > self.memory:
            raise UsageError(f"the header's matrix of {x} x {y} is too large; start with more --memory")
        if partitions > 1:
            raise UsageError(
                f"the header has {partitions} partitions: 3-D k-space is reconstructed as a whole; write it "
                "to a file and use mrigen reconstruct"
            )
        most = leaves.get("encoding/encodingLimits/average/maximum", "0")
        self._averages = int(most) + 1 if most.isdecimal() else 1
        self._xml, self._header = leaves, header

    def add(self, line: Line) -> list[Key]:
        """Keep an acquisition; the slices that are complete with it.

        Raises:
            UsageError: there was no header.
        """
        if self._header is None:
            raise UsageError("the client sent an acquisition before the header; send the header first")
        head = line.head
        complete: list[Key] = []
        if _flagged(head, NOISE):
            self._keep(self._noise, line)
        elif not any(_flagged(head, flag) for flag in LEFT_OUT) and not int(head["encoding_space_ref"]):
            key = tuple(int(head["idx"][name]) for name in KEY)
            self._keep(self._open.setdefault(key, []), line)
            image = not _flagged(head, CALIBRATION) or _flagged(head, CALIBRATION_AND_IMAGE)
            last = int(head["idx"]["average"]) + 1 >= self._averages
            if image and last and _flagged(head, LAST_IN_SLICE):
                complete = [key]
            elif last and key[0] not in self._calibrated and (image or self._mode in EMBEDDED):
                self._calibrate(key, head)
        return [*self._open] if _flagged(head, LAST_IN_MEASUREMENT) else complete

    def rest(self) -> list[Key]:
        """The slices that were not said to be complete, at the end of the stream."""
        return [*self._open]

    def image(self, key: Key) -> tuple[Any, Picture]:
        """Header and pixels (y, x) of a slice, whose lines are dropped.

        Raises:
            UsageError: the slice cannot be reconstructed.
        """
        lines, early = self._open.pop(key), self._early.pop(key, None)
        self._steps.pop(key, None)
        self._held -= sum(map(_size, lines))
        known = self._maps.get(key[0])
        try:
            loaded = self._loaded(key, lines)
            if known is not None and len(known) != loaded.scan.coils:
                known = None
            made, maps = self.reconstructor.reconstruct(loaded, key[0], early if known is None else known)
        except FAULTS as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"{_name(key)}: cannot be reconstructed ({reason:.200})") from error
        if known is None and maps.nbytes <= self.room - self._maps_bytes:
            self._maps[key[0]] = maps
        self._count += 1
        pixels: Picture = np.ascontiguousarray(made.T)
        return image_head(lines[len(lines) // 2].head, pixels, self._extent(pixels), self._count), pixels

    def _loaded(self, key: Key, lines: list[Line]) -> Loaded:
        """k-space of lines of a slice.

        Raises:
            UsageError: it is too large, or no image.
        """
        assert self._header is not None
        coils = max(len(line.samples) for line in lines)
        x, y, _ = self._header.encoded_matrix or (0, 0, 0)
        if 8 * coils * x * y > self.memory:
            raise UsageError(
                f"{_name(key)}: {coils} coils of {x} x {y} need more memory; start with more --memory"
            )
        noise = [line for line in self._noise if len(line.samples) == coils]
        kept = [(_single(line.head), line.samples) for line in (*noise, *lines)]
        return Measurement.of_lines(Path(_name(key)), kept, self._xml, self._header).load(Choice())

    def _calibrate(self, key: Key, head: Any) -> None:
        """Compute a slice's coil maps if its last line says that the calibration lines are there."""
        assert self._header is not None
        _, width, _ = self._header.encoded_matrix or (0, 0, 0)
        centre = width // 2 if self._header.centre is None else self._header.centre
        step, steps = int(head["idx"]["kspace_encode_step_1"]), self._steps.setdefault(key, set())
        steps.add(step)
        more = _flagged(head, CALIBRATION) or _flagged(head, CALIBRATION_AND_IMAGE)
        if more or not self.reconstructor.calibrated_by(steps, step, centre, width):
            return
        self._calibrated.add(key[0])
        with suppress(UsageError, *FAULTS):  # what is wrong is said when the slice is complete
            early = self.reconstructor.calibrate(self._loaded(key, self._open[key]))
            if early.nbytes <= self.room - self._maps_bytes:
                self._early[key] = early

    @property
    def _mode(self) -> str:
        return calibration_mode(self._xml)

    @property
    def _maps_bytes(self) -> int:
        kept = sum(maps.nbytes for maps in self._maps.values())
        return kept + sum(early.nbytes for early in self._early.values())

    def _keep(self, lines: list[Line], line: Line) -> None:
        lines.append(line)
        self._held += _size(line)
        while (self._maps or self._early) and self._maps_bytes > self.room:
            kept: dict[Any, Any] = self._maps or self._early
            kept.pop(next(iter(kept)))

    def _extent(self, pixels: Picture) -> tuple[float, float, float]:
        """Field of view of an image (y, x): the encoded one, as far as it was not cropped."""
        assert self._header is not None
        encoded, matrix = self._header.encoded_fov, self._header.encoded_matrix
        if encoded is None or matrix is None:
            return 0.0, 0.0, 0.0
        y, x = pixels.shape
        return encoded[0] * x / matrix[0], encoded[1] * y / matrix[1], encoded[2]


def images(session: Session, keys: list[Key]) -> Iterator[tuple[Any, Picture] | UsageError]:
    """Images of slices, or why there is none; one that fails leaves the others."""
    for key in keys:
        try:
            yield session.image(key)
        except UsageError as error:
            yield error


def _name(key: Key) -> str:
    """What messages call a slice."""
    return ", ".join(f"{n} {value}" for n, value in zip(KEY, key, strict=True) if value or n == "slice")


def _size(line: Line) -> int:
    """Bytes that a line occupies."""
    return line.samples.nbytes + LINE_BYTES


def _flagged(head: Any, number: int) -> bool:
    """Whether a line has a flag; ISMRMRD counts flags from 1."""
    return bool(int(head["flags"]) >> (number - 1) & 1)


def _single(head: Any) -> Any:
    """The header of a line of a slice as if there were no other slices."""
    one = head.copy()
    for name in KEY:
        one["idx"][name] = 0
    return one
