"""What a preparation of k-space did: a table for the terminal, and a picture of the store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mrigen.data.mri_manifest import MRIManifest
from mrigen.data.mri_store import MeasurementStore
from mrigen.files import atomic
from mrigen.prep.kspace.job import Report
from mrigen.prep.tables import show_failures, show_notes, show_store


def show(report: Report, out: Path, console: Console) -> None:
    """Print what was prepared, what failed and why, and what the user should know.

    Args:
        report: of the run.
        out: folder of the store.
        console: where to print.
    """
    references = None if report.manifest is None else report.references
    show_store(console, out, _store(report, out), references)
    show_failures(console, "not prepared", "file", _failed(report))
    show_notes(console, report.notes)


def facts(report: Report, out: Path) -> dict[str, Any]:
    """The same for programs."""
    return {
        "store": str(out),
        **dict(_store(report, out)),
        "references": None
        if report.manifest is None or report.references is None
        else str(report.references),
        "failed": _failed(report),
        "notes": list(report.notes),
    }


def _store(report: Report, out: Path) -> list[tuple[str, str]]:
    counts = (
        f"{report.prepared} prepared, {report.skipped} skipped (already there), {len(report.failed)} failed"
    )
    counts += f", {report.left_out} of another size" if report.left_out else ""
    return [("volumes", counts), *([] if report.manifest is None else _rows(report.manifest, out))]


def _failed(report: Report) -> dict[str, str]:
    return {path.name: reason for path, reason in report.failed.items()}


def _rows(manifest: MRIManifest, out: Path) -> list[tuple[str, str]]:
    slices = [s for volume in manifest.volumes for s in volume.slices]
    mismatch = [s.mismatch for s in slices]
    acceleration = [s.acceleration for s in slices]
    coils, height, width = manifest.volumes[0].shape
    parts = Counter({v.split: 0 for v in manifest.volumes})
    for volume in manifest.volumes:
        parts[volume.split] += len(volume.slices)
    size = sum((out / volume.file).stat().st_size for volume in manifest.volumes)
    law = manifest.mask["name"] if manifest.mask else ""
    return [
        ("in the store", f"{len(manifest.volumes)} volumes, {len(slices)} slices"),
        ("split", ", ".join(f"{name} {count} slices" for name, count in parts.items())),
        ("size", f"{coils} coils, {height} × {width}"),
        ("acceleration", f"{_range(acceleration)} ({law})"),
        ("ACS lines", str(min(volume.acs_lines for volume in manifest.volumes))),
        ("model mismatch", _range(mismatch)),
        ("disk", f"{size / 1e6:.1f} MB"),
    ]


def _range(values: list[float]) -> str:
    return f"median {median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


NAME = "preview.png"
SHOWN = 4
INCHES = 2.0
GAP = 1


def draw(folder: Path) -> Path:
    """Write ``preview.png``: for a few slices |Aᴴ k|, the mask and the magnitude of the first map.

    Args:
        folder: a measurement store.

    Returns:
        The picture's path.
    """
    from matplotlib.figure import Figure

    store = MeasurementStore(folder, split=None, cache_bytes=0)
    indices = _spread([len(volume.slices) for volume in store.manifest.volumes])
    batch = store.measurements(indices)
    images = batch.operator.as_image(batch.y)[:, 0].abs().numpy()
    maps, masks, _ = store.maps_and_masks(indices)
    columns = {
        "|Aᴴ k|": images / np.quantile(images, 0.995, axis=(1, 2), keepdims=True),
        "measured k-space": np.broadcast_to(masks[:, 0].numpy(), images.shape).astype(np.float32),
        "|map of coil 0|": maps[:, 0].abs().numpy(),
    }
    count, height, width = images.shape
    inches = count * INCHES * height / width
    figure = Figure(figsize=(len(columns) * INCHES, inches + 0.5))
    for column, (title, pictures) in enumerate(columns.items()):
        axis = figure.add_axes((column / len(columns), 0, 1 / len(columns), inches / (inches + 0.5)))
        axis.imshow(_stacked(pictures), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    caption = f"slices {', '.join(map(str, indices))} of {folder.name}"
    figure.text(0.5, 1, caption, fontsize=8, ha="center", va="top")
    with atomic(folder / NAME) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return folder / NAME


def _stacked(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pictures (n, H, W) below one another, with a grey margin around each."""
    framed = np.pad(pictures, ((0, 0), (GAP, GAP), (GAP, GAP)), constant_values=0.6)
    return framed.reshape(-1, framed.shape[-1])


def _spread(slices: list[int]) -> list[int]:
    """Indices of a few slices, each from another volume where there are enough, and at another height."""
    shown = min(SHOWN, sum(slices))
    numbers = set()
    for i in range(shown):
        volume = i * len(slices) // shown
        numbers.add(sum(slices[:volume]) + (i + 1) * slices[volume] // (shown + 1))
    return sorted(numbers)
