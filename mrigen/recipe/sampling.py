"""Sampling of a model folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrigen.checkpoints.description import read_description
from mrigen.data.sample_files import write_magnitudes, writer_of
from mrigen.data.stores import open_store
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.engine import build
from mrigen.engine.launch import open_device
from mrigen.engine.parts import Parts, forget
from mrigen.engine.processes import alone, gathered
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.errors import UsageError
from mrigen.metrics.pictures import magnitude_window
from mrigen.recipe import change
from mrigen.report.views import view_of

MOST = 10_000_000


def parse_seeds(text: str) -> list[int]:
    """Seeds of ``0-49999`` or ``3,5,8-10``.

    Raises:
        UsageError: not of that form.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high <= low + MOST:
            raise UsageError(f"--seeds {text}: write 0-49999 or 3,5,8")
        found.extend(range(low, high + 1))
    return found


def sampler_of(
    folder: Path, maps: Path | None, sampler: dict[str, object], batch: int
) -> StudentSampler | TeacherSampler:
    """What makes images from seeds with a model folder.

    Args:
        folder: generator or teacher.
        maps: measurement store with coil maps, where the model needs them.
        sampler: a recipe's sampler, for teachers.
        batch: images per network call.

    Raises:
        UsageError: the model needs maps.
    """
    description = read_description(folder)
    if description.role == "generator" and description.generator_input == "full":
        return StudentSampler(build.load_generator(folder)[0], description.image_shape, batch)
    store = None if maps is None else open_store(maps)
    shape = description.image_shape if store is None else store.image_shape
    corruption = build.corruption_of(description, store, folder)
    objective = build.objective_of(description, corruption, folder)
    if description.role == "generator":
        return StudentSampler(build.load_generator(folder)[0], shape, batch, objective, corruption)
    reverse = SAMPLERS.build(sampler)
    return TeacherSampler(build.load_teacher(folder)[0], objective, corruption, reverse, shape, batch)


def sample_model(
    folder: Path,
    out: Path,
    seeds: str,
    maps: Path | None,
    batch: int,
    device: str,
    precision: str = "32-true",
    sampler: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
) -> dict[str, Path]:
    """Images of a model folder into a file or folder, with a picture of the first ones.

    Images are collected beside the result, so that the same command continues after an interruption; the
    result is complete or absent. Several processes share the seeds, and the first one writes the result.

    Args:
        folder: generator or teacher.
        out: ``.h5`` with floats, ``.npz``, ``.zip`` of PNG, or a folder: of PNG for natural images, of
            complex HDF5 and NIfTI magnitudes for MRI. Other MRI files get their NIfTI magnitudes beside them.
        seeds: one image each.
        maps: measurement store with coil maps, where the model needs them.
        batch: images per network call.
        device: where the network runs.
        precision: of the network.
        sampler: a teacher's sampler, as a recipe's mapping; by default 18 steps of ``heun``.
        settings: further ``key=value`` of it.

    Returns:
        What was written, by what it is.

    Raises:
        UsageError: seeds that are none or stand twice, an unknown kind of file, missing maps, or a sampler
            that is none or for a generator.
    """
    wanted = parse_seeds(seeds)
    if len(set(wanted)) < len(wanted):
        raise UsageError(f"--seeds {seeds}: says a seed twice; give each once")
    description = read_description(folder)
    if description.role == "generator" and (sampler or settings):
        raise UsageError(
            f"{folder}: is a generator, which needs no sampler; leave out --sampler, --steps and --set"
        )
    spec = {"name": "heun", "steps": 18, **(sampler or {})}
    for setting in settings:
        change(spec, setting)
    spec = SAMPLERS.pinned(spec)
    run = sampler_of(folder, maps, spec, batch)
    complex_valued = run.complex_valued
    write = writer_of(out, run.shape, complex_valued=complex_valued)
    described = {
        "model": description.weights_sha256,
        "sampler": spec if isinstance(run, TeacherSampler) else None,
        "maps": None if maps is None else str(maps.resolve()),
        "precision": precision,
    }
    run.use(open_device(device, precision))
    parts = Parts(out, described, wanted, batch, run.shape, complex_valued=complex_valued)
    parts.make(run, "sampling")

    def collect() -> dict[str, Path]:
        write(out, wanted, parts.read)
        written = {"images": out, "picture": out.with_suffix(".png")}
        if complex_valued and out.is_file():
            written["magnitudes"] = out.with_suffix(".nii")
            write_magnitudes(written["magnitudes"], len(wanted), parts.read)
        view = view_of(run.shape)
        some = next(parts.read(view.shown))
        view.several(some, magnitude_window(some) if complex_valued else None, written["picture"])
        forget(out)
        return written

    gathered(len(wanted))
    return alone(collect)
