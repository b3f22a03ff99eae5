"""``mrigen prep-fastmri``: many volumes into one store, continued where it stopped."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

import mrigen
from mrigen.data.manifest import NAME, read_record
from mrigen.data.mri_manifest import MRIManifest, Volume, VolumeRecord
from mrigen.errors import UsageError
from mrigen.operators.masks import MASKS
from mrigen.prep.folder import exclusive, explain_full_disk, refuse_other_parameters
from mrigen.prep.kspace.options import Options, choose_slices
from mrigen.prep.kspace.pipeline import prepared_shape
from mrigen.prep.kspace.sources import (
    discover,
    require_lines,
    require_one_size,
    undersampled,
)
from mrigen.prep.kspace.steps import mismatch_note
from mrigen.prep.kspace.volume import Task, prepare
from mrigen.prep.pool import Work, Workers
from mrigen.prep.readers import inspect
from mrigen.prep.scan import Scan
from mrigen.prep.split import require_parts
from mrigen.prep.workers import choose
from mrigen.progress import bar

LEAK = "coil maps were computed from fully sampled k-space (--maps-from full)"


@dataclass
class Report:
    """What a run did.

    Attributes:
        manifest: the store's manifest; None where no volume could be prepared.
        references: folder of the references, or None.
        prepared: number of volumes prepared now.
        skipped: number of volumes that were there already.
        failed: files that could not be prepared, with the reason.
        left_out: number of files of another size than ``--only-size``.
        notes: what the user should know, one line each.
    """

    manifest: MRIManifest | None = None
    references: Path | None = None
    prepared: int = 0
    skipped: int = 0
    failed: dict[Path, str] = field(default_factory=dict)
    left_out: int = 0
    notes: list[str] = field(default_factory=list)

    def fail(self, path: Path, error: str, *, strict: bool) -> None:
        """Note a file that cannot be prepared; with ``strict`` that is the end."""
        if strict:
            raise UsageError(error)
        self.failed[path] = error.removeprefix(f"{path}: ")


def run(
    sources: list[Path],
    out: Path,
    options: Options,
    *,
    references: Path | Literal["beside"] | None = "beside",
    jobs: int | None = None,
    dask_scheduler: str | None = None,
    strict: bool = False,
) -> Report:
    """Prepare files and folders of raw k-space, of any format that has a reader.

    Args:
        sources: files, or folders of them.
        out: folder of the store.
        options: what to do.
        references: folder for fully sampled images, which only evaluation may open; ``beside`` is
            ``OUT-reference`` where the data are fully sampled, None is none.
        jobs: processes; by default as many as the amount of data is worth.
        dask_scheduler: see ``workers.choose``.
        strict: stop at the first file that cannot be prepared.

    Raises:
        UsageError: a mistake that concerns more than one file, or any with ``strict``.
    """
    workers = choose(jobs, dask_scheduler)
    beside = out.with_name(f"{out.resolve().name}-reference") if references == "beside" else references
    files, doubles = discover(sources, [out] if beside is None else [out, beside])
    report = Report(notes=doubles)
    scans = _inspect(files, options, report, strict=strict)
    own_masks = undersampled(scans, options, references=isinstance(references, Path))
    if not (own_masks and references == "beside") or all(scan.full for scan in scans):
        report.references = beside
    folders = [out] if report.references is None else [out, report.references]
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(exclusive(folder))
        stack.enter_context(explain_full_disk(out))
        parameters = options.recorded
        inputs = {f"{path.stem}.h5" for path in files}
        there = [_there(folder, inputs, parameters) for folder in folders]
        require_one_size(scans, there[0], options)
        if not own_masks:
            require_lines(scans, options)
        parts = [options.part(s.path.stem, s.subject) for s in scans] + [v.split for v in there[0]]
        require_parts(options.split, parts, "volumes")
        store, clean = out.absolute(), report.references and report.references.absolute()
        tasks = [Task(scan.path, options, store, clean) for scan in scans]
        total = sum(scan.slices * scan.slice_bytes for scan in scans)
        work = Work(prepare, tasks, total, [folder.absolute() for folder in folders], lambda task: task.name)
        slices = {scan.path: len(choose_slices(options.slices, scan.slices)) for scan in scans}
        prepared = _prepare(workers, work, slices, report, strict=strict)
        law = _measured_law(there[0] + prepared) if own_masks else MASKS.pinned(options.law)
        for folder, kept in zip(folders, there, strict=True):
            manifest = _manifest(folder == out, options, law, kept + prepared, fresh=not own_masks)
            if manifest.volumes:
                manifest.save(folder)
                report.manifest = report.manifest or manifest
        report.notes += (
            (_notes(options, law) if report.manifest else [])
            + _of_scans(scans)
            + _of_mismatch(prepared)
            + _of_split(scans, options)
        )
    return report


def _inspect(files: list[Path], options: Options, report: Report, *, strict: bool) -> list[Scan]:
    """The usable files of the wanted size; the others are noted in the report."""
    scans = []
    for path in files:
        try:
            scan = inspect(path, options.reader, options.choose)
            _require_mask(scan, options)
            if options.wants(scan.coils, scan.height, scan.width):
                prepared_shape(scan, options)
                choose_slices(options.slices, scan.slices)
                scans.append(scan)
            else:
                report.left_out += 1
        except UsageError as error:
            report.fail(path, str(error), strict=strict)
    return scans


def _require_mask(scan: Scan, options: Options) -> None:
    if scan.inferred and options.undersamples:
        raise UsageError(
            f"{scan.path}: points of kspace are zero in every coil, as if undersampled, but the file has no "
            "mask: add a dataset `mask`, or leave out --acceleration, --mask and --further-drop to take the "
            "zeros for the mask"
        )


def _there(folder: Path, names: set[str], parameters: dict[str, Any]) -> list[Volume]:
    """Volumes that earlier runs with the same options left in the folder, those of ``names`` excepted.

    Raises:
        UsageError: the folder holds something else, or volumes with other options.
    """
    if (folder / NAME).exists():
        refuse_other_parameters(folder, MRIManifest.load(folder).parameters, parameters)
    records = {path: read_record(path, VolumeRecord) for path in sorted(folder.glob("*.h5"))}
    for path, record in records.items():
        if record is None:
            raise UsageError(f"{path}: in the way and not a prepared volume; choose another --out")
        refuse_other_parameters(folder, record.parameters, parameters)
    return [record.volume for path, record in records.items() if record and path.name not in names]


def _prepare(
    workers: Workers, work: Work, slices: dict[Path, int], report: Report, *, strict: bool
) -> list[Volume]:
    volumes = []
    with (
        bar("prepare", sum(slices.values()), "slice") as advance,
        closing(workers.run(work)) as finished,
    ):
        for task, outcome in finished:
            advance(slices[task.source], task.name)
            if outcome.volume is None:
                report.fail(task.source, outcome.failure, strict=strict)
                continue
            volumes.append(outcome.volume)
            report.skipped += outcome.skipped
            report.prepared += not outcome.skipped
    return volumes


def _manifest(
    measurements: bool, options: Options, law: dict[str, Any], volumes: list[Volume], *, fresh: bool
) -> MRIManifest:
    return MRIManifest(
        kind="measurements" if measurements else "reference",
        created_by=f"mrigen {mrigen.__version__}",
        parameters=options.recorded,
        mask=law,
        fresh_masks=fresh,
        phase=options.phase,
        clean_data_leak=LEAK if options.maps_from == "full" else None,
        volumes=sorted(volumes, key=lambda volume: volume.file),
    )


def _measured_law(volumes: list[Volume]) -> dict[str, Any]:
    """The scanner's masks as a law that offers the further corruption only."""
    accelerations = [
        s.acceleration for volume in sorted(volumes, key=lambda v: v.file) for s in volume.slices
    ]
    return {
        "name": "measured",
        "acceleration": round(sum(accelerations) / max(len(accelerations), 1), 4),
        "acs_lines": min((volume.acs_lines for volume in volumes), default=0),
    }


