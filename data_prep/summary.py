"""What a preparation did, as tables for the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from mrigen.data.mri_manifest import MRIManifest
from mrigen.errors import one_line

from .job import Report


def show(report: Report, out: Path, console: Console) -> None:
    """Print what was prepared, what failed and why, and what the user should know.

    Args:
        report: of the run.
        out: folder of the store.
        console: where to print.
    """
    table = Table(title=f"measurement store {out}", show_header=False, title_justify="left")
    parts = (
        f"{report.prepared} prepared, {report.skipped} skipped (already there), {len(report.failed)} failed"
    )
    table.add_row("volumes", parts + (f", {report.left_out} of another size" if report.left_out else ""))
    if report.manifest is not None:
        for row in _rows(report.manifest, out):
            table.add_row(*row)
    if report.references is not None:
        table.add_row("references", f"{report.references} (for evaluation only)")
    console.print(table)
    if report.failed:
        failures = Table(title="not prepared", title_justify="left", title_style="red")
        failures.add_column("file", overflow="fold", max_width=30)
        failures.add_column("reason", overflow="fold")
        for path, reason in report.failed.items():
            failures.add_row(one_line(path.name), one_line(reason))
        console.print(failures)
    for note in report.notes:
        console.print(f"note: {note}", style="yellow", highlight=False)


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
