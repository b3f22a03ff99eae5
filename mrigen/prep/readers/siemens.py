"""Siemens raw data (``.dat``, "twix") of VB, VD, VE and XA, through twixtools.

The last measurement of a file is the image; earlier ones are adjustments, of which noise scans are used.
Lines of phase correction, feedback and navigators are left out, and so are reference lines of a separate
calibration scan; integrated reference lines belong to the image. Averages are averaged; echoes, phases,
repetitions and sets are choices.

Positions and directions come from each line's header as the ISMRMRD converter takes them: the quaternion's
rotation matrix has the phase encode, the readout and the normal of the slice as its columns, in the patient's
coordinates (sagittal to the left, coronal to the back, transversal to the head). Siemens' k-space is that of
a Fourier transform with the other sign than mrigen's: images run against these directions along every
encoded axis, as in mrpro (pull request 833), twixtools (``geometry.prs2sct_mdb``) and Siemens' own Python
server, which flips readout and phase encode.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigen.data.slice_geometry import SliceGeometry, along_lines
from mrigen.errors import UsageError
from mrigen.prep import ismrmrd
from mrigen.prep.readers import signatures
from mrigen.prep.readers.base import READERS, Choice, Loaded, LoadedReader
from mrigen.prep.readers.lines import Grid, Place, sampled
from mrigen.prep.readers.volumes import as_mask, as_slices

LEFT_OUT = {
    "PHASCOR": "phase correction",
    "RTFEEDBACK": "feedback",
    "HPFEEDBACK": "feedback",
    "PHASESTABSCAN": "phase stabilisation",
    "REFPHASESTABSCAN": "phase stabilisation",
    "noname60": "dummy",
}
COUNTERS = {"echo": "cEco", "phase": "cPhs", "repetition": "cRep", "set": "cSet"}
INTEGRATED, THREE_D = 2, 4
LONGEST_NOISE_US = 76800.0


@READERS.register("siemens")
class Siemens(LoadedReader):
    """Cartesian measurements of Siemens scanners."""

    title = "Siemens raw data (twix)"
    suffixes = (".dat",)

    @classmethod
    def matches(cls, path: Path) -> bool:
        """The lengths with which these files begin."""
        return signatures.kind(path) == "Siemens raw data"

    def load(self, path: Path, choice: Choice) -> Loaded:
        """k-space of the last measurement."""
        try:
            import twixtools
        except ImportError as error:
            raise UsageError(
                f"{path}: is Siemens raw data, which twixtools reads: pip install 'mrigen[siemens]'"
            ) from error
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                scans = twixtools.read_twix(
                    str(path),
                    verbose=False,
                    parse_pmu=False,
                    parse_geometry=False,
                    keep_syncdata=False,
                    keep_acqend=True,
                )
            return _load(path, scans, choice)
        except UsageError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"{path}: damaged Siemens raw data ({reason}); copy the file again") from error


def _load(path: Path, scans: list[dict[str, Any]], choice: Choice) -> Loaded:
    """k-space of the last measurement."""
    if not scans or not scans[-1]["mdb"]:
        raise UsageError(f"{path}: holds no lines; export the measurement again")
    if not scans[-1]["mdb"][-1].is_flag_set("ACQEND"):
        raise UsageError(f"{path}: ends before its measurement does; copy or export the file again")
    protocol = scans[-1]["hdr"].get("MeasYaps", {})
    notes: list[str] = []
    lines = _image_lines(scans[-1]["mdb"], protocol, notes)
    if not lines:
        raise UsageError(f"{path}: holds no lines of an image; give another measurement")
    counts = {name: 1 + max(getattr(m, field) for m in lines) for name, field in COUNTERS.items()}
    chosen = choice.of(path, counts)
    lines = [m for m in lines if all(getattr(m, f) in chosen[n] for n, f in COUNTERS.items())]
    if not lines:
        raise UsageError(f"{path}: no lines were measured with this --choose")
    if (averages := 1 + max(m.cAve for m in lines)) > 1:
        notes.append(f"{averages} averages were averaged")
    if any(m.is_flag_set("REFLECT") for m in lines):
        notes.append("lines of opposite readout (EPI) are reversed, their phase is not corrected")
    if scans[-1]["hdr"].get("Meas", {}).get("alRegridMode", [1])[:1] not in ([1], [0]):
        notes.append("samples on the gradient's ramps are not regridded")
    kspace, measured = _sort(path, protocol, lines, chosen, notes)
    _, coils, partitions, height, width = kspace.shape
    header = _header(protocol, (height, width, partitions), lines)
    several = {name: count for name, count in counts.items() if count > 1}
    common: dict[str, Any] = {"header": header, "noise": _noise(scans, coils), "choices": several}
    if partitions > 1:
        return _volume(path, kspace, measured, lines, notes, common)
    slices = 1 + max(m.cSlc for m in lines)
    geometry = _geometry(header, lines, slices, partitions, (height, width), readout=False)
    if geometry is not None:
        geometry = geometry.model_copy(update={"centres": geometry.centres * (len(kspace) // slices)})
    more = sampled(kspace[:, :, 0], measured[:, 0], header, notes)
    return Loaded.of(path, kspace[:, :, 0], geometry=geometry, **common, **more)


def _sort(
    path: Path, protocol: dict[str, Any], lines: list[Any], chosen: dict[str, list[int]], notes: list[str]
) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
    """k-space (slices, coils, partitions, H, W) and what was measured (slices, partitions, H, W)."""
    space = protocol.get("sKSpace", {})
    three_d = int(space.get("ucDimension", 2)) == THREE_D
    height, coils = (max(getattr(m.mdh, n) for m in lines) for n in ("SamplesInScan", "UsedChannels"))
    width = max(int(space.get("lPhaseEncodingLines", 1)), 1 + max(m.cLin for m in lines))
    partitions = max(int(space.get("lPartitions", 1)), 1 + max(m.cPar for m in lines)) if three_d else 1
    slices = 1 + max(m.cSlc for m in lines)
    total = int(np.prod([len(numbers) for numbers in chosen.values()]))
    grid = Grid(str(path), (total * slices, coils, partitions, height, width))
    outside = 0
    for one in lines:
        volume = 0
        for name, field in COUNTERS.items():
            volume = volume * len(chosen[name]) + chosen[name].index(getattr(one, field))
        samples, centre = np.asarray(one.data), int(one.mdh.CenterCol)
        if one.is_flag_set("REFLECT"):
            samples = samples[:, ::-1]
            centre = samples.shape[1] - centre - samples.shape[1] % 2
        place = Place(
            volume * slices + one.cSlc,
            one.cPar - int(one.mdh.CenterPar) + partitions // 2 if three_d else 0,
            one.cLin - int(one.mdh.CenterLin) + width // 2,
            height // 2 - centre,
        )
        outside += not grid.add(np.ascontiguousarray(samples), place)
    if outside:
        notes.append(f"{outside} lines lie outside of the matrix and are left out")
    return grid.finish()


def _volume(
    path: Path,
    kspace: NDArray[np.complex64],
    measured: NDArray[np.bool_],
    lines: list[Any],
    notes: list[str],
    common: dict[str, Any],
) -> Loaded:
    """Slices of a measurement that was encoded along all axes."""
    _, _, partitions, height, width = kspace.shape
    if len(kspace) > 1:
        raise UsageError(f"{path}: holds {len(kspace)} volumes of 3-D k-space; take one with --choose")
    volume = as_slices(kspace[0], measured[0])
    notes.append(f"a volume: slices along the {volume.axis}")
    header, along_readout = common["header"], volume.axis == "readout"
    count = height if along_readout else partitions
    geometry = _geometry(header, lines, count, partitions, (height, width), readout=along_readout)
    if not along_readout:
        return Loaded.of(
            path,
            volume.kspace,
            geometry=geometry,
            **common,
            **sampled(volume.kspace, volume.measured[None], header, notes),
        )
    mask = as_mask(volume.measured)
    common = {**common, "header": ismrmrd.Header(), "geometry": geometry}
    return Loaded.of(path, volume.kspace, mask=mask, complete=mask is None, notes=tuple(notes), **common)


def _image_lines(blocks: list[Any], protocol: dict[str, Any], notes: list[str]) -> list[Any]:
    """The lines that make the image; what is left out is noted."""
    left_out: dict[str, int] = {}
    integrated = int(protocol.get("sPat", {}).get("ucRefScanMode", INTEGRATED)) == INTEGRATED
    lines = []
    for one in blocks:
        if one.is_flag_set("ACQEND") or one.is_flag_set("SYNCDATA") or one.is_flag_set("NOISEADJSCAN"):
            continue
        why = next((name for flag, name in LEFT_OUT.items() if one.is_flag_set(flag)), None)
        if why is None and one.is_flag_set("PATREFSCAN") and not one.is_flag_set("PATREFANDIMASCAN"):
            why = None if integrated else "separate calibration"
        if why is None:
            lines.append(one)
        else:
            left_out[why] = left_out.get(why, 0) + 1
    notes += [f"{count} {name} lines are left out" for name, count in left_out.items()]
    return lines


def _number(values: Any, scale: float) -> float | None:
    first = values[0] if isinstance(values, list) and values else values
    return first / scale if isinstance(first, int | float) and first else None


def _header(protocol: dict[str, Any], matrix: tuple[int, int, int], lines: list[Any]) -> ismrmrd.Header:
    """The protocol as an ISMRMRD header would have it."""
    space, first = protocol.get("sKSpace", {}), _first_slice(protocol)
    height, width, partitions = matrix
    base = int(space.get("lBaseResolution", height)) or height
    read, phase = float(first.get("dReadoutFOV", 0)), float(first.get("dPhaseFOV", 0))
    thick = float(first.get("dThickness", 0))
    phase *= 1 + float(space.get("dPhaseOversamplingForDialog", 0))
    slab = thick * (1 + float(space.get("dSliceOversamplingForDialog", 0)))
    known = min(read, phase, thick) > 0
    return ismrmrd.Header(
        encoded_matrix=(height, width, partitions),
        recon_matrix=(base, width, partitions),
        encoded_fov=(read * height / base, phase, slab if partitions > 1 else thick) if known else None,
        recon_fov=(read, phase, thick) if known else None,
        centre=int(lines[0].mdh.CenterLin),
        maximum=max(m.cLin for m in lines),
        field_strength=_number(protocol.get("sProtConsistencyInfo", {}).get("flNominalB0"), 1.0),
        tr_ms=_number(protocol.get("alTR"), 1000.0),
        te_ms=_number(protocol.get("alTE"), 1000.0),
        ti_ms=_number(protocol.get("alTI"), 1000.0),
        flip_angle_deg=_number(protocol.get("adFlipAngleDegree"), 1.0),
    )


def _first_slice(protocol: dict[str, Any]) -> dict[str, Any]:
    slices = protocol.get("sSliceArray", {}).get("asSlice", [{}])
    return dict(slices[0]) if slices else {}


def _geometry(
    header: ismrmrd.Header,
    lines: list[Any],
    slices: int,
    partitions: int,
    matrix: tuple[int, int],
    *,
    readout: bool,
) -> SliceGeometry | None:
    """Of slices (readout, phase encode), or of slices along the readout."""
    fov = header.encoded_fov
    if fov is None:
        return None
    first: dict[int, Any] = {}
    for one in lines:
        first.setdefault(one.cSlc, one)
    if not readout and partitions == 1 and len(first) < slices:
        return None
    first_line = first[min(first)]
    phase, read, normal = _rotation(np.asarray(list(first_line.mdh.SliceData.Quaternion), float)).T
    phase, read, across = -phase, -read, -normal
    spacing = (fov[0] / matrix[0], fov[1] / matrix[1])
    centres = np.array([_position(first[s]) for s in sorted(first)])
    if readout:
        places = centres[:1] + (np.arange(slices) - slices // 2)[:, None] * spacing[0] * read
        return along_lines(places, phase, across, read, (spacing[1], fov[2] / partitions), spacing[0])
    if partitions > 1:
        step = fov[2] / partitions
        centres = centres[:1] + (np.arange(partitions) - partitions // 2)[:, None] * step * across
        return along_lines(centres, read, phase, across, spacing, step)
    return along_lines(centres, read, phase, normal, spacing, fov[2])


def _position(line: Any) -> list[float]:
    place = line.mdh.SliceData.SlicePos
    return [float(place.Sag), float(place.Cor), float(place.Tra)]


def _rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix of a unit quaternion, the scalar first."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_quat(quaternion, scalar_first=True).as_matrix())


def _noise(scans: list[dict[str, Any]], coils: int) -> NDArray[np.complex64] | None:
    """Samples of the noise scan (coils, n), scaled to the bandwidth of the image."""
    parts, dwell = [], 0.0
    for scan in scans:
        for one in scan["mdb"]:
            if one.is_flag_set("NOISEADJSCAN"):
                samples = np.asarray(one.data)
                if len(samples) == coils:
                    parts.append(samples)
                    dwell = np.floor(LONGEST_NOISE_US / samples.shape[1]) / 10
    times = scans[-1]["hdr"].get("MeasYaps", {}).get("sRXSPEC", {}).get("alDwellTime", [0])
    own = float(times[0]) / 1000 if times else 0.0
    if not parts:
        return None
    ratio = dwell / own if own > 0 and dwell > 0 else 1.0
    return np.asarray(np.concatenate(parts, 1) * np.float32(ratio**0.5), np.complex64)
