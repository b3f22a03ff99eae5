"""Numbers of sample files: against references, and corrupted against the corrupted training data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrigen import plugins
from mrigen.data.images import ImageSet, open_images
from mrigen.data.manifest import NAME as MANIFEST
from mrigen.data.stores import open_store
from mrigen.engine.launch import choose_device
from mrigen.errors import UsageError
from mrigen.metrics.cache import Cache
from mrigen.metrics.distance import Reference, evenly_spread_images, reference_of
from mrigen.metrics.features import DEFAULT, AnyExtractor, extractors, network_of
from mrigen.metrics.proximal import EmpiricalCorruption, corrupted_images, zero_filled_images
from mrigen.metrics.reference import open_reference
from mrigen.metrics.rendering import magnitude_window
from mrigen.metrics.scores import FEW, METRICS, FeaturePair, Metric, of_features
from mrigen.metrics.scores import select_metrics as select
from mrigen.metrics.spectra import ImageStatistics
from mrigen.progress import bar, counted
from mrigen.report.figures import view_of
from mrigen.tensors import evenly_spaced

PROXIMAL = "proximal"
PAPER_SAMPLES = 100


@dataclass(frozen=True)
class Comparison:
    """How samples are measured.

    Attributes:
        metrics: names of metrics; ``proximal`` needs ``data``, the others ``reference``.
        reference: references, a folder of the preparation or images of any kind.
        split: part of prepared references.
        data: measurement store of the training data.
        features: feature spaces; numbers of all but the first have its name in theirs, as ``fd_r64``.
        weights: file of the weights of one of them.
        download: fetch them where they are missing.
        paper: raw float magnitudes, as the published MRI distances.
        samples: take so many from the start; None for all, or 100 in paper mode.
        resamples: bootstrap sets of an interval, 0 for none.
        seed: key of operators, noise and bootstrap.
        cache: where statistics of references are kept.
        device: where features are computed.
        figure: PNG file for some images of every set in the same grey window, the references first.
    """

    metrics: tuple[str, ...]
    reference: Path | None = None
    split: str = "test"
    data: Path | None = None
    features: tuple[str, ...] = DEFAULT
    weights: Path | None = None
    download: bool = False
    paper: bool = False
    samples: int | None = None
    resamples: int = 100
    seed: int = 0
    cache: Path | None = None
    device: str = "auto"
    figure: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together.

        Raises:
            UsageError: a metric without what it needs, or something given that none of them uses.
        """
        against = [name for name in self.metrics if name != PROXIMAL]
        if not self.metrics:
            raise UsageError("--metrics: none; give fd, or one of " + ", ".join([*METRICS.names(), PROXIMAL]))
        if bool(against) != (self.reference is not None):
            raise UsageError(
                f"--metrics {','.join(against)}: needs --reference DIR"
                if against
                else "--reference: not used by --metrics proximal; leave it out or add a metric such as fd"
            )
        if (PROXIMAL in self.metrics) != (self.data is not None):
            raise UsageError("--proximal and --data STORE belong together: give both or none")


def compare(samples: list[Path], settings: Comparison) -> list[dict[str, Any]]:
    """One row per file: its name, its numbers, the numbers of samples and of references, and warnings.

    Raises:
        UsageError: files without images or unlike the references, unknown metrics, missing weights.
    """
    pools = [taken_samples(open_images(path), settings) for path in samples]
    networks = [network_of(name) for name in settings.features]
    if settings.paper and not all(network.raw for network in networks):
        raise UsageError("--fid-mode paper: is a number of InceptionV3; add --features inception")
    metrics = select([name for name in settings.metrics if name != PROXIMAL], networks)
    spaces = extractors(settings.features, settings.weights, download=settings.download)
    device = choose_device(settings.device)
    spaces = {name: each.to(device) for name, each in spaces.items()}
    rows: list[dict[str, Any]] = [{"samples": pool.name, "n": len(pool)} for pool in pools]
    if settings.reference is not None:
        _against_references(rows, pools, metrics, spaces, settings)
    if settings.data is not None:
        _against_data(rows, pools, settings.data, spaces, settings)
    for row in rows:
        row["warnings"] = _warnings(row)
    if settings.figure is not None:
        _draw(pools, settings, settings.figure)
    return rows


def _draw(pools: list[ImageSet], settings: Comparison, path: Path) -> None:
    """Images of every set, evenly spread over it, in the grey window of the references or the first set."""
    named = [(Path(pool.name).stem, pool) for pool in pools]
    if settings.reference is not None:
        named = [("reference", open_references(settings.reference, settings.split)), *named]
    sets = dict(named)
    if len(sets) < len(named):
        sets = {pool.name: pool for _, pool in named}
    first = next(iter(sets.values()))
    view = view_of(first.shape)
    shown = {
        name: torch.cat([pool.take(i, i + 1) for i in evenly_spaced(len(pool), view.compared)])
        for name, pool in sets.items()
    }
    window = magnitude_window(evenly_spread_images(first)) if first.complex_valued else None
    view.comparison(shown, window, path, "")


def open_references(path: Path, split: str) -> ImageSet:
    """References that a preparation wrote, or images of any kind.

    Raises:
        UsageError: there are none.
    """
    if not (path / MANIFEST).is_file():
        return open_images(path)
    store = open_reference(path, split)
    complex_valued = store.images([0]).is_complex()
    return ImageSet(
        str(path), len(store), store.image_shape, complex_valued, lambda a, b: store.images(list(range(a, b)))
    )


