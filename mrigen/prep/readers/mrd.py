"""ISMRMRD (MRD) raw data in HDF5, as mridata.org, OCMR and the scanners' converters write them.

Inati et al., ISMRM Raw data format, Magn Reson Med 77 (2017). The acquisitions are read with h5py alone; the
header's XML is read as every stranger's XML is, by ``mrigen.prep.ismrmrd``.

Lines go to W // 2 − center + kspace_encode_step_1 and their samples to H // 2 − center_sample, as the
header's limits of the encoding say, so that partial Fourier and asymmetric echoes stand where they belong.
Averages are averaged; contrasts, phases, repetitions and sets are choices. Left out: noise scans, which
serve for whitening, phase correction, navigation, feedback, dummy and surface coil scans, lines of separate
calibration scans, and lines of further encoding spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrigen import hdf5
from mrigen.data.slice_geometry import SliceGeometry, along_lines
from mrigen.errors import UsageError
from mrigen.prep import ismrmrd
from mrigen.prep.readers import signatures
from mrigen.prep.readers.base import READERS, Choice, Loaded, LoadedReader
from mrigen.prep.readers.lines import Grid, Place, sampled
from mrigen.prep.readers.volumes import as_mask, as_slices

NOISE, CALIBRATION, CALIBRATION_AND_IMAGE, REVERSE = 19, 20, 21, 22
LEFT_OUT = {
    23: "navigation",
    24: "phase correction",
    26: "feedback",
    27: "dummy",
    28: "feedback",
    29: "surface coil",
    30: "phase stabilisation",
    31: "phase stabilisation",
}
EMBEDDED = {"embedded", "interleaved"}
"""Calibration modes whose calibration lines belong to the image."""
COUNTERS = ("contrast", "phase", "repetition", "set")
NEEDED = {"flags", "number_of_samples", "active_channels", "center_sample", "encoding_space_ref", "idx"}
AT_ONCE = 1024
Array = NDArray[Any]
Readouts = Callable[[NDArray[np.intp]], Iterator[tuple[int, NDArray[np.complex64]]]]


@READERS.register("mrd")
class MRD(LoadedReader):
    """ISMRMRD's acquisitions of Cartesian sequences."""

    title = "ISMRMRD raw data (MRD)"
    suffixes = (".mrd", ".h5")

    @classmethod
    def matches(cls, path: Path) -> bool:
        """A group with ``xml`` and ``data``."""
        return _group(path) is not None

    def load(self, path: Path, choice: Choice) -> Loaded:
        """k-space of the first encoding space."""
        try:
            with hdf5.reader(path) as file:
                return Measurement.open(path, file).load(choice)
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{path}: damaged ISMRMRD file ({reason}); convert or copy it again") from error


def calibration_mode(xml: Mapping[str, str]) -> str:
    """Where calibration lines come from, as a header's leaves say; embedded where they do not."""
    return xml.get("encoding/parallelImaging/calibrationMode", "embedded")


def _group(path: Path) -> str | None:
    """Name of the group that holds acquisitions."""
    for name in signatures.groups(path):
        with suppress(OSError, KeyError, RuntimeError, ValueError, TypeError), hdf5.reader(path) as file:
            if {"xml", "data"} <= set(file[name]):
                return name
    return None


