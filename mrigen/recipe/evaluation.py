"""The last stage: observations, teacher and student against held-out references."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mrigen.data.images import read_images, write_images
from mrigen.engine.parts import Parts, forget
from mrigen.engine.processes import alone, total
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.distance import Reference
from mrigen.metrics.nearest import closeness
from mrigen.metrics.proximal import ProximalDistance
from mrigen.metrics.reference import References, open_reference
from mrigen.recipe.sampling import sampler_of
from mrigen.recipe.selection import proximal_distance
from mrigen.recipe.stages import Stage
from mrigen.report.tables import summary_table
from mrigen.report.views import view_of

if TYPE_CHECKING:
    from mrigen.recipe.study import Study

BATCH = 250


def evaluate(study: Study) -> dict[str, Any]:
    """Sample, measure, draw and write ``summary.json``; what was sampled before is not sampled again.

    Several processes sample together; the first one measures, which is little beside sampling.
    """
    params = study.recipe.evaluate
    references = open_reference(study.reference_folder, params.split)
    images = references.images(spread(len(references), params.samples))
    count = min(params.samples, len(images), len(study.store))
    if count < 2:
        raise UsageError(f"{study.reference_folder}: too few references to evaluate with ({count})")
    samplers = _samplers(study)
    sampled = {name: sample(study, name, sampler, count) for name, sampler in samplers.items()}
    return alone(lambda: _measured(study, references, images, count, sampled))


def _measured(
    study: Study, references: References, images: Tensor, count: int, sampled: dict[str, Sampled]
) -> dict[str, Any]:
    """The summary of observations, sampled images and references; written, drawn and shown."""
    params = study.recipe.evaluate
    measure = _Measure(Reference.of(images, study.extractor), references, params.radius)
    batch = study.store.measurements(spread(len(study.store), count))
    observed = batch.operator.as_image(batch.y)
    shown = {"reference": images, "zero-filled" if images.is_complex() else "observation": observed}
    view = view_of(references.image_shape)
    rows: dict[str, Any] = {"observation": measure([observed])}
    for name, found in sampled.items():
        rows[name] = _row(measure, found, count)
        shown[name] = next(read_images(found.path, view.compared))
        if found.stopped:
            distance = proximal_distance(study.store, study.extractor, count, study.recipe.seed)
            rows[name]["proximal"] = _proximal(distance, found)
            stops = [
                {"stop": stop, **_row(measure, early, count), "proximal": _proximal(distance, early)}
                for stop, early in found.stopped.items()
            ]
            rows[f"{name}-stopped"] = best = min(stops, key=lambda row: row["proximal"])
            rows[name]["stops"] = stops
            shown[f"{name}-stopped"] = next(read_images(found.stopped[best["stop"]].path, view.compared))
    others = _other_references(study, references, count)
    if others is not None:
        rows["floor"] = measure([others])
    summary = {
        "recipe": study.recipe.name,
        "seed": study.recipe.seed,
        "features": params.features,
        "n": count,
        **rows,
    }
    write_json(study.out / "summary.json", summary)
    rows_shown = {name: some[spread(len(some), view.compared)] for name, some in shown.items()}
    view.comparison(rows_shown, measure.reference.window, study.out / "figure.png", study.recipe.title)
    study.console.print(summary_table(summary))
    study.console.print(
        f"figure: {study.out / 'figure.png'}\nnumbers: {study.out / 'summary.json'}", highlight=False
    )
    for line in study.recipe.next:
        study.console.print(f"next: {line}", highlight=False)
    return summary


def _row(measure: _Measure, found: Sampled, count: int) -> dict[str, Any]:
    """Distances of sampled images, and what they cost."""
    return {
        **measure(list(read_images(found.path))),
        "seconds_per_1000": 1000 * found.seconds / count,
        "evaluations": found.evaluations,
    }


def _proximal(distance: ProximalDistance, found: Sampled) -> float:
    """The selection metric of sampled images."""
    return distance(lambda _: read_images(found.path))


@dataclass(frozen=True)
class _Measure:
    """The numbers of a set of images: Fréchet distance, and closeness in image space where it is wanted."""

    reference: Reference
    references: References
    radius: float | None

    def __call__(self, batches: list[Tensor]) -> dict[str, float]:
        found = {"fd": self.reference.distance(batches)}
        if self.radius is not None:
            found |= closeness(torch.cat(batches), self._truth, self.radius)
        return found

    @cached_property
    def _truth(self) -> Tensor:
        """All references of the split."""
        return self.references.images(list(range(len(self.references))))


def spread(available: int, wanted: int) -> list[int]:
    """``wanted`` indices evenly over ``available`` items, or all of them."""
    if wanted >= available:
        return list(range(available))
    return [int(i) for i in torch.linspace(0, available - 1, wanted, dtype=torch.float64).round()]


def _other_references(study: Study, references: References, count: int) -> Tensor | None:
    """Clean images of another part of the data: how close another sample of the truth comes."""
    parts = sorted(references.parts - {study.recipe.evaluate.split}, key=lambda part: (part != "train", part))
    if not parts:
        return None
    others = open_reference(study.reference_folder, parts[0])
    return others.images(spread(len(others), count)) if len(others) > 1 else None


def _samplers(study: Study) -> dict[str, TeacherSampler | StudentSampler]:
    """The teacher by each of its samplers, then the student."""
    store = study.store_folder
    samplers = {
        name: sampler_of(study.teacher_folder, store, reverse, BATCH)
        for name, reverse in study.recipe.evaluate.teachers.items()
    }
    samplers["student"] = sampler_of(study.student_folder, store, {}, BATCH)
    for sampler in samplers.values():
        sampler.to(study.fabric.device)
    return samplers


@dataclass(frozen=True)
class Sampled:
    """A file of images, the seconds that it took (of all processes together), evaluations per image.

    Attributes:
        stopped: the images of stopped trajectories, by the noise level.
    """

    path: Path
    seconds: float
    evaluations: int
    stopped: dict[float, Sampled] = field(default_factory=dict)


def sample(study: Study, name: str, sampler: TeacherSampler | StudentSampler, count: int) -> Sampled:
    """Images of seeds 0 ... count - 1 in a stage of their own; those of ``teacher`` with its stops.

    All stops come from one trajectory. The seconds of each are its share of the network evaluations.
    """
    folder = study.out / "samples" / name
    timing = folder / "seconds.json"
    stops: dict[float, int] = {}
    if isinstance(sampler, TeacherSampler) and name == "teacher":
        stops = sampler.early(study.recipe.evaluate.stops)
    files = {stop: folder / f"images-{stop:g}.h5" for stop in stops}
    path = folder / "images.h5"

    def make(some: list[int]) -> Iterator[Tensor]:
        return sampler.ladder(some, list(stops)) if isinstance(sampler, TeacherSampler) else sampler(some)

    def work() -> None:
        alone(lambda: forget(path))
        start = time.perf_counter()
        channels, height, width = sampler.shape
        shape = ((len(stops) + 1) * channels, height, width)
        parts = Parts(path, settings, wanted, BATCH, shape, complex_valued=sampler.complex_valued)
        parts.make(make, f"sampling {name}")
        seconds = total([time.perf_counter() - start])[0]

        def collect() -> None:
            for number, file in enumerate([*files.values(), path]):
                part = slice(number * channels, (number + 1) * channels)
                write_images(file, wanted, (images[:, part] for images in parts.read()))
            write_json(timing, seconds)
            forget(path)

        alone(collect)

    wanted = list(range(count))
    reverse = study.recipe.evaluate.teachers.get(name)
    model = study.fingerprint("student" if reverse is None else "teacher")
    settings: dict[str, Any] = {"model": model, "count": count}
    if reverse is not None:
        settings |= {"sampler": reverse, "stops": list(stops)}
    Stage(f"samples of the {name}", folder, settings).run(work, study.console)
    seconds = float(json.loads(timing.read_text(encoding="utf-8")))
    each = seconds / (sampler.evaluations + len(stops) * sampler.last)
    stopped = {stop: Sampled(files[stop], spent * each, spent) for stop, spent in stops.items()}
    return Sampled(path, sampler.evaluations * each, sampler.evaluations, stopped)
