"""How a Fréchet distance depends on the number n of images, the images being the same.

    python -m benchmarks.sample_size --json sample-size.json
    python -m benchmarks.sample_size --images train.zip --features pca r64 --counts 100 1000 5000

A set is cut into two halves: references, and images of the same law, whose distance is 0 but for chance, as
they are and blurred by one pixel. Of both, n images are drawn from their half without replacement several
times and compared with all references. The mean distance falls with n like d + c / n: a line in 1 / n
through the counts up to ``--fitted`` says what it would be for n → ∞ (Chong and Forsyth 2020), and can be
held against the distance at the largest n, which the line has not seen. Without ``--images`` the set are
simulated slices of the bundled head, 32 x 32.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import existing, new_file, several, whole
from benchmarks.metric_ladder import heads
from scipy.ndimage import gaussian_filter
from torch import Tensor

from mrigen import seeds
from mrigen.data.images import open_images
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import DEFAULT, extractors
from mrigen.metrics.frechet import Statistics, frechet_distance, statistics
from mrigen.tensors import evenly_spaced

BLUR = 1.0


def blurred(images: Tensor) -> Tensor:
    """Real or complex images, Gaussian blur of one pixel."""
    if images.is_complex():
        return torch.complex(blurred(images.real), blurred(images.imag))
    return torch.from_numpy(gaussian_filter(images.numpy(), (0, 0, BLUR, BLUR)))


def at_infinity(counts: list[int], distances: list[float]) -> float:
    """Intercept of the line through distances against 1 / n, by least squares."""
    return float(np.polyfit([1 / count for count in counts], distances, 1)[1])


def distances(
    features: Tensor, reference: Statistics, counts: list[int], draws: int, rng: torch.Generator
) -> list[list[float]]:
    """Distances of random subsets of n rows of features (N, d), several of each n; n = N once."""
    results = []
    for count in counts:
        times = 1 if count == len(features) else draws
        subsets = [torch.randperm(len(features), generator=rng)[:count] for _ in range(times)]
        results.append([frechet_distance(statistics(features[rows]), reference) for rows in subsets])
    return results


def measured(
    images: Tensor, features: list[str], counts: list[int], draws: int, fitted: int
) -> list[dict[str, Any]]:
    """Rows of all feature spaces, of images (2 N, C, H, W) as they are and blurred."""
    references, others = images[::2], images[1::2]
    rows = []
    for name, space in extractors(features).items():
        reference = Reference.of(references, space)
        for kind, shown in {"same law": others, "blurred by one pixel": blurred(others)}.items():
            taken = reference.features_of(shown.split(256))[space.layer("fid")]
            rng = seeds.seeded_rng(0, "sample size", name, kind)
            results = distances(taken, reference.statistics, counts, draws, rng)
            means = [float(np.mean(values)) for values in results]
            small = [at for at, count in enumerate(counts) if count <= fitted]
            row = {
                "features": name,
                "images": kind,
                "counts": counts,
                "mean": means,
                "deviation": [float(np.std(values, ddof=1)) if values[1:] else None for values in results],
                "fitted": fitted,
                "at_infinity": at_infinity([counts[at] for at in small], [means[at] for at in small]),
                "dimensions": taken.shape[1],
                "references": len(references),
            }
            rows.append(row)
            print(line_of(row), flush=True)
    return rows


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [
        f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"
        for mean, spread in zip(row["mean"], row["deviation"], strict=True)
    ]
    return f"| {row['features']} | {row['images']} | {' | '.join(cells)} | {row['at_infinity']:.3f} |"


def table(rows: list[dict[str, Any]]) -> str:
    """Distances against n, and the intercept of the line."""
    first = rows[0]
    counts = " | ".join(f"n = {count:,}" for count in first["counts"])
    head = f"| features | images | {counts} | n → ∞, from n ≤ {first['fitted']:,} |"
    return "\n".join([head, "|---" * (len(first["counts"]) + 3) + "|", *map(line_of, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=existing, help="images of any kind; at least twice the largest n")
    parser.add_argument("--counts", type=several, nargs="+", default=[100, 200, 500, 1000, 2000])
    parser.add_argument(
        "--fitted", type=several, default=500, help="largest n that the line is drawn through"
    )
    parser.add_argument("--draws", type=whole, default=10, help="subsets of each n")
    parser.add_argument("--features", nargs="+", default=list(DEFAULT))
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    counts = sorted(set(arguments.counts))
    if sum(count <= arguments.fitted for count in counts) < 2:
        raise UsageError(
            f"--fitted {arguments.fitted}: fewer than two of --counts are so small; give a larger number"
        )
    extractors(arguments.features)
    images = load(arguments.images, 2 * counts[-1])
    rows = measured(images, arguments.features, counts, arguments.draws, arguments.fitted)
    print(f"\n{table(rows)}")
    if arguments.json:
        write_json(arguments.json, rows)


def load(path: Path | None, count: int) -> Tensor:
    """So many images (n, C, H, W), evenly over a set, in random order.

    Raises:
        UsageError: the set has fewer.
    """
    if path is None:
        images = heads(count, 0)
    else:
        pool = open_images(path)
        if len(pool) < count:
            raise UsageError(
                f"--images {path}: has {len(pool)} images; give --counts of at most {len(pool) // 2}"
            )
        images = torch.cat([pool.take(at, at + 1) for at in evenly_spaced(len(pool), count)])
    return images[torch.randperm(len(images), generator=seeds.seeded_rng(0, "sample size", "order"))]


if __name__ == "__main__":
    one_line(main)