@dataclass(frozen=True, eq=False)
class Measurement:
    """Acquisitions of an open file, or of a stream.

    Attributes:
        path: the file, for messages.
        head: headers of the acquisitions, structured as ISMRMRD's.
        xml: leaves of the XML header.
        header: its first encoding.
        readouts: numbers and samples (coils, samples) of the acquisitions with these numbers.
    """

    path: Path
    head: Array
    xml: dict[str, str]
    header: ismrmrd.Header
    readouts: Readouts

    @classmethod
    def of_lines(
        cls,
        path: Path,
        lines: Sequence[tuple[Array, NDArray[np.complex64]]],
        xml: dict[str, str],
        header: ismrmrd.Header,
    ) -> Measurement:
        """Acquisitions in memory: headers and samples (coils, samples)."""
        head = np.array([one for one, _ in lines], lines[0][0].dtype)
        return cls(path, head, xml, header, lambda numbers: ((int(n), lines[n][1]) for n in numbers))

    @classmethod
    def open(cls, path: Path, file: h5py.File) -> Measurement:
        """Headers of all acquisitions.

        Raises:
            UsageError: no acquisitions, or of another version.
        """
        name = _group(path)
        if name is None:
            raise UsageError(f"{path}: has no group with `xml` and `data`; give an ISMRMRD file")
        group = file[name]
        if not all(isinstance(group.get(n, getlink=True), h5py.HardLink) for n in ("xml", "data")):
            raise UsageError(f"{path}: its data are links; copy them into the file")
        try:
            text = bytes(np.asarray(group["xml"]).reshape(-1)[0])
            xml, header = ismrmrd.leaves(text), ismrmrd.parse(text)
        except ismrmrd.HeaderError as error:
            raise UsageError(f"{path}: its header: {error}; write it again") from error
        rows = group["data"]
        kinds = rows.dtype.fields or {}
        fields = set(kinds["head"][0].names or ()) if "head" in kinds else set()
        if not fields >= NEEDED or not rows.shape[0]:
            missing = ", ".join(sorted(NEEDED - fields)) or "any acquisition"
            raise UsageError(
                f"{path}: is an ISMRMRD file whose acquisitions lack {missing}; write it with the ismrmrd "
                "package, version 1 or later"
            )
        head = rows["head"]
        return cls(path, head, xml, header, partial(_readouts, rows, head))

    def flagged(self, number: int) -> NDArray[np.bool_]:
        """Which acquisitions have a flag; ISMRMRD counts flags from 1."""
        return np.asarray((self.head["flags"] >> np.uint64(number - 1)) & np.uint64(1), bool)

    def load(self, choice: Choice) -> Loaded:
        """Sort the lines into k-space."""
        head, notes = self.head, []
        self._require_cartesian()
        noise = self.flagged(NOISE)
        image = ~noise & (head["encoding_space_ref"] == 0)
        if (others := int((~noise & (head["encoding_space_ref"] != 0)).sum())) > 0:
            notes.append(f"{others} lines of further encoding spaces are left out")
        for flag, name in LEFT_OUT.items():
            if (count := int((image & self.flagged(flag)).sum())) > 0:
                notes.append(f"{count} {name} lines are left out")
                image &= ~self.flagged(flag)
        separate = image & self.flagged(CALIBRATION) & ~self.flagged(CALIBRATION_AND_IMAGE)
        mode = calibration_mode(self.xml)
        if separate.any() and mode not in EMBEDDED:
            notes.append(f"{int(separate.sum())} lines of a {mode} calibration scan are left out")
            image &= ~separate
        if not image.any():
            raise UsageError(f"{self.path}: holds no lines of an image; give another file")
        idx = head["idx"]
        counts = {name: int(idx[name][image].max()) + 1 for name in COUNTERS}
        chosen = choice.of(self.path, counts)
        averages = int(idx["average"][image].max()) + 1
        if averages > 1:
            notes.append(f"{averages} averages were averaged")
        if (image & self.flagged(REVERSE)).any():
            notes.append("lines of opposite readout (EPI) are reversed, their phase is not corrected")
        return self._grid(image, counts, chosen, notes)

    def _require_cartesian(self) -> None:
        trajectory = self.xml.get("encoding/trajectory", "cartesian").lower()
        if trajectory not in {"cartesian", "epi", "other"}:
            raise UsageError(
                f"{self.path}: is {trajectory}, and only Cartesian k-space is read; use "
                "mrigen.operators.non_cartesian in Python"
            )

    def _grid(
        self, image: NDArray[np.bool_], counts: dict[str, int], chosen: dict[str, list[int]], notes: list[str]
    ) -> Loaded:
        idx, head = self.head["idx"], self.head
        height, width, partitions = self._matrix(image)
        slices = int(idx["slice"][image].max()) + 1
        coils = int(head["active_channels"][image].max())
        centre1 = self.header.centre if self.header.centre is not None else width // 2
        centre2 = self._whole("kspace_encoding_step_2/center", partitions // 2)
        for name, numbers in chosen.items():
            image &= np.isin(idx[name], numbers)
        kept = {name: {n: i for i, n in enumerate(numbers)} for name, numbers in chosen.items()}
        total = int(np.prod([len(n) for n in chosen.values()]))
        grid = Grid(str(self.path), (total * slices, coils, partitions, height, width))
        reverse, outside = self.flagged(REVERSE), 0
        for number, samples in self.readouts(np.flatnonzero(image)):
            one = head[number]
            where = one["idx"]
            volume = 0
            for name in COUNTERS:
                volume = volume * len(chosen[name]) + kept[name][int(where[name])]
            data, centre = samples, int(one["center_sample"])
            if reverse[number]:
                data, centre = data[:, ::-1], data.shape[1] - 1 - centre + (data.shape[1] % 2 == 0)
            if "discard_pre" in (head.dtype.names or ()):
                pre, post = int(one["discard_pre"]), int(one["discard_post"])
                data, centre = data[:, pre : data.shape[1] - post], centre - pre
            place = Place(
                volume * slices + int(where["slice"]),
                int(where["kspace_encode_step_2"]) - centre2 + partitions // 2,
                int(where["kspace_encode_step_1"]) - centre1 + width // 2,
                height // 2 - centre,
            )
            outside += not grid.add(np.ascontiguousarray(data), place)
        if outside:
            notes.append(f"{outside} lines lie outside of the encoded matrix and are left out")
        kspace, measured = grid.finish()
        geometry = self._geometry(image, slices, partitions, (height, width))
        if geometry is not None and total > 1:
            geometry = geometry.model_copy(update={"centres": geometry.centres * total})
        several = {name: count for name, count in counts.items() if count > 1}
        common: dict[str, Any] = {"noise": self._noise(coils), "choices": several}
        if partitions > 1:
            return self._volume(kspace, measured, geometry, notes, common)
        more = sampled(kspace[:, :, 0], measured[:, 0], self.header, notes)
        return Loaded.of(self.path, kspace[:, :, 0], header=self.header, geometry=geometry, **common, **more)

    def _volume(
        self,
        kspace: NDArray[np.complex64],
        measured: NDArray[np.bool_],
        geometry: SliceGeometry | None,
        notes: list[str],
        common: dict[str, Any],
    ) -> Loaded:
        """Slices of a volume that was encoded along all axes."""
        if len(kspace) > 1:
            raise UsageError(
                f"{self.path}: holds {len(kspace)} volumes of 3-D k-space; take one with --choose"
            )
        volume = as_slices(kspace[0], measured[0])
        notes = [*notes, f"a volume: slices along the {volume.axis}"]
        header = self.header
        if volume.axis == "partition":
            more = sampled(volume.kspace, volume.measured[None], header, notes)
            return Loaded.of(self.path, volume.kspace, header=header, geometry=geometry, **common, **more)
        header = replace(header, encoded_matrix=None, recon_matrix=None, encoded_fov=None, recon_fov=None,
                         centre=None, maximum=None)  # fmt: skip
        if geometry is not None:
            geometry = self._along_readout(kspace.shape[3], kspace.shape[2:])
        mask = as_mask(volume.measured)
        return Loaded.of(
            self.path,
            volume.kspace,
            header=header,
            geometry=geometry,
            mask=mask,
            complete=mask is None,
            notes=tuple(notes),
            **common,
        )

    def _matrix(self, image: NDArray[np.bool_]) -> tuple[int, int, int]:
        """H, W and partitions of the encoded space, by the header or else by the lines."""
        if self.header.encoded_matrix is not None and min(self.header.encoded_matrix) > 0:
            return self.header.encoded_matrix
        idx = self.head["idx"]
        sizes = [int(idx[f"kspace_encode_step_{i}"][image].max()) + 1 for i in (1, 2)]
        return int(self.head["number_of_samples"][image].max()), sizes[0], sizes[1]

    def _whole(self, name: str, default: int) -> int:
        text = self.xml.get(f"encoding/encodingLimits/{name}", "")
        return int(text) if text.isdecimal() else default

    def _noise(self, coils: int) -> NDArray[np.complex64] | None:
        """Noise samples (coils, n), scaled to the bandwidth of the image's lines.

        The variance of white noise is in proportion to the bandwidth, which is one over the dwell time,
        times the part of it that the receiver's filter passes in the noise scan.
        """
        numbers = np.flatnonzero(self.flagged(NOISE))
        parts = [samples for _, samples in self.readouts(numbers) if len(samples) == coils]
        if not parts:
            return None
        dwell = self.head["sample_time_us"]
        own, other = float(dwell[numbers].mean()), float(dwell[~self.flagged(NOISE)].mean())
        ratio = own / other if own > 0 and other > 0 else 1.0
        passed = self.xml.get("acquisitionSystemInformation/relativeReceiverNoiseBandwidth", "")
        with suppress(ValueError):
            ratio /= float(passed) if 0.1 < float(passed) <= 1 else 1.0
        return np.asarray(np.concatenate(parts, 1) * np.float32(ratio**0.5), np.complex64)

    def _geometry(
        self, image: NDArray[np.bool_], slices: int, partitions: int, matrix: tuple[int, int]
    ) -> SliceGeometry | None:
        """Positions and directions of the first line of each slice; None where the file has none."""
        fov, idx, names = self.header.encoded_fov, self.head["idx"], self.head.dtype.names or ()
        if fov is None or not {"position", "read_dir", "phase_dir", "slice_dir"} <= set(names):
            return None
        first = [np.flatnonzero(image & (idx["slice"] == s))[:1] for s in range(slices)]
        if not all(len(f) for f in first):
            return None
        heads = self.head[[int(f[0]) for f in first]]
        rows, columns, across = self._directions(heads[0])
        normal = across if partitions > 1 else self._sign * across
        if min(np.linalg.norm(rows), np.linalg.norm(columns)) < 0.5:
            return None
        centres, thickness = np.asarray(heads["position"], float), fov[2]
        if partitions > 1:
            thickness = fov[2] / partitions
            normal = normal if np.linalg.norm(normal) > 0 else self._sign * np.cross(rows, columns)
            centres = centres[:1] + (np.arange(partitions) - partitions // 2)[:, None] * thickness * normal
        spacing = (fov[0] / matrix[0], fov[1] / matrix[1])
        return along_lines(centres, rows, columns, normal, spacing, thickness)

    @property
    def _sign(self) -> int:
        """-1 for k-space of Siemens, whose images run against the directions of the lines."""
        vendor = self.xml.get("acquisitionSystemInformation/systemVendor", "")
        return -1 if vendor.strip().lower().startswith("siemens") else 1

    def _directions(self, head: Any) -> list[NDArray[np.float64]]:
        """Where images run along the readout, the phase encode and the partitions."""
        return [self._sign * np.asarray(head[n], float) for n in ("read_dir", "phase_dir", "slice_dir")]

    def _along_readout(self, count: int, shape: tuple[int, ...]) -> SliceGeometry | None:
        """Geometry of slices (phase encode, partition) along the readout."""
        fov = self.header.encoded_fov
        assert fov is not None
        partitions, _, lines = shape
        one = self.head[int(np.flatnonzero(~self.flagged(NOISE))[0])]
        read, phase, across = self._directions(one)
        step = fov[0] / count
        centres = np.asarray(one["position"], float) + (np.arange(count) - count // 2)[:, None] * step * read
        return along_lines(centres, phase, across, read, (fov[1] / lines, fov[2] / partitions), step)


def _readouts(
    rows: h5py.Dataset, head: Array, numbers: NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.complex64]]]:
    """Number and samples (coils, samples) of a file's acquisitions, many read at a time."""
    fields = rows.fields("data")
    for first in range(0, len(numbers), AT_ONCE):
        part = numbers[first : first + AT_ONCE]
        for number, values in zip(part, fields[part.tolist()], strict=True):
            samples = np.ascontiguousarray(values, np.float32).view(np.complex64)
            yield int(number), samples.reshape(int(head["active_channels"][number]), -1)
