"""Histograms of several sets in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mrigen.report.figures import save

BINS = 40


def histogram(sets: Mapping[str, Sequence[float]], path: Path, title: str, axis: str) -> None:
    """Fractions of each set per bin, over one range; written atomically as PNG.

    Args:
        sets: numbers by name.
        path: PNG file.
        title: above the figure.
        axis: what the numbers are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    everything = np.concatenate([np.asarray(values) for values in sets.values()])
    edges = np.linspace(everything.min(), max(everything.max(), everything.min() + 1e-6), BINS + 1)
    for name, values in sets.items():
        axes.hist(values, edges.tolist(), weights=[1 / len(values)] * len(values), alpha=0.6, label=name)
    axes.set_xlabel(axis)
    axes.set_ylabel("fraction")
    figure.legend(loc="outside right upper")
    figure.suptitle(title, fontsize=12)
    save(figure, path)
