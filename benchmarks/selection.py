"""Selection without clean data: what the proximal metric's choice costs, and what training images buy.

    python -m benchmarks.selection --recipe toy/digits-inpaint --set distill.selection.every_images=12800
        --json selection.json --figure benchmarks/figures/selection.png

One distillation keeps its generator at every measurement. Each is sampled and measured twice: against clean
references (the true distance) and, corrupted, against the corrupted training data (the proximal distance).
Regret is the true distance of the generator with the least proximal distance over the least true one, minus 1
(RSD, figures 4, 5 and 10). Intervals of 95 % come from drawing images anew, the same seeds for every
generator; that of Spearman's rank correlation also draws generators. References and training are not drawn.
The same command continues what was interrupted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.ablations import Ablations, one_line, parser
from benchmarks.arguments import new_file, whole_or_zero
from numpy.typing import NDArray
from scipy.stats import rankdata

from mrigen import seeds
from mrigen.data.images import open_images
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.distance import Reference, reference_of
from mrigen.metrics.features import extractor
from mrigen.metrics.frechet import frechet_distance, statistics
from mrigen.metrics.proximal import EmpiricalCorruption, corrupted_images, zero_filled_images
from mrigen.recipe.comparison import open_references
from mrigen.recipe.distillation import measured_folder
from mrigen.recipe.study import Study

Array = NDArray[np.float64]


def regret(true: Array, proximal: Array) -> float:
    """True distance of what the proximal metric picks, over the best there is, minus 1."""
    return float(true[proximal.argmin()] / true.min() - 1)


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's ρ; not a number where one of the two does not vary."""
    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (a, b))
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 0 else float("nan")


def centred(distances: Array) -> Array:
    """Bootstrapped distances (1 + sets, generators), the first the estimates, moved to have them as medians.

    Repeated images raise a Fréchet distance, which says nothing of its spread.
    """
    drawn = distances[1:]
    return distances[0] + drawn - np.median(drawn, axis=0)


def judged(true: Array, proximal: Array, seed: int = 0) -> dict[str, Any]:
    """Regret and rank correlation with intervals.

    Args:
        true: true distances (1 + sets, generators); the first row are the estimates.
        proximal: proximal distances of the same sets.
        seed: key of the draws of generators.
    """
    numbers: dict[str, Any] = {
        "regret": regret(true[0], proximal[0]),
        "rank_correlation": rank_correlation(true[0], proximal[0]),
    }
    if len(true) > 1:
        draws = np.random.default_rng(seed).integers(true.shape[1], size=(len(true) - 1, true.shape[1]))
        pairs = list(zip(centred(true), centred(proximal), strict=True))
        regrets = [regret(t, p) for t, p in pairs]
        ranks = [rank_correlation(t[i], p[i]) for (t, p), i in zip(pairs, draws, strict=True)]
        for name, values in (("regret", regrets), ("rank_correlation", ranks)):
            numbers[f"{name}_interval"] = np.nanquantile(values, [0.025, 0.975]).tolist()
    return numbers


class Distances:
    """True and proximal distance of sample files, and those of bootstrap sets of them."""

    def __init__(self, study: Study, resamples: int) -> None:
        params = study.recipe.evaluate
        taken = extractor(params.features[0], params.weights).to(study.fabric.device)
        self.references = reference_of(open_references(study.reference_folder, params.split), taken)
        self.data = reference_of(zero_filled_images(study.store), taken)
        self.corruption, self.seed, self.resamples = (
            EmpiricalCorruption(study.store),
            study.recipe.seed,
            resamples,
        )

    def true(self, path: Path) -> Array:
        """Distances (1 + sets,) from the references."""
        return self._drawn(self.references, self.references.features_of(open_images(path).read()))

    def proximal(self, path: Path) -> Array:
        """Distances (1 + sets,) of the corrupted samples from the corrupted training data."""
        seen = corrupted_images(open_images(path).read(), self.corruption, self.seed)
        return self._drawn(self.data, self.data.features_of(seen))

    def _drawn(self, reference: Reference, features: dict[str, Any]) -> Array:
        """The same draws of seeds for every file."""
        values = features[reference.extractor.layer("fid")].double().numpy()
        generator = np.random.default_rng(seeds.key(self.seed, "selection"))
        draws = generator.integers(len(values), size=(self.resamples, len(values)))
        sets = [np.arange(len(values)), *draws]
        return np.array([frechet_distance(statistics(values[i]), reference.statistics) for i in sets])