def _of_scans(scans: list[Scan]) -> list[str]:
    """What the readers have to say, once each, with the number of files that it concerns."""
    counts = Counter(note for scan in scans for note in scan.notes)
    return [f"{note} ({count} of {len(scans)} files)" for note, count in counts.items()]


def _of_mismatch(volumes: list[Volume]) -> list[str]:
    """Volumes whose coil maps explain too little, with their number."""
    notes = []
    for volume in volumes:
        shares = [s.noise_share for s in volume.slices]
        noise = torch.tensor([s for s in shares if s is not None]) if None not in shares else None
        note = mismatch_note(torch.tensor([s.mismatch for s in volume.slices]), noise)
        notes += [f"{volume.source}: {note}"] if note else []
    more = f" (and {len(notes) - 1} more files alike)" if len(notes) > 1 else ""
    return [f"{note}{more}" for note in notes[:1]]


def _of_split(scans: list[Scan], options: Options) -> list[str]:
    """A warning where files of a like name are in several parts and nothing says whose they are."""
    families: dict[str, list[Scan]] = {}
    for scan in scans:
        if scan.subject is None and options.group is None and len(options.split) > 1:
            families.setdefault(re.split(r"[_\-.](?=[^_\-.]*$)", scan.path.stem)[0], []).append(scan)
    torn = [name for name, files in families.items() if len({options.part(s.path.stem) for s in files}) > 1]
    if not torn:
        return []
    names = f"{', '.join(torn[:3]):.80}"
    return [
        (
            f"files that begin alike are in different parts ({names}): if they are repetitions or contrasts "
            "of one subject, the test part is not independent; say what names the subject, for example with "
            "--group '^[^_]+'"
        )
    ]


def _notes(options: Options, law: dict[str, Any]) -> list[str]:
    notes = []
    if options.maps_from == "full":
        notes.append(f"clean-data leak: {LEAK}; the manifest says so too")
    reason = MASKS.build(law).ambient_obstacle
    if reason:
        notes.append(f"ambient training will refuse these masks: {reason}")
    return notes
