"""What ``mrigen prep-images`` did: a table for the terminal, and a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from mrigen.data.image_manifest import ImageManifest
from mrigen.data.image_store import ImageStore
from mrigen.files import atomic
from mrigen.prep.images.edm_zip import to_bytes
from mrigen.prep.images.job import ImageReport
from mrigen.prep.tables import show_failures, show_notes, show_store
from mrigen.registry import CHECKSUMS

NAME = "preview.png"
SHOWN, COLUMNS = 32, 8
WIDTH = 512
LISTED = 20


def show(report: ImageReport, out: Path, console: Console) -> None:
    """Print what was prepared, what was left out and why."""
    show_store(console, out, _store(report, out), report.references)
    first = dict(list(report.left_out.items())[:LISTED])
    if len(report.left_out) > LISTED:
        first["..."] = f"{len(report.left_out) - LISTED} more; the manifest lists all"
    show_failures(console, "left out", "image", first)
    show_notes(console, _notes(report))


def facts(report: ImageReport, out: Path) -> dict[str, Any]:
    """The same for programs."""
    return {
        "store": str(out),
        **dict(_store(report, out)),
        "references": None if report.references is None else str(report.references),
        "left out": dict(report.left_out),
        "notes": list(_notes(report)),
    }


def _store(report: ImageReport, out: Path) -> list[tuple[str, str]]:
    counts = f"{report.prepared} prepared, {report.skipped} skipped (already there)"
    counts += f", {len(report.left_out)} left out"
    return [("images", counts), *_rows(report.manifest, out)]


def draw(folder: Path) -> Path:
    """Write ``preview.png``: some of the measurements as images, in rows of eight."""
    store = ImageStore(folder, split=None)
    count = min(SHOWN, len(store))
    batch = store.measurements([i * len(store) // count for i in range(count)])
    pictures, _ = to_bytes(batch.operator.as_image(batch.y))
    empty = -count % COLUMNS if count > COLUMNS else 0
    pictures = np.concatenate([pictures, np.zeros((empty, *pictures.shape[1:]), np.uint8)])
    rows = [np.concatenate([*row], 1) for row in np.split(pictures, max(1, len(pictures) // COLUMNS))]
    page = np.concatenate(rows)
    factor = max(1, WIDTH // page.shape[1])
    with atomic(folder / NAME) as temporary:
        Image.fromarray(page.repeat(factor, 0).repeat(factor, 1)).save(temporary, format="PNG")
    return folder / NAME


def _rows(manifest: ImageManifest, out: Path) -> list[tuple[str, str]]:
    parts: Counter[str] = Counter()
    for shard in manifest.shards:
        parts[shard.split] += shard.images
    channels, height, width = manifest.shape
    size = sum((out / shard.file).stat().st_size for shard in manifest.shards)
    operator = ", ".join(
        str(value) if key == "name" else f"{key} {value}"
        for key, value in manifest.operator.items()
        if key != CHECKSUMS
    )
    return [
        ("in the store", ", ".join(f"{name} {count}" for name, count in parts.items())),
        ("size", f"{channels} {'channel' if channels == 1 else 'channels'}, {height} × {width}"),
        ("operator", operator),
        ("noise σ", _noise(manifest)),
        *([("classes", str(manifest.classes))] if manifest.classes else []),
        ("disk", f"{size / 1e6:.1f} MB"),
    ]


def _noise(manifest: ImageManifest) -> str:
    noise, estimate = manifest.noise, manifest.estimate
    known = f"{noise.low:g}" if noise.high is None else f"{noise.low:g} to {noise.high:g}"
    if manifest.stated is not None:
        return f"stated {manifest.stated:g}, simulated {known}"
    if estimate is None:
        return known
    estimated = f"estimated {estimate.sigma:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"
    return f"{estimated}, simulated {known}" if noise else estimated


def _notes(report: ImageReport) -> list[str]:
    notes = []
    if report.enlarged:
        notes.append(f"{report.enlarged} images had fewer pixels than the result and were enlarged")
    if report.ignored:
        notes.append(f"{report.ignored} other files in the source were ignored")
    return notes + [report.note] * bool(report.note)
