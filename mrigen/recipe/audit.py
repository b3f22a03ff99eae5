"""The memorisation audit of sample files: numbers, histogram and pairs in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrigen.data.images import ImageSet, open_images
from mrigen.data.manifest import NAME as MANIFEST
from mrigen.data.stores import open_store
from mrigen.engine.launch import choose_device
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.features import FittedExtractor, extractor
from mrigen.metrics.memorisation import (
    CleanTraining,
    FeatureSearch,
    FeatureSimilarity,
    MeasurementSearch,
    Pair,
    Similarity,
    Training,
    correlation,
    top_pairs,
)
from mrigen.metrics.rendering import Rendering, magnitude_window
from mrigen.progress import bar
from mrigen.recipe.comparison import require_alike
from mrigen.report.figures import comparison, histogram

CORRELATION = "correlation"
SHOWN = 10
BATCH = 64
QUANTILES = (0.5, 0.9, 0.99)


def audit(
    samples: Path,
    data: Path,
    out: Path,
    baseline: Path | None = None,
    features: str = CORRELATION,
    weights: Path | None = None,
    *,
    download: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Find the nearest training measurement of each sample; writes ``audit.json`` and two figures.

    Args:
        samples: generated images.
        data: measurement store that the model was trained on, or clean training images of any kind.
        out: folder for the results.
        baseline: images that no model was trained on, to compare with.
        features: ``correlation``, or a feature extractor whose cosine decides: among all of them where the
            training data are clean images, among 8 candidates of the correlation where they are measurements.
        weights: file of the extractor's weights.
        download: fetch them where they are missing.
        device: where features are computed.

    Raises:
        UsageError: images unlike the data, operators that are not linear, missing weights.
    """
    sets = {"samples": open_images(samples)}
    if baseline is not None:
        sets["baseline"] = open_images(baseline)
    training, like = _training(data)
    for pool in sets.values():
        require_alike(pool, like)
    window = None
    if like.complex_valued:
        first = training.measurements(list(range(min(BATCH, len(training)))))
        window = magnitude_window(first.operator.as_image(first.y))
    similarity: Similarity = correlation
    nearest: MeasurementSearch | FeatureSearch | None = None
    if features != CORRELATION:
        taken = extractor(features, weights, download=download)
        if isinstance(taken, FittedExtractor):
            raise UsageError(
                f"--features {features}: needs references, which an audit has none of; choose another"
            )
        taken.to(choose_device(device))
        similarity = FeatureSimilarity(taken, Rendering(window))
        if isinstance(training, CleanTraining):
            nearest = FeatureSearch(like, taken, Rendering(window))
    elif weights is not None or download:
        raise UsageError(f"weights: --features {CORRELATION} needs none; add --features dinov2 or leave them")
    nearest = nearest or MeasurementSearch(training)
    pairs: dict[str, list[Pair]] = {}
    for name, pool in sets.items():
        with bar(f"nearest of {name}", len(pool), "img") as advance:
            pairs[name] = []
            for pair in top_pairs(pool.read(BATCH), nearest, similarity):
                pairs[name].append(pair)
                advance()
    summary = {
        "samples": str(samples),
        "data": str(data),
        "training": len(training),
        "similarity": features,
        **{name: _summary(matches) for name, matches in pairs.items()},
        "pairs": [_words(pair) for pair in pairs["samples"]],
    }
    write_json(out / "audit.json", summary)
    numbers = {name: [pair.similarity for pair in matches] for name, matches in pairs.items()}
    histogram(numbers, out / "histogram.png", "Nearest training measurement", f"similarity ({features})")
    _show(pairs["samples"], sets["samples"], window, out / "pairs.png")
    return summary


def _training(data: Path) -> tuple[Training, ImageSet]:
    """What to search, and a pool that tells the shape and kind of its images."""
    if not (data / MANIFEST).is_file():
        pool = open_images(data)
        return CleanTraining(pool), pool
    store = open_store(data)
    shape = ImageSet(
        str(data), len(store), store.image_shape, store.complex_valued, lambda _, __: torch.empty(0)
    )
    return store, shape


def _summary(pairs: list[Pair]) -> dict[str, Any]:
    values = np.array([pair.similarity for pair in pairs])
    return {
        "n": len(values),
        "mean": float(values.mean()),
        **{f"quantile_{q:g}": float(np.quantile(values, q)) for q in QUANTILES},
        "largest": float(values.max()),
    }


def _words(pair: Pair) -> dict[str, Any]:
    match = pair.match
    return {
        "image": pair.image,
        "training": match.index,
        "similarity": pair.similarity,
        "mirrored": match.mirrored,
        "shift": list(match.shift),
    }


def _show(pairs: list[Pair], pool: ImageSet, window: float | None, path: Path) -> None:
    """The most similar pairs: the image, what the training operator shows of it, and the measurement."""
    best = sorted(pairs, key=lambda pair: -pair.similarity)[:SHOWN]
    rows = {
        "sample": torch.cat([pool.take(pair.image, pair.image + 1) for pair in best]),
        "its measurement": torch.stack([pair.match.masked for pair in best]),
        "nearest training\nmeasurement": torch.stack([pair.match.measured for pair in best]),
    }
    comparison(rows, window, path, "Most similar pairs")
