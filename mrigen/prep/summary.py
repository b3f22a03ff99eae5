"""What a preparation did, as tables for the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median

from rich.console import Console

from mrigen.data.mri_manifest import MRIManifest
from mrigen.prep.kspace.job import Report
from mrigen.prep.tables import show_failures, show_notes, show_store


def show(report: Report, out: Path, console: Console) -> None:
    """Print what was prepared, what failed and why, and what the user should know.

    Args:
        report: of the run.
        out: folder of the store.
        console: where to print.
    """
    counts = (
        f"{report.prepared} prepared, {report.skipped} skipped (already there), {len(report.failed)} failed"
    )
    counts += f", {report.left_out} of another size" if report.left_out else ""
    held = [] if report.manifest is None else _rows(report.manifest, out)
    show_store(console, out, [("volumes", counts), *held], report.references)
    failed = {path.name: reason for path, reason in report.failed.items()}
    show_failures(console, "not prepared", "file", failed)
    show_notes(console, report.notes)


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
