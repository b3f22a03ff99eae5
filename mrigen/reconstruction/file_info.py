"""What files are, with a picture: raw k-space, images, stores, checkpoints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigen import fourier
from mrigen.checkpoints.description import CHECKPOINTS
from mrigen.data.archives import is_archive, open_files
from mrigen.data.images import ARRAYS, open_images
from mrigen.data.manifest import NAME as MANIFEST
from mrigen.data.pixels import ImageError, Picture, is_image
from mrigen.errors import UsageError
from mrigen.operators.masks.base import sampled_centre
from mrigen.prep.images import volumes as image_volumes
from mrigen.prep.images.sources import open_set
from mrigen.prep.kspace.noise_level import NoiseLevel, noise_level
from mrigen.prep.kspace.sources import raw_files
from mrigen.prep.readers import READERS, find_reader, inspect, open_slices, signatures
from mrigen.prep.scan import Mask, Scan
from mrigen.reconstruction.info import Info, checked, of_run


def info(path: Path, reader: str = "", choose: str = "") -> Info:
    """What a file or folder is.

    Args:
        path: raw k-space, an image, a folder of images, a store, a model folder, a run folder or a
            checkpoint.
        reader: format of raw k-space; empty to see it by the content.
        choose: repetition, contrast and the like of raw k-space; the first of each by default.

    Raises:
        UsageError: nothing that mrigen knows, said with what it is.
    """
    if not path.exists() and path.with_name(f"{path.name}.cfl").is_file():
        path = path.with_name(f"{path.name}.cfl")
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; give one")
    if path.is_dir():
        return of_run(path) or _folder(path)
    if not reader and (images := _set(path)) is not None:
        return images
    if reader or (is_raw := find_reader(path)):
        return _scan(path, reader or str(is_raw), choose)
    if path.suffix.lower() in CHECKPOINTS or "pickle" in signatures.kind(path):
        return _checkpoint(path)
    if image_volumes.looks_like(path):
        return _image_volume(path)
    if is_image(path.name):
        return _picture(path)
    raise UsageError(f"{path}: is {signatures.describe(path)}; mrigen has no use for it")


def _folder(path: Path) -> Info:
    if (path / MANIFEST).is_file():
        return _store(path)
    if image_volumes.looks_like(path):
        return _image_volume(path)
    raw = raw_files(path)
    if raw:
        names = ", ".join(p.name for p in raw[:3])
        raise UsageError(f"{path}: holds {len(raw)} files of raw k-space; give one of them ({names})")
    if open_files(path, is_image).places:
        return _pictures(path)
    return checked(path, {"file": path.name, "what": "run folder"})


def _scan(path: Path, reader: str, choose: str) -> Info:
    scan = inspect(path, reader, choose, first=True)
    with open_slices(scan, reader, choose, first=True) as read:
        level = noise_level(scan, read, list(range(scan.slices)))
        kspace = read([scan.slices // 2])
    image = fourier.ifft(kspace).abs().square().sum(1).sqrt()[0]
    height = round(scan.height / scan.header.readout_oversampling())
    top = scan.height // 2 - height // 2
    facts: dict[str, Any] = {
        "file": path.name,
        "what": "raw k-space",
        "format": READERS[reader].title,
        "slices": scan.slices,
        "coils": scan.coils,
        "matrix": [scan.height, scan.width],
        "readout_oversampling": round(scan.header.readout_oversampling(), 4),
    }
    if scan.choices:
        facts["choices"] = scan.choices
    if scan.acquisition:
        facts["contrast"] = scan.acquisition
    facts |= sampling_facts(scan)
    facts |= _noise_facts(level, float(image.max()), image)
    facts |= _place_facts(scan)
    names = (
        "encoded_matrix",
        "recon_matrix",
        "encoded_fov",
        "recon_fov",
        "field_strength",
        "tr_ms",
        "te_ms",
        "ti_ms",
        "flip_angle_deg",
    )
    said = {name: getattr(scan.header, name) for name in names}
    facts |= {n: list(v) if isinstance(v, tuple) else v for n, v in said.items() if v is not None}
    notes = [*scan.notes, *([level.note] if level is not None and level.note else [])]
    if notes:
        facts["notes"] = notes
    return Info(facts, image[top : top + height].numpy())


def sampling_facts(scan: Scan) -> dict[str, Any]:
    """Pattern, acceleration and ACS of a scan.

    Acceleration is the number of points between the zero-padded edges over those that were measured.
    """
    left, right = scan.header.acquired_lines(scan.width) or (0, scan.width)
    if scan.mask is None:
        lines = right - left
        partial = f", {lines} of {scan.width} lines, the others are zero-padded" if lines < scan.width else ""
        return {"sampling": f"fully sampled{partial}", "acceleration": 1.0}
    mask: Mask = np.asarray(scan.mask if scan.mask.ndim < 3 else scan.mask.any(0))
    inside = mask[..., left:right]
    acceleration = round(inside.size / max(int(inside.sum()), 1), 3)
    if mask.ndim == 1:
        return {
            "sampling": _lines(np.flatnonzero(mask)),
            "acceleration": acceleration,
            "acs_lines": _centre_run(mask),
            "lines": int(mask.sum()),
        }
    columns, rows = np.asarray(mask.any(0)), np.asarray(mask.any(1))
    if (mask == (rows[:, None] & columns[None])).all():
        pattern = (
            f"{int(rows.sum())} of {len(rows)} readout samples (partial echo), {int(columns.sum())} lines"
        )
    else:
        pattern = "points in two directions"
    return {
        "sampling": pattern,
        "acceleration": acceleration,
        "acs": [sampled_centre(torch.from_numpy(mask))] * 2,
    }


def _lines(lines: NDArray[np.intp]) -> str:
    """Regular lines have one gap between most neighbours outside of the ACS."""
    gaps = np.diff(lines)
    outside = gaps[gaps > 1]
    if len(outside) == 0:
        return "neighbouring lines"
    most = int(np.bincount(outside).argmax())
    # the ACS joins the grid at any phase, so that two gaps beside it may be shorter
    return (
        f"lines, every {most}."
        if (outside == most).sum() >= len(outside) - 2
        else "lines at irregular distances"
    )


def _centre_run(mask: Mask) -> int:
    """Number of neighbouring measured lines around DC."""
    middle = len(mask) // 2
    if not mask[middle]:
        return 0
    empty = np.flatnonzero(~mask)
    below, above = empty[empty < middle], empty[empty > middle]
    return int((above[0] if len(above) else len(mask)) - (below[-1] + 1 if len(below) else 0))


def _noise_facts(level: NoiseLevel | None, peak: float, image: torch.Tensor) -> dict[str, Any]:
    """σ per coil, and SNR: mean of the brightest tenth of the root sum of squares over the mean σ."""
    if level is None:
        return {"noise": "unknown: no noise scan, and no air that shows it"}
    if peak <= 0:
        return {}
    bright = image[image >= image.flatten().kthvalue(int(0.9 * image.numel())).values].mean()
    return {
        "noise": f"from the {level.source}",
        "noise_sigma": float(f"{level.sigma:.4g}"),
        "noise_sigma_per_coil": [float(f"{v:.4g}") for v in level.levels.tolist()],
        "snr": float(f"{float(bright) / level.sigma:.4g}"),
    }


def _place_facts(scan: Scan) -> dict[str, Any]:
    from mrigen.reconstruction.sources import voxel_of

    if scan.geometry is None:
        voxel = voxel_of(dict(scan.header.whitelist()))
        size = {} if voxel is None else {"voxel_mm": [round(v, 4) for v in voxel]}
        return {"orientation": "unknown: the file does not say where the patient lay", **size}
    geometry = scan.geometry
    step = geometry.step
    along = geometry.thickness if step is None else float(np.linalg.norm(step))
    facts: dict[str, Any] = {
        "orientation": f"{geometry.plane}; columns, rows, slices run to {', '.join(geometry.axis_codes())}",
        "voxel_mm": [round(v, 4) for v in (*geometry.spacing, along or 0.0)],
    }
    if geometry.thickness is not None:
        facts["slice_thickness_mm"] = round(geometry.thickness, 4)
    if geometry.gap is not None:
        facts["slice_gap_mm"] = round(geometry.gap, 4)
    affine = geometry.affine(scan.height, scan.width)
    if affine is None:
        facts["notes_geometry"] = "slices are not evenly spaced: NIfTI cannot say where they lie"
    else:
        facts["affine_ras"] = affine.round(4).tolist()
    return facts


def _store(path: Path) -> Info:
    """Facts and the middle image of a store or reference; one that is damaged is not opened."""
    from mrigen.data.image_manifest import ImageManifest
    from mrigen.data.manifest import data_kind
    from mrigen.data.mri_manifest import MRIManifest
    from mrigen.data.stores import open_store
    from mrigen.metrics.reference import open_reference

    look = checked(path, {"file": path.name, "what": "store"})
    if look.faults:
        return look
    facts = look.facts
    sound = {"checksums": facts.pop("checksums")}
    manifest_of = ImageManifest if data_kind(path) == "images" else MRIManifest
    if manifest_of.load(path).kind == "reference":
        images = open_reference(path)
        facts |= {"kind": "reference", "images": len(images), "image_shape": list(images.image_shape)}
        facts["splits"] = sorted(images.parts)
        middle = images.images([len(images) // 2])[0]
        shown = middle.abs()[0] if middle.is_complex() else middle.mean(0) + 1
        return Info(facts | sound, shown.numpy())
    store = open_store(path, None)
    manifest = store.manifest
    facts |= {"kind": manifest.kind, "created_by": manifest.created_by, "images": len(store)}
    facts["image_shape"] = list(store.image_shape)
    picture = None
    if isinstance(manifest, MRIManifest):
        splits: dict[str, int] = {}
        for volume in manifest.volumes:
            splits[volume.split] = splits.get(volume.split, 0) + len(volume.slices)
        facts |= {"volumes": len(manifest.volumes), "splits": splits, "mask": manifest.mask}
        facts |= {"coils": manifest.volumes[0].shape[0], "acs_lines": manifest.volumes[0].acs_lines}
        rates = [s.acceleration for v in manifest.volumes for s in v.slices]
        facts["acceleration"] = round(sum(rates) / len(rates), 3)
    data = store.measurements([len(store) // 2])
    picture = data.operator.as_image(data.y)[0].abs().square().sum(0).sqrt().numpy()
    return Info(facts | sound, picture)


def _checkpoint(path: Path) -> Info:
    """A released checkpoint, of which nothing is executed."""
    import tempfile

    from mrigen.checkpoints.importer import import_checkpoint
    from mrigen.checkpoints.summary import summary

    with tempfile.TemporaryDirectory() as folder:
        imported = import_checkpoint(path, Path(folder) / "model", None)
        rows = dict(summary(imported, Path(folder)))
    rows.pop("written to")
    return Info({"file": path.name, "what": "released checkpoint", **rows})


def _pictures(path: Path) -> Info:
    """A folder or archive of image files, with its first picture."""
    images = open_set(str(path.absolute()))
    where = "folder" if path.is_dir() else "archive"
    try:
        one = _shown(images.picture(0))
    except ImageError as error:
        raise UsageError(f"{path}/{images.items[0].name}: {error}; leave it out") from error
    facts = {"file": path.name, "what": f"{where} of {len(images)} pictures"} | one.facts
    parts = Counter(item.part for item in images.items if item.part is not None)
    facts |= {"splits": dict(parts)} if parts else {}
    folders = {str(PurePosixPath(item.name).parent) for item in images.items}
    facts |= {"folders": len(folders)} if len(folders) > 1 else {}
    facts |= {"other_files": images.ignored} if images.ignored else {}
    return Info(facts, one.picture)


def _set(path: Path) -> Info | None:
    """Images of an archive or an array; None where there are none, or where they are k-space."""
    if is_archive(path):
        return _pictures(path)
    named = "images" in signatures.layout(path) and "kspace" not in signatures.layout(path)
    if not named and path.suffix.lower() not in ARRAYS:
        return None
    try:
        images = open_images(path)
    except UsageError:
        return None
    if images.complex_valued and not named:
        return None
    middle = images.take(len(images) // 2, len(images) // 2 + 1)[0]
    channels, *matrix = images.shape
    what = "complex images" if images.complex_valued else "images in [-1, 1]"
    facts = {"file": path.name, "what": what, "images": len(images), "matrix": matrix, "channels": channels}
    return Info(facts, middle.abs().numpy()[0] if images.complex_valued else middle.mean(0).numpy() + 1)


def _picture(path: Path) -> Info:
    from mrigen.reconstruction.photographs import read_picture

    shown = _shown(read_picture(path))
    return Info({"file": path.name, "what": "picture"} | shown.facts, shown.picture)


def _shown(picture: Picture) -> Info:
    values = np.asarray(picture.image, np.float32)
    facts = {
        "matrix": [picture.image.height, picture.image.width],
        "channels": len(picture.image.getbands()),
        "white": picture.peak,
        "values": [float(values.min()), float(values.max())],
    }
    return Info(facts, values if values.ndim == 2 else values.mean(-1))


def _image_volume(path: Path) -> Info:
    volumes = image_volumes.open_volumes(path)
    one = volumes[0]
    values = one.values()
    middle = values[len(values) // 2]
    facts: dict[str, Any] = {
        "file": path.name,
        "what": "magnitude images",
        "format": one.format,
        "volumes": len(volumes),
        "slices": len(values),
        "matrix": list(middle.shape),
        "values": [float(values.min()), float(values.max())],
        "orientation": one.orientation,
    }
    if one.voxel is not None:
        facts["voxel_mm"] = [round(v, 4) for v in one.voxel]
    return Info({**facts, "notes": [image_volumes.WARNING]}, np.abs(middle))
