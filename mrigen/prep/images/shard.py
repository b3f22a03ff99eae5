"""Prepare one shard: decode, crop, corrupt once, write measurements and references."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrigen.data.image_manifest import REFERENCE, Shard, ShardRecord
from mrigen.data.image_store import PROBE
from mrigen.data.manifest import read_record
from mrigen.data.pixels import ImageError, tensor
from mrigen.data.shards import OPERATOR, Array, write_shard
from mrigen.operators.base import Operator
from mrigen.operators.corruption import ImageCorruption, make_corruption
from mrigen.operators.noise import Noise
from mrigen.prep.images.base import ImageSet
from mrigen.prep.images.geometry import byte_values
from mrigen.prep.images.options import ImageOptions
from mrigen.seeds import seeded_rng
from mrigen.tensors import tensors_of, varying

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Task:
    """Some images of one part of the data.

    Attributes:
        images: the images.
        options: options of the preparation.
        parameters: what the record says of them.
        shape: (C, H, W) of the prepared images.
        classes: number of class labels, 0 for none.
        part: the part.
        file: name of the shard's files.
        out: folder of the store.
        references: folder of the references, or None.
    """

    images: ImageSet
    options: ImageOptions
    parameters: dict[str, Any]
    shape: Shape
    classes: int
    part: str
    file: str
    out: Path
    references: Path | None


@dataclass(frozen=True)
class Outcome:
    """The shard's entry in the manifest; without images where none could be prepared."""

    shard: Shard
    skipped: bool = False


@dataclass
class _Rows:
    """What is collected of the images that can be prepared."""

    positions: list[int] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    bytes: list[Array | None] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    enlarged: int = 0


def prepare(task: Task) -> Outcome:
    """Prepare a shard unless its files are there, made from the same images with the same options.

    Every draw is keyed by the seed and the image's name, so that a set is corrupted alike however
    it is divided.
    """
    digest = task.images.digest()
    folders = [task.out] if task.references is None else [task.out, task.references]
    records = [read_record(folder / task.file, ShardRecord) for folder in folders]
    if all(r and r.parameters == task.parameters and r.shard.source_sha256 == digest for r in records):
        assert records[0] is not None
        return Outcome(records[0].shard, skipped=True)
    rows = _decode(task)
    shard = Shard(
        file=task.file,
        split=task.part,
        images=len(rows.positions),
        enlarged=rows.enlarged,
        source_sha256=digest,
        left_out=rows.left_out,
    )
    if shard.images:
        if task.references is not None:
            record = ShardRecord(kind="reference", parameters=task.parameters, shard=shard)
            write_shard(task.references / task.file, {REFERENCE: _references(rows)}, record)
        record = ShardRecord(kind="measurements", parameters=task.parameters, shard=shard)
        write_shard(task.out / task.file, _measurements(task, rows), record)
    return Outcome(shard)


def _decode(task: Task) -> _Rows:
    rows = _Rows()
    for position, item in enumerate(task.images.items):
        try:
            picture = task.images.picture(position)
            enlarged = task.options.enlarges(picture)
            picture = task.options.apply(picture, task.shape)
        except ImageError as error:
            rows.left_out[item.name] = str(error)
            continue
        rows.positions.append(position)
        rows.images.append(tensor(picture, task.shape[0]))
        rows.bytes.append(byte_values(picture))
        rows.enlarged += enlarged
    return rows


def _references(rows: _Rows) -> Array:
    """uint8 where every image has 8 bits, float32 in [-1, 1] otherwise."""
    if any(values is None for values in rows.bytes):
        return torch.stack(rows.images).numpy()
    return np.stack([values for values in rows.bytes if values is not None])


def _measurements(task: Task, rows: _Rows) -> dict[str, Array]:
    options, items = task.options, [task.images.items[i] for i in rows.positions]
    law = make_corruption(options.operator, task.shape)
    noise = options.law or Noise()
    stored = varying(law.draw(PROBE, seeded_rng(0, "template")), PROBE)
    y, operators, sigmas = [], [], []
    for item, image in zip(items, rows.images, strict=True):
        key = seeded_rng(options.seed, "operator", item.name)
        A = law.draw(1, key)
        sigma = noise.draw(1, seeded_rng(options.seed, "sigma", item.name))
        y.append(image[None] if options.measured else _measure(A, image, sigma, options.seed, item.name))
        operators.append(tensors_of(A))
        sigmas.append(sigma)
    arrays: dict[str, Array] = {
        "y": torch.cat(y).numpy(),
        "name": np.array([item.name.encode() for item in items]),
    }
    for name in stored:
        arrays[f"{OPERATOR}/{name}"] = torch.cat([tensors[name] for tensors in operators]).numpy()
    if not options.hides_noise:
        arrays["sigma"] = torch.cat(sigmas).numpy()
    if task.classes:
        arrays["label"] = np.stack([_label(item.label, task.classes) for item in items])
    return arrays


def _measure(A: Operator, image: Tensor, sigma: Tensor, seed: int, name: str) -> Tensor:
    """A x + σ ε of one image."""
    y = A.forward(image[None])
    return y + A.noise(y, sigma, seeded_rng(seed, "noise", name)) if sigma.item() else y


def _label(label: Any, classes: int) -> Array:
    if isinstance(label, tuple):
        return np.array(label, np.float32)
    row = np.zeros(classes, np.float32)
    row[label] = 1
    return row


def fixed_image(law: ImageCorruption) -> bool:
    """Whether an operator is the same for all images and its measurement is an image of their size."""
    first, second = (tensors_of(law.draw(1, seeded_rng(seed, "fixed"))) for seed in (0, 1))
    same = all(bool((first[name] == second[name]).all()) for name in first)
    A = law.draw(1, seeded_rng(0, "fixed"))
    y = A.forward(law.zeros(1))
    return same and y.shape == (1, *law.shape) and A.as_image(y) is y
