"""Sampling of a model folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mrigen import ranks
from mrigen.data.sample_files import write_magnitudes, writer_of
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.engine.footprint import batch_that_fits, even_batch
from mrigen.engine.launch import choose_device, open_device
from mrigen.engine.params import SamplerSpec
from mrigen.engine.precision import EVALUATED, compiles, typical_images
from mrigen.engine.processes import all_gather, on_rank_zero
from mrigen.engine.resumable import ResumableSampling, discard, recorded_batch
from mrigen.errors import UsageError
from mrigen.metrics.rendering import magnitude_window
from mrigen.model import Model
from mrigen.recipe import change
from mrigen.report.figures import view_of

MOST = 10_000_000
BATCH, BATCH_ON_GPU = 64, 512


def parse_seeds(text: str) -> list[int]:
    """Seeds of ``0-49999`` or ``3,5,8-10``.

    Raises:
        UsageError: not of that form.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high <= low + MOST:
            raise UsageError(f"--seeds {text}: write 0-49999 or 3,5,8, at most {MOST:,} seeds in a range")
        numbers.extend(range(low, high + 1))
    return numbers


def sample_model(
    model: Model,
    out: Path,
    seeds: str,
    maps: Path | None,
    batch: int | None,
    device: str,
    precision: str = "32-true",
    sampler: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
) -> dict[str, Path]:
    """Images of a model into a file or folder, with a picture of the first ones.

    Images are collected beside the result, so that the same command continues after an interruption; the
    result is complete or absent. Several processes share the seeds, and the first one writes the result.

    Args:
        model: generator or teacher.
        out: ``.h5`` with floats, ``.npz``, ``.zip`` of PNG, or a folder: of PNG for natural images, of
            complex HDF5 and NIfTI magnitudes for MRI. Other MRI files get their NIfTI magnitudes beside them.
        seeds: one image each.
        maps: measurement store with coil maps, where the model needs them.
        batch: images per network call; None for those of the interrupted command that is continued, or as
            many as fit into the free memory, 512 at most on a GPU and 64 elsewhere or in several processes.
        device: where the network runs.
        precision: of the network.
        sampler: a teacher's sampler, as a recipe's mapping; by default 18 steps of ``heun``. Of a generator
            of several steps the number of ``steps`` after which it ends.
        settings: further ``key=value`` of it.

    Returns:
        What was written, by what it is.

    Raises:
        UsageError: seeds that are none or stand twice, an unknown kind of file, missing maps, a sampler
            that is none or for a generator, or more steps than a generator has.
    """
    image_seeds = parse_seeds(seeds)
    if len(set(image_seeds)) < len(image_seeds):
        raise UsageError(f"--seeds {seeds}: says a seed twice; give each once")
    spec = None
    if model.role == "teacher":
        spec = {**SamplerSpec().sampler, **(sampler or {})}
        for setting in settings:
            change(spec, setting)
        spec = SAMPLERS.pinned(spec)
    elif settings or set(sampler or {}) - {"steps"}:
        raise UsageError(
            f"{model.name}: is a generator, which needs no sampler; leave out --sampler and --set"
        )
    elif sampler:
        model, spec = model.after(sampler["steps"]), dict(sampler)
    fabric = None if precision == "32-true" else open_device(device, precision)
    where = choose_device(device) if fabric is None else fabric.device
    described = {
        "model": model.fingerprint,
        "sampler": spec,
        "maps": None if maps is None else str(maps.resolve()),
        "precision": precision,
    }
    size = batch or recorded_batch(out, described) or _batch(model, where, len(image_seeds))
    run = model.sampler(maps, spec if model.role == "teacher" else None, size)
    complex_valued = run.complex_valued
    write = writer_of(out, run.shape, complex_valued=complex_valued)
    if fabric is None:
        run.to(where)
    else:
        run.use(fabric)
    if compiles(None, where, typical_images(run.evaluations * len(image_seeds), run.shape), EVALUATED):
        run.compile(where)
    parts = ResumableSampling(out, described, image_seeds, size, run.shape, complex_valued=complex_valued)
    parts.make(run, "sampling")

    def collect() -> dict[str, Path]:
        write(out, image_seeds, parts.read)
        written = {"images": out, "picture": out.with_suffix(".png")}
        if complex_valued and out.is_file():
            written["magnitudes"] = out.with_suffix(".nii")
            write_magnitudes(written["magnitudes"], len(image_seeds), parts.read)
        view = view_of(run.shape)
        first_images = next(parts.read(view.shown))
        view.several(
            first_images, magnitude_window(first_images) if complex_valued else None, written["picture"]
        )
        discard(out)
        return written

    all_gather(len(image_seeds))
    return on_rank_zero(collect)


def _batch(model: Model, device: torch.device, count: int) -> int:
    """Images per network call that fit; on a GPU as many in every call, so that the last is not filled up."""
    if ranks.world_size() > 1:
        return BATCH
    most = BATCH
    if device.type == "cuda":
        most = even_batch(count, BATCH_ON_GPU)
    return batch_that_fits(model.description, model.image_shape, device, most)