def run(work: Ablations, resamples: int) -> dict[str, Any]:
    """Teacher, student and its measured generators: all numbers."""
    work.teach()
    study = work.base
    study.distill()
    history = json.loads((study.out / "student" / "selection.json").read_text(encoding="utf-8"))
    points = [
        (at["images"], float(halflife), measured_folder(study.out / "student", at["images"], float(halflife)))
        for at in history["measured"]
        for halflife in at
        if halflife != "images"
    ]
    points = [point for point in points if point[2].is_dir()]
    if not points:
        raise UsageError(f"{study.out}: no generator was measured; set distill.selection.every_images")
    paths = [Path(work.sample(study, p[2], work.out / "samples" / p[2].name, 0.0)["path"]) for p in points]
    measure = Distances(study, resamples)
    teacher = measure.true(Path(work.teachers()[0]["path"]))
    true = np.stack([measure.true(path) for path in paths], axis=1)
    proximal = np.stack([measure.proximal(path) for path in paths], axis=1)
    rows = [
        {"images": images, "halflife": halflife, "true": float(t), "proximal": float(p)}
        for (images, halflife, _), t, p in zip(points, true[0], proximal[0], strict=True)
    ]
    kept = next(
        i for i, p in enumerate(points) if p[:2] == (history["images"], float(history["ema_halflife"]))
    )
    return {
        "recipe": work.name,
        "features": study.recipe.evaluate.features[0],
        "n": study.recipe.evaluate.samples,
        "resamples": resamples,
        "teacher": float(teacher[0]),
        "generators": rows,
        "picked": rows[int(proximal[0].argmin())],
        "best": rows[int(true[0].argmin())],
        "kept_by_the_run": rows[kept],
        "regret_of_the_run": float(true[0, kept] / true[0].min() - 1),
        **judged(true, proximal, study.recipe.seed),
    }


def table(results: dict[str, Any]) -> str:
    """One line per generator, then regret and rank correlation."""
    distance = f"Fréchet distance ({results['features']}, n = {results['n']})"
    lines = [
        f"{results['recipe']}: {distance}; teacher {results['teacher']:.3f}",
        "| images | half-life | true | proximal | |",
        "|---" * 5 + "|",
    ]
    for row in results["generators"]:
        words = [word for word in ("picked", "best") if row == results[word]]
        start = f"| {row['images']:,.0f} | {row['halflife']:,.0f}"
        lines.append(f"{start} | {row['true']:.3f} | {row['proximal']:.3f} | {', '.join(words)} |")
    for name, word, shown in (
        ("regret", "regret", ".1%"),
        ("rank_correlation", "Spearman's rank correlation", ".3f"),
    ):
        interval = results.get(f"{name}_interval")
        words = f"{word} {results[name]:{shown}}"
        lines.append(words + (f" [{interval[0]:{shown}}, {interval[1]:{shown}}]" if interval else ""))
    lines.append(f"regret of the generator that the run itself kept {results['regret_of_the_run']:.1%}")
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Distances against images seen with the teacher's level; proximal against true distance."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    from mrigen.report.figures import save

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows, picked = results["generators"], results["picked"]
    for halflife in sorted({row["halflife"] for row in rows}):
        points = [row for row in rows if row["halflife"] == halflife]
        for name in ("true", "proximal"):
            words = f"{name}, half-life {halflife:,.0f}"
            left.semilogy([r["images"] for r in points], [r[name] for r in points], "o-", ms=3, label=words)
    left.axhline(results["teacher"], color="k", ls="--", label="teacher, true")
    left.plot(picked["images"], picked["true"], "r*", ms=12, label="picked")
    left.set(xlabel="training images of the student", ylabel="Fréchet distance")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    right.loglog([r["proximal"] for r in rows], [r["true"] for r in rows], "o")
    for axis in (right.xaxis, right.yaxis):
        axis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    right.plot(picked["proximal"], picked["true"], "r*", ms=12)
    right.set(
        xlabel="proximal distance",
        ylabel="true distance",
        title=f"rank correlation {results['rank_correlation']:.2f}, regret {results['regret']:.1%}",
    )
    save(figure, path)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=Path("runs/selection"))
    options.add_argument(
        "--resamples", type=whole_or_zero, default=200, help="bootstrap sets; 0 for no intervals"
    )
    options.add_argument("--figure", type=new_file)
    arguments = options.parse_args()
    changes = [*arguments.changes, "distill.selection.keep=true"]
    results = run(Ablations(arguments.recipe, arguments.out, changes, arguments.device), arguments.resamples)
    print(table(results))
    if arguments.json:
        write_json(arguments.json, results)
    if arguments.figure:
        draw(results, arguments.figure)


if __name__ == "__main__":
    one_line(main)
