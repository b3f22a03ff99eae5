"""``mrigen prep-images``: a set of images into one store, continued where it stopped."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import mrigen
from mrigen.data.image_manifest import ImageManifest, Shard, ShardRecord, Source
from mrigen.data.manifest import NAME, read_record
from mrigen.data.noise_estimate import NoiseEstimate, estimate_sigma
from mrigen.data.pixels import ImageError
from mrigen.data.shards import map_shard, rows
from mrigen.errors import UsageError
from mrigen.operators.corruption import make_corruption
from mrigen.operators.noise import Noise
from mrigen.prep.folder import exclusive, explain_full_disk, refuse_other_parameters
from mrigen.prep.images.base import ImageSet, Item
from mrigen.prep.images.options import ImageOptions
from mrigen.prep.images.shard import Shape, Task, fixed_image, prepare
from mrigen.prep.images.sources import open_set
from mrigen.prep.pool import Work, Workers
from mrigen.prep.split import require_parts
from mrigen.prep.workers import choose
from mrigen.progress import bar

SHARD_BYTES = 1 << 26
ESTIMATED_FROM = 1000
LOOKS = 100


@dataclass
class ImageReport:
    """What a run did.

    Attributes:
        manifest: the store's manifest.
        references: folder of the references, or None.
        prepared: number of images prepared now.
        skipped: number of images that were there already.
        left_out: images that could not be prepared, with the reason.
        ignored: number of files in the source that are no images.
        enlarged: number of images that had fewer pixels than the result.
        note: what the user should know about the source, one line.
    """

    manifest: ImageManifest
    references: Path | None
    prepared: int = 0
    skipped: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    ignored: int = 0
    enlarged: int = 0
    note: str = ""


def run(
    source: str,
    out: Path,
    options: ImageOptions,
    *,
    references: Path | Literal["beside"] | None = "beside",
    jobs: int | None = None,
    dask_scheduler: str | None = None,
) -> ImageReport:
    """Prepare a set of images.

    Args:
        source: see ``sources.open_set``.
        out: folder of the store.
        options: what to do.
        references: folder for the clean images, which only evaluation may open; ``beside`` is
            ``OUT-reference``, None is none. Measured images have none.
        jobs: processes; by default as many as the amount of data is worth.
        dask_scheduler: see ``workers.choose``.

    Raises:
        UsageError: the source, the options or the folder will not do, or no image can be prepared.
    """
    workers = choose(jobs, dask_scheduler)
    images = open_set(source, labels=options.labels)
    images = images.select(options.positions(len(images)))
    shape = _shape(images, options)
    _check_operator(options, shape)
    beside = out.with_name(f"{out.resolve().name}-reference") if references == "beside" else references
    clean = None if options.measured else beside
    parameters = {**options.model_dump(mode="json"), "source": images.source.name}
    parts = _parts(images, options)
    folders = [out.absolute()] if clean is None else [out.absolute(), clean.absolute()]
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(exclusive(folder))
            _refuse_others(folder, parameters)
        stack.enter_context(explain_full_disk(out))
        tasks = list(_tasks(images, parts, options, parameters, shape, folders))
        total = 4 * len(images) * int(np.prod(shape))
        work = Work(prepare, tasks, total, folders, lambda task: task.file)
        shards, skipped = _prepare(workers, work, len(images))
        for folder in folders:
            _remove_stale(folder, {shard.file for shard in shards})
        manifest = _manifest(images, options, parameters, shape, shards)
        if options.hides_noise:
            manifest = manifest.model_copy(update={"estimate": _estimate(out, shards)})
        if clean is not None:
            manifest.model_copy(update={"kind": "reference", "estimate": None, "stated": None}).save(clean)
        manifest.save(out)
    kept = sum(shard.images for shard in shards)
    return ImageReport(
        manifest=manifest,
        references=clean,
        prepared=kept - skipped,
        skipped=skipped,
        left_out={name: why for shard in shards for name, why in shard.left_out.items()},
        ignored=images.ignored,
        enlarged=sum(shard.enlarged for shard in shards),
        note=images.note,
    )


def _shape(images: ImageSet, options: ImageOptions) -> Shape:
    """(C, H, W) of the first image that can be prepared."""
    reason = ""
    for position in range(min(LOOKS, len(images))):
        try:
            return options.shape(images.picture(position))
        except ImageError as error:
            reason = reason or f"{images.items[position].name} {error}"
    raise UsageError(f"{images.source}: no image can be prepared ({reason}); choose another --size or --crop")


def _check_operator(options: ImageOptions, shape: Shape) -> None:
    law = make_corruption(options.operator, shape)
    if (options.measured or options.hides_noise) and not fixed_image(law):
        raise UsageError(
            f"operator {options.operator['name']!r}: measured images and unknown noise need an operator that "
            "is the same for all images and whose measurement is an image of their size"
        )


def _parts(images: ImageSet, options: ImageOptions) -> dict[str, list[int]]:
    """Positions of the images of each part, the training part first."""
    positions = defaultdict(list)
    for position, item in enumerate(images.items):
        positions[options.part(item)].append(position)
    if options.split is not None:
        require_parts(options.split, map(options.part, images.items), "images")
    return {part: positions[part] for part in sorted(positions, key=lambda part: (part != "train", part))}


def _classes(items: list[Item]) -> int:
    """Number of classes, or length of the label vectors; 0 without labels."""
    labels = [item.label for item in items if item.label is not None]
    if not labels:
        return 0
    if isinstance(labels[0], tuple):
        return len(labels[0])
    return 1 + max(label for label in labels if isinstance(label, int))


def _tasks(
    images: ImageSet,
    parts: dict[str, list[int]],
    options: ImageOptions,
    parameters: dict[str, Any],
    shape: Shape,
    folders: list[Path],
) -> list[Task]:
    size = max(1, SHARD_BYTES // (4 * int(np.prod(shape))))
    classes = _classes(images.items)
    out, references = folders[0], folders[1] if len(folders) > 1 else None
    tasks = []
    for part, positions in parts.items():
        for number, first in enumerate(range(0, len(positions), size)):
            chosen = images.select(positions[first : first + size])
            name = f"{part}-{number:05d}.h5"
            tasks.append(Task(chosen, options, parameters, shape, classes, part, name, out, references))
    return tasks


def _prepare(workers: Workers, work: Work, count: int) -> tuple[list[Shard], int]:
    """The shards in the order of their names, and the number of images that were there already."""
    shards, skipped = [], 0
    with bar("prepare", count, "img") as advance, closing(workers.run(work)) as finished:
        for task, outcome in finished:
            advance(len(task.images), task.file)
            shards.append(outcome.shard)
            skipped += outcome.shard.images * outcome.skipped
    return sorted((s for s in shards if s.images), key=lambda s: (s.split != "train", s.file)), skipped


def _refuse_others(folder: Path, parameters: dict[str, Any]) -> None:
    """Refuse a folder with something else in it, or with shards of other options."""
    if (folder / NAME).exists():
        refuse_other_parameters(folder, ImageManifest.load(folder).parameters, parameters)
    for path in sorted(folder.glob("*.h5")):
        record = read_record(path, ShardRecord)
        if record is None:
            raise UsageError(f"{path}: in the way and not a prepared shard; choose another --out")
        refuse_other_parameters(folder, record.parameters, parameters)


def _remove_stale(folder: Path, kept: set[str]) -> None:
    """Remove shards of images that the source no longer has."""
    for path in folder.glob("*.h5"):
        if path.name not in kept:
            path.unlink()


def _manifest(
    images: ImageSet, options: ImageOptions, parameters: dict[str, Any], shape: Shape, shards: list[Shard]
) -> ImageManifest:
    checksum = images.checksum([shard.source_sha256 for shard in shards])
    return ImageManifest(
        kind="measurements",
        created_by=f"mrigen {mrigen.__version__}",
        parameters=parameters,
        shape=shape,
        operator=options.operator,
        noise=options.law or Noise(),
        stated=options.stated_noise,
        classes=_classes(images.items),
        source=Source(name=images.source.name, kind=images.kind, sha256=checksum),
        shards=shards,
    )


def _estimate(out: Path, shards: list[Shard]) -> NoiseEstimate:
    """σ of the training part, from some of its measurements."""
    used = [shard for shard in shards if shard.split == shards[0].split]
    total = sum(shard.images for shard in used)
    images = []
    for shard in used:
        count = max(1, ESTIMATED_FROM * shard.images // total)
        step = max(1, shard.images // count)
        images += list(rows(map_shard(out / shard.file)["y"], list(range(0, shard.images, step))))
    return estimate_sigma(images)