def require_alike(pool: ImageSet, other: ImageSet) -> None:
    """Refuse to compare images of different size or kind.

    Raises:
        UsageError: they differ.
    """

    def words(images: ImageSet) -> str:
        return f"{'complex' if images.complex_valued else 'real'} {images.shape} (C, H, W)"

    if words(pool) != words(other):
        raise UsageError(f"{pool.name}: images are {words(pool)}, those of {other.name} are {words(other)}")


def taken_samples(pool: ImageSet, settings: Comparison) -> ImageSet:
    """The samples that are measured: the first so many, 100 in paper mode, otherwise all.

    Raises:
        UsageError: too few of them, or of the wrong kind.
    """
    count = settings.samples or (PAPER_SAMPLES if settings.paper else len(pool))
    if min(count, len(pool)) < 2:
        raise UsageError(f"{pool.name}: one image has no distance; sample more of them")
    if settings.samples and count > len(pool):
        raise UsageError(f"--samples {count}: {pool.name} has {len(pool)} images only")
    if settings.paper and not pool.complex_valued:
        raise UsageError(f"--fid-mode paper: is for complex MR images, {pool.name} has none")
    return pool.first(count)


def _against_references(
    rows: list[dict[str, Any]],
    pools: list[ImageSet],
    metrics: dict[str, Metric],
    spaces: dict[str, AnyExtractor],
    settings: Comparison,
) -> None:
    if settings.reference is None:
        return
    references = open_references(settings.reference, settings.split)
    for pool in pools:
        require_alike(pool, references)
    for row in rows:
        row["references"] = len(references)
    keep = any(metric.needs_features for metric in metrics.values())
    for name, taken in spaces.items():
        base = _reference(references, taken, settings, keep_features=keep)
        for row, pool in zip(rows, pools, strict=True):
            compared = _compared(pool.read(), pool, base, settings)
            for metric, each in metrics.items():
                if each.inception and not taken.network.scores:
                    continue
                values = numbers_of(each, metric, compared)
                row.update(of_features(values, metric, name) if row.keys() & values.keys() else values)
    numbers = _statistics(references) if "fd" in metrics and not settings.paper else None
    for row, pool in zip(rows, pools, strict=True):
        if numbers is not None:
            row.update(numbers.row(pool.read(), settings.resamples, settings.seed))
            row.update({f"references_{name}": value for name, value in numbers.held_out.items()})


def numbers_of(metric: Metric, name: str, compared: FeaturePair) -> dict[str, Any]:
    """The numbers of a metric; what goes wrong in a user's file is said in one line.

    Raises:
        UsageError: an error in the user's file.
    """
    if not plugins.is_file(name):
        return metric.compute(compared)
    with plugins.errors_named(plugins.split(name)[0], "computing the metric"):
        return metric.compute(compared)


def _statistics(references: ImageSet) -> ImageStatistics | None:
    """Statistics of references, of 1,000 evenly over more."""
    return ImageStatistics.of(evenly_spread_images(references))


def _against_data(
    rows: list[dict[str, Any]],
    pools: list[ImageSet],
    data: Path,
    spaces: dict[str, AnyExtractor],
    settings: Comparison,
) -> None:
    store = open_store(data)
    images = ImageSet(str(data), len(store), store.image_shape, store.complex_valued, lambda _, __: Tensor())
    for pool in pools:
        require_alike(pool, images)
    seen = zero_filled_images(store)
    corruption = EmpiricalCorruption(store)
    for features, taken in spaces.items():
        base = _reference(seen, taken, settings, keep_features=False)
        for row, pool in zip(rows, pools, strict=True):
            compared = _compared(
                corrupted_images(pool.read(), corruption, settings.seed), pool, base, settings
            )
            numbers = METRICS["fd"]().compute(compared)
            numbers = {name.replace("fd", PROXIMAL): value for name, value in numbers.items()}
            row.update(of_features(numbers, PROXIMAL, features) if PROXIMAL in row else numbers)
            row["observations"] = len(seen)


def _reference(
    pool: ImageSet, taken: AnyExtractor, settings: Comparison, *, keep_features: bool
) -> Reference:
    if len(pool) < 2:
        raise UsageError(f"{pool.name}: one image is no reference; prepare more")
    cache = None if settings.cache is None else Cache(settings.cache)
    with bar("reference", len(pool), "img") as advance:
        return reference_of(
            pool, taken, raw=settings.paper, keep_features=keep_features, cache=cache, advance=advance
        )


def _compared(
    batches: Iterable[Tensor], pool: ImageSet, base: Reference, settings: Comparison
) -> FeaturePair:
    with bar(pool.name, len(pool), "img") as advance:
        features = base.features_of(counted(_finite(batches, pool), advance))
    return FeaturePair(features, base, settings.resamples, settings.seed)


def _finite(batches: Iterable[Tensor], pool: ImageSet) -> Iterator[Tensor]:
    for batch in batches:
        if not bool(batch.isfinite().all()):
            raise UsageError(f"{pool.name}: has pixels that are not finite")
        yield batch


def _warnings(row: dict[str, Any]) -> list[str]:
    few = {
        f"{row[name]} {word}": row[name]
        for name, word in (("n", "samples"), ("references", "references"), ("observations", "observations"))
        if row.get(name, FEW) < FEW
    }
    words = f"{row['samples']}: {' and '.join(few)}, fewer than {FEW:,}: distances are biased upwards"
    return [f"{words}; compare them only at equal n"] if few else []
