"""The last stage: observations, teacher and student against held-out references."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrigen import ranks
from mrigen.data.images import read_images, write_images
from mrigen.engine.footprint import batch_that_fits
from mrigen.engine.processes import all_reduce_sum, on_rank_zero
from mrigen.engine.resumable import ResumableSampling, discard
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.distance import Reference
from mrigen.metrics.memorisation import copied_share, distance_and_coverage
from mrigen.metrics.principal import MOST, PrincipalComponents
from mrigen.metrics.proximal import ProximalDistance
from mrigen.metrics.reference import References, open_reference
from mrigen.metrics.rendering import magnitude_window
from mrigen.metrics.scores import METRICS, FeaturePair, of_features
from mrigen.metrics.spectra import ImageStatistics
from mrigen.recipe.context import StudyContext
from mrigen.recipe.page import NAME as REPORT
from mrigen.recipe.page import write_page
from mrigen.recipe.selection import proximal_distance
from mrigen.recipe.stages import Stage
from mrigen.report.figures import view_of
from mrigen.report.tables import summary_table
from mrigen.tensors import evenly_spaced

BATCH = 250
RESAMPLES = 100
TRAINING = 5000


def evaluate(study: StudyContext) -> dict[str, Any]:
    """Sample, measure, draw and write ``summary.json``; what was sampled before is not sampled again.

    Several processes sample together; the first one measures, which is little beside sampling.
    """
    params = study.recipe.evaluate
    references, count = require_references(study)
    images = references.images(evenly_spaced(len(references), params.samples))
    samplers = _samplers(study)
    sampled = {name: sample(study, name, sampler, count) for name, sampler in samplers.items()}
    return on_rank_zero(lambda: _measured(study, references, images, count, sampled))


def require_references(study: StudyContext) -> tuple[References, int]:
    """The references that a study is evaluated with, and the number of images that are compared.

    Raises:
        UsageError: there are none in the split, too few to compare, or of another size than the data.
    """
    params, folder = study.recipe.evaluate, study.reference_folder
    try:
        references = open_reference(folder, params.split)
    except UsageError as error:
        mend = "prepare such a part (--split train=0.9,test=0.1) or set evaluate.split"
        raise UsageError(f"{error}; {mend}") from error
    count = min(params.samples, len(references), len(study.store))
    if count < 2:
        fewest = {
            "evaluate.samples": params.samples,
            f"references in split {params.split!r} of {folder}": len(references),
            f"measurements in {study.store_folder}": len(study.store),
        }
        name = min(fewest, key=lambda key: fewest[key])
        raise UsageError(f"{name}: {fewest[name]} is too few to evaluate with; give at least 2")
    if references.image_shape != study.store.image_shape:
        sizes = ["x".join(map(str, one.image_shape)) for one in (references, study.store)]
        raise UsageError(
            f"{folder}: references are of {sizes[0]}, and the data in {study.store_folder} of {sizes[1]}; "
            "prepare both together"
        )
    return references, count


def _measured(
    study: StudyContext, references: References, images: Tensor, count: int, sampled: dict[str, Sampled]
) -> dict[str, Any]:
    """The summary of observations, sampled images and references; written, drawn and shown."""
    params = study.recipe.evaluate
    measure = _Measure(study, images, references)
    copies = _Copies.of(study, references, images)
    batch = study.store.measurements(evenly_spaced(len(study.store), count))
    observed = batch.operator.as_image(batch.y)
    shown = {"reference": images, "zero-filled" if images.is_complex() else "observation": observed}
    view = view_of(references.image_shape)
    rows: dict[str, Any] = {"observation": measure("observation", observed)}
    for name, samples in sampled.items():
        rows[name] = _row(measure, copies, samples, count)
        shown[name] = next(read_images(samples.path, view.compared))
        if samples.stopped:
            distance = proximal_distance(study.store, study.extractor, count, study.recipe.seed)
            rows[name]["proximal"] = _proximal(distance, samples)
            stops = [
                {"stop": stop, **_row(measure, copies, early, count), "proximal": _proximal(distance, early)}
                for stop, early in samples.stopped.items()
            ]
            rows[f"{name}-stopped"] = best = min(stops, key=lambda row: row["proximal"])
            rows[name]["stops"] = stops
            shown[f"{name}-stopped"] = next(read_images(samples.stopped[best["stop"]].path, view.compared))
    for name in study.laps:
        rows[name]["proximal"] = study.lap_distance(name)
    others = _other_references(study, references, count)
    if others is not None:
        rows["floor"] = measure(str(references.folder), others)
    held_out = {} if measure.statistics is None else measure.statistics.held_out
    summary = {
        "recipe": study.recipe.name,
        "seed": study.recipe.seed,
        "settings": _fingerprint(study),
        "features": params.features,
        "n": count,
        "references": len(images),
        "held_out_references": held_out,
        **rows,
    }
    _keep_earlier(study, summary["settings"])
    write_json(study.out / "summary.json", summary)
    rows_shown = {
        name: image_seeds[evenly_spaced(len(image_seeds), view.compared)]
        for name, image_seeds in shown.items()
    }
    window = magnitude_window(images) if images.is_complex() else None
    view.comparison(rows_shown, window, study.out / "figure.png", study.recipe.title)
    study.console.print(summary_table(summary))
    study.console.print(
        f"figure: {study.out / 'figure.png'}\nnumbers: {study.out / 'summary.json'}\n"
        f"report: {write_page(study.out, study.out / REPORT)}",
        highlight=False,
    )
    for line in study.recipe.next:
        hint = re.sub(r"\bRUN\b", lambda _: shlex.quote(str(study.out)), line)
        study.console.print(f"next: {hint}", highlight=False, markup=False, soft_wrap=True)
    return summary


def _fingerprint(study: StudyContext) -> str:
    """Digest of everything that decides an evaluation's numbers."""
    settings = {
        "evaluate": study.recipe.evaluate.stage_settings("lap_sampler"),
        "seed": study.recipe.seed,
        "models": [model.fingerprint for model in (study.teacher, *study.laps.values(), study.student)],
        "references": str(study.reference_folder.absolute()),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def _keep_earlier(study: StudyContext, settings: str) -> None:
    """Put numbers and figure of an evaluation with other settings aside, under the digest of those."""
    summary = study.out / "summary.json"
    if not summary.is_file():
        return
    try:
        before = json.loads(summary.read_text(encoding="utf-8")).get("settings") or "earlier"
    except (ValueError, AttributeError):
        before = "damaged"
    if before == settings:
        return
    for path in (summary, study.out / "figure.png"):
        if path.is_file():
            path.replace(path.with_stem(f"{path.stem}.{before}"))
    kept = summary.with_stem(f"{summary.stem}.{before}")
    study.console.print(f"the evaluation with other settings is kept: {kept}", highlight=False, markup=False)


def _row(measure: _Measure, copies: _Copies | None, samples: Sampled, count: int) -> dict[str, Any]:
    """The numbers of sampled images, and what they cost."""
    images = torch.cat(list(read_images(samples.path)))
    return {
        **measure(str(samples.path), images),
        **({} if copies is None else copies(images)),
        "seconds_per_1000": 1000 * samples.seconds / count,
        "evaluations": samples.evaluations,
    }


def _proximal(distance: ProximalDistance, samples: Sampled) -> float:
    """The selection metric of sampled images."""
    return distance(lambda _: read_images(samples.path))


class _Measure:
    """The numbers of a set of images against references.

    Args:
        study: whose feature spaces are taken, the first for ``fd``.
        images: references.
        references: where they come from.
    """

    def __init__(self, study: StudyContext, images: Tensor, references: References) -> None:
        self._spaces = {name: Reference.of(images, each) for name, each in study.extractors.items()}
        self.statistics = ImageStatistics.of(images)
        self._references, self._radius = references, study.recipe.evaluate.radius
        self._seed = study.recipe.seed

    def __call__(self, name: str, images: Tensor) -> dict[str, Any]:
        """Fréchet distances, spectra and energy with intervals, and closeness where it is wanted.

        Raises:
            UsageError: pixels that are not finite.
        """
        if not bool(images.isfinite().all()):
            raise UsageError(f"{name}: has images with pixels that are not finite; the training diverged")
        row: dict[str, Any] = {}
        for features, reference in self._spaces.items():
            compared = FeaturePair(
                reference.features_of(images.split(BATCH)), reference, RESAMPLES, self._seed
            )
            distances = METRICS["fd"]().compute(compared)
            row |= of_features(distances, "fd", features) if row else distances
        if self.statistics is not None:
            row |= self.statistics.row(images.split(BATCH), RESAMPLES, self._seed)
        if self._radius is not None:
            row |= distance_and_coverage(images, self._truth, self._radius)
        return row

    @cached_property
    def _truth(self) -> Tensor:
        """All references of the split."""
        return self._references.images(list(range(len(self._references))))


@dataclass(frozen=True)
class _Copies:
    """How many images are copies of clean training images, by principal components of references.

    Attributes:
        components: of the references.
        training: features of clean training images.
        unseen: those of the references.
    """

    components: PrincipalComponents
    training: Tensor
    unseen: Tensor

    @classmethod
    def of(cls, study: StudyContext, references: References, images: Tensor) -> _Copies | None:
        """Of the training part of the references, at most 5,000 evenly over it; None where it has none."""
        if "train" not in references.parts - {study.recipe.evaluate.split}:
            return None
        training = open_reference(study.reference_folder, "train")
        components = PrincipalComponents.of(images[evenly_spaced(len(images), MOST)])
        taken = evenly_spaced(len(training), TRAINING)
        features = [
            components.features(training.images(taken[i : i + BATCH])) for i in range(0, len(taken), BATCH)
        ]
        return cls(components, torch.cat(features), components.features(images))

    def __call__(self, images: Tensor) -> dict[str, float]:
        return {"copied_share": copied_share(self.components.features(images), self.training, self.unseen)}


def _other_references(study: StudyContext, references: References, count: int) -> Tensor | None:
    """Clean images of another part of the data: how close another sample of the truth comes."""
    parts = sorted(references.parts - {study.recipe.evaluate.split}, key=lambda part: (part != "train", part))
    if not parts:
        return None
    others = open_reference(study.reference_folder, parts[0])
    return others.images(evenly_spaced(len(others), count)) if len(others) > 1 else None


def _samplers(study: StudyContext) -> dict[str, TeacherSampler | StudentSampler]:
    """The teacher by each of its samplers, the laps by theirs, then the student."""
    batch = BATCH
    if ranks.world_size() == 1:
        described = study.teacher.description
        batch = batch_that_fits(described, study.store.image_shape, study.fabric.device, BATCH)
    samplers = {
        name: study.teacher.sampler(study.store, reverse, batch)
        for name, reverse in study.recipe.evaluate.teachers.items()
    }
    for name, lap in study.laps.items():
        samplers[name] = lap.sampler(study.store, study.recipe.evaluate.of_laps, batch)
    samplers["student"] = study.student.sampler(study.store, batch=batch)
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


def sample(study: StudyContext, name: str, sampler: TeacherSampler | StudentSampler, count: int) -> Sampled:
    """Images of seeds 0 ... count - 1 in a stage of their own; those of ``teacher`` with its stops.

    Samples of an evaluation with other settings stay in their folder. All stops come from one trajectory; the
    seconds of each are its share of the network evaluations.
    """
    stops: dict[float, int] = {}
    if isinstance(sampler, TeacherSampler) and name == "teacher":
        stops = sampler.early(study.recipe.evaluate.stops)
    indices = list(range(count))
    params = study.recipe.evaluate
    reverse = params.of_laps if name in study.laps else params.teachers.get(name)
    model = study.student if reverse is None else study.laps.get(name, study.teacher)
    settings: dict[str, Any] = {"model": model.fingerprint, "count": count}
    if reverse is not None:
        settings |= {"sampler": reverse, "stops": list(stops)}
    stage = Stage(f"samples of the {name}", study.out / "samples" / name, settings).beside()
    folder = stage.folder
    timing = folder / "seconds.json"
    files = {stop: folder / f"images-{stop:g}.h5" for stop in stops}
    path = folder / "images.h5"

    def make(image_seeds: list[int]) -> Iterator[Tensor]:
        return (
            sampler.ladder(image_seeds, list(stops))
            if isinstance(sampler, TeacherSampler)
            else sampler(image_seeds)
        )

    def work() -> None:
        on_rank_zero(lambda: discard(path))
        start = time.perf_counter()
        channels, height, width = sampler.shape
        shape = ((len(stops) + 1) * channels, height, width)
        batch, complex_valued = sampler.batch, sampler.complex_valued
        parts = ResumableSampling(path, settings, indices, batch, shape, complex_valued=complex_valued)
        parts.make(make, f"sampling {name}")
        seconds = all_reduce_sum([time.perf_counter() - start])[0]

        def collect() -> None:
            for number, file in enumerate([*files.values(), path]):
                part = slice(number * channels, (number + 1) * channels)
                write_images(file, indices, (images[:, part] for images in parts.read()))
            write_json(timing, seconds)
            discard(path)

        on_rank_zero(collect)

    stage.run(work, study.console)
    seconds = float(json.loads(timing.read_text(encoding="utf-8")))
    each = seconds / (sampler.evaluations + len(stops) * sampler.last)
    stopped = {stop: Sampled(files[stop], spent * each, spent) for stop, spent in stops.items()}
    return Sampled(path, sampler.evaluations * each, sampler.evaluations, stopped)
