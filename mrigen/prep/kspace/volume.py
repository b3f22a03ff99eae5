"""Prepare one volume: read, run the pipeline, write the store's file and the reference's."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mrigen.data.manifest import read_record
from mrigen.data.mri_manifest import REFERENCE, SliceStatistics, Volume, VolumeRecord
from mrigen.data.mri_store import new_volume, pack
from mrigen.errors import UsageError
from mrigen.files import sha256
from mrigen.prefetch import write_behind
from mrigen.prep.folder import FULL
from mrigen.prep.kspace.options import Options
from mrigen.prep.kspace.pipeline import Pipeline, PreparedSlices
from mrigen.prep.readers import inspect, open_slices


@dataclass(frozen=True)
class Task:
    """One volume to prepare.

    Attributes:
        source: the file of raw k-space.
        options: options of the preparation.
        out: folder of the store.
        references: folder of the references, or None.
    """

    source: Path
    options: Options
    out: Path
    references: Path | None

    @property
    def name(self) -> str:
        """Name of the volume's files."""
        return f"{self.source.stem}.h5"

    @property
    def parameters(self) -> dict[str, Any]:
        """The options as the manifest keeps them."""
        return self.options.recorded


@dataclass(frozen=True)
class Outcome:
    """How it went: the volume's entry in the manifest, or why there is none.

    Attributes:
        volume: the entry.
        skipped: the files were there already.
        failure: one line.
    """

    volume: Volume | None = None
    skipped: bool = False
    failure: str = ""


def prepare(task: Task) -> Outcome:
    """Prepare a volume unless its files are there, made from the same source with the same options.

    A fault of this one file is an outcome; a full disk is not.
    """
    try:
        with ThreadPoolExecutor(1) as thread:
            checksum = thread.submit(sha256, task.source)
            done = _finished(task, checksum)
            return Outcome(done, skipped=True) if done else Outcome(_prepare(task, checksum))
    except UsageError as error:
        return Outcome(failure=_named(task.source, str(error)))
    except OSError as error:
        if error.errno in FULL:
            raise
        return Outcome(failure=_named(task.source, str(error)))


def _prepare(task: Task, checksum: Future[str]) -> Volume:
    options = task.options
    scan = inspect(task.source, options.reader, options.choose)
    statistics: list[SliceStatistics] = []
    with open_slices(scan, options.reader, options.choose) as read:
        pipeline = Pipeline.plan(scan, options, read, references=task.references is not None)
        masks = pipeline.sampling.masks
        height = pipeline.shape[1]
        points = int(masks.sum((1, 2)).max()) * (height if masks.shape[1] == 1 else 1)
        count = len(pipeline.slices)
        with (
            new_volume(task.out / task.name, count) as store,
            nullcontext()
            if task.references is None
            else new_volume(task.references / task.name, count) as other,
        ):

            def write(part: PreparedSlices) -> None:
                store.append(_stored(pipeline, part, points))
                if other is not None and part.reference is not None:
                    other.append({REFERENCE: part.reference.numpy()})

            with write_behind() as later:
                for part in pipeline.run(read):
                    later(write, part)
                    statistics += _statistics(pipeline, part)
            volume = Volume(
                file=task.name,
                source=task.source.name,
                source_sha256=checksum.result(),
                split=options.part(task.source.stem, scan.subject),
                head=scan.head,
                shape=pipeline.shape,
                acs_lines=pipeline.sampling.acs_lines,
                header=scan.whitelist(),
                slices=statistics,
            )
            store.finish(_record(task, volume, "measurements"))
            if other is not None:
                other.finish(_record(task, volume, "reference"))
    return volume


def _stored(pipeline: Pipeline, part: PreparedSlices, points: int) -> dict[str, Any]:
    sampling, at = pipeline.sampling, part.positions
    mask = sampling.masks[at].numpy()
    return {
        "samples": pack(part.kspace.numpy(), mask, points),
        "mask": mask,
        "acquired": sampling.acquired.expand(len(mask), -1).numpy(),
        "maps": part.maps.numpy(),
        "scale": part.scale.numpy(),
        "further": None if sampling.further is None else sampling.further[at].numpy(),
    }


def _statistics(pipeline: Pipeline, part: PreparedSlices) -> list[SliceStatistics]:
    masks = pipeline.sampling.masks[part.positions]
    possible = int(pipeline.sampling.acquired.sum()) * masks.shape[1]
    coils, height, _ = pipeline.shape
    numbers = 2 * coils * masks.sum((1, 2)) * (height if masks.shape[1] == 1 else 1)
    unit = numbers.sqrt() / torch.linalg.vector_norm(part.kspace, dim=(1, 2, 3))
    rows = zip(
        pipeline.slices[part.positions],
        masks.sum((1, 2)).tolist(),
        part.scale.tolist(),
        part.mismatch.tolist(),
        unit.tolist(),
        strict=True,
    )
    return [
        SliceStatistics(
            slice=index,
            lines=lines,
            acceleration=round(possible / lines, 4),
            scale=scale,
            mismatch=float(f"{mismatch:.4g}"),
            noise=None if pipeline.noise is None else float(f"{pipeline.noise / scale:.4g}"),
            noise_share=None
            if pipeline.noise is None
            else float(f"{pipeline.noise / scale * per_sigma:.4g}"),
        )
        for index, lines, scale, mismatch, per_sigma in rows
    ]


def _finished(task: Task, checksum: Future[str]) -> Volume | None:
    folders = [("measurements", task.out)]
    if task.references is not None:
        folders.append(("reference", task.references))
    records = [(kind, read_record(folder / task.name, VolumeRecord)) for kind, folder in folders]
    good = all(r is not None and r.kind == kind and r.parameters == task.parameters for kind, r in records)
    good = good and all(r.volume.source_sha256 == checksum.result() for _, r in records if r is not None)
    return records[0][1].volume if good and records[0][1] else None


def _record(task: Task, volume: Volume, kind: Literal["measurements", "reference"]) -> VolumeRecord:
    return VolumeRecord(kind=kind, parameters=task.parameters, volume=volume)


def _named(path: Path, message: str) -> str:
    return message if message.startswith(f"{path}: ") else f"{path}: {message}"
