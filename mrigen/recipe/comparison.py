"""Distances of sample files from a reference folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mrigen.data.images import count_images, read_images
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import extractor
from mrigen.metrics.reference import open_reference


def compare(samples: list[Path], reference: Path, split: str, features: str) -> list[dict[str, Any]]:
    """One row per file: its name, distance, number of samples and of references.

    Raises:
        UsageError: a file without images, no references, or unknown features.
    """
    counts = [count_images(path) for path in samples]
    store = open_reference(reference, split)
    base = Reference.of(store.images(list(range(len(store)))), extractor(features))
    return [
        {"samples": str(path), "fd": base.distance(read_images(path)), "n": n, "references": len(store)}
        for path, n in zip(samples, counts, strict=True)
    ]
