"""Copies of training images against the corruption: the nearest of all (Ambient Diffusion, figures 6 and 8).

    python -m benchmarks.memorisation --work runs/memorisation --figure copies.png

Teachers of so few digits that EDM on clean ones can learn them by heart; of others p of the pixels are
missing, and Ambient Diffusion learns from what is left. All have the same digits, network, optimiser and
number of images seen. Every generated digit is compared with all clean training digits: the largest cosine of
features, its histogram beside that of digits that nobody was trained on, the share of digits that are nearer
to a training digit than 99 % of these, and, for what a model that copies nothing may have got wrong instead,
the Fréchet distance from unseen digits. Features are ``pca`` (48 components of unseen digits) or others of
``mrigen evaluate``; with ``dinov2`` the similarity is the paper's. Rows are printed and appended to
``--json`` as they are ready; the same command continues what was interrupted. ``--smoke`` tries everything at
its smallest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, several, whole
from benchmarks.heads import keep_row, known_rows, spent, taken
from benchmarks.method_stages import HEUN, STANDARD
from rich.console import Console
from torch import Tensor
from torch.nn.functional import normalize

from mrigen import recipe as recipes
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import FEATURES, extractor
from mrigen.metrics.frechet import frechet_distance, statistics
from mrigen.metrics.memorisation import copied_share
from mrigen.metrics.reference import open_reference
from mrigen.model import Model
from mrigen.recipe.study import Study

UNSEEN = "unseen digits"
ALIKE = (0.9, 0.95)
BINS, LEAST = 40, 0.0
COMMON = ("features", "n", "seed", "changes", "smoke")
SMOKE = ["teacher.network={name: mlp, hidden: 16, num_blocks: 1}", "evaluate.sampler={name: heun, steps: 3}"]

Rows = dict[str, Callable[[], dict[str, Any]]]


def fraction(text: str) -> float:
    """A number between 0 and 1, 1 excluded."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no fraction of the pixels below 1")
    return value


def nearest_cosine(features: Tensor, training: Tensor) -> Tensor:
    """Largest cosine (n,) of each row of features (n, d) with rows of the training set's (m, d)."""
    return (normalize(features.double(), dim=1) @ normalize(training.double(), dim=1).T).amax(1)


def similarity(features: Tensor, training: Tensor, unseen: Tensor) -> dict[str, Any]:
    """How alike generated images are to the training images.

    Args:
        features: (n, d) of generated images.
        training: (m, d) of training images.
        unseen: (k, d) of images that nothing was trained on.
    """
    cosine = nearest_cosine(features, training)
    counts = torch.histc(cosine.clamp(min=LEAST, max=1), BINS, LEAST, 1)
    return {
        "n": len(cosine),
        "mean": float(cosine.mean()),
        "median": float(cosine.median()),
        **{f"above_{level:g}": float((cosine > level).double().mean()) for level in ALIKE},
        "copied_share": copied_share(features, training, unseen),
        "histogram": (counts / len(cosine)).tolist(),
    }


def features_of(images: Tensor, reference: Reference) -> Tensor:
    """Features (n, d) of images, as the references are seen."""
    return reference.features_of(images.split(256))[reference.extractor.layer("fid")]


def copies(features: Tensor, training: Tensor, unseen: Tensor, reference: Reference) -> dict[str, Any]:
    """The numbers of a row: similarity to the training images, distance from the references.

    Args:
        features: (n, d) of generated images.
        training: (m, d) of training images.
        unseen: (k, d) of images that nothing was trained on.
        reference: other such images.
    """
    distance = frechet_distance(statistics(features), reference.statistics)
    return {"training": len(training), **similarity(features, training, unseen), "distance": distance}


class Memorisation:
    """Teachers of the same few digits, and what they copy.

    Args:
        arguments: of the command.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.clean = self.study(0.0)
        self.clean.prepare()
        parts = {part: open_reference(self.clean.reference_folder, part) for part in ("train", "test")}
        self.training, others = (each.images(list(range(len(each)))) for each in parts.values())
        self.reference = Reference.of(others[::2], extractor(arguments.features, arguments.weights))
        self.unseen = features_of(others[1::2], self.reference)

    def study(self, missing: float) -> Study:
        """The training of a row."""
        options = self.arguments
        own = recipes.load("toy/digits-inpaint", options.changes)
        scale = options.images / own.teacher.images
        operator = f"{{name: inpainting, missing: {missing:g}}}" if missing else "{name: identity}"
        changes = [
            HEUN,
            *(SMOKE if options.smoke else []),
            *options.changes,
            *([] if missing else [STANDARD]),
            f"data.images.operator={operator}",
            f"data.images.split={{train: {options.share:g}, test: {1 - options.share:g}}}",
            f"teacher.images={options.images}",
            f"teacher.optimizer.ramp_images={round(scale * own.teacher.optimizer.ramp_images)}",
            f"teacher.ema_halflife={max(1.0, scale * own.teacher.ema_halflife)}",
            f"seed={options.seed}",
        ]
        recipe = recipes.load("toy/digits-inpaint", changes)
        return Study(recipe, options.work / f"p-{missing:g}", Console(stderr=True), "cpu")

    def row(self, missing: float | None) -> dict[str, Any]:
        """A finished row; None for digits that nothing was trained on."""
        training = features_of(self.training, self.reference)
        if missing is None:
            features, seconds = self.unseen, {}
        else:
            study = self.study(missing)
            record = study.out / "seconds.json"
            with spent(record, "cpu"):
                study.prepare()
                study.train()
            sampler = Model.load(study.teacher_folder).sampler(
                study.store, study.recipe.evaluate.sampler, 250
            )
            images = torch.cat(list(sampler(list(range(self.arguments.n)))))
            features = features_of(images, self.reference)
            seconds = {"seconds": taken(record)}
        return {**copies(features, training, self.unseen, self.reference), **seconds}


def table(rows: list[dict[str, Any]]) -> str:
    """Similarity of the nearest training image, copies and distance from unseen images."""
    lines = [
        "| | similarity, mean | median | above 0.9 | above 0.95 | copied share | distance | n | training s |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        cells = [f"{row[key]:.3f}" for key in ("mean", "median", "above_0.9", "above_0.95", "copied_share")]
        seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
        numbers = " | ".join([*cells, f"{row['distance']:.2f}", str(row["n"]), seconds])
        lines.append(f"| {row['row']} | {numbers} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel of similarities per model, over those of unseen images in grey."""
    from matplotlib.figure import Figure

    from mrigen.report.figures import save

    others = next((row for row in rows if row["row"] == UNSEEN), None)
    models = [row for row in rows if row["row"] != UNSEEN]
    figure = Figure(figsize=(2.4 * len(models), 2.6), layout="constrained")
    edges = torch.linspace(LEAST, 1, BINS + 1).tolist()
    for axes, row in zip(figure.subplots(1, len(models), sharey=True, squeeze=False)[0], models, strict=True):
        if others is not None:
            axes.stairs(others["histogram"], edges, fill=True, color="0.8", label=UNSEEN)
        axes.stairs(row["histogram"], edges, color="C3", label="generated")
        axes.set_title(f"{row['row']}\ncopied share {row['copied_share']:.2f}", fontsize=9)
        axes.set_xlabel("similarity", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    save(figure, path)


def options(parser: argparse.ArgumentParser, count: int, work: str) -> None:
    """The options of programs that count copies."""
    parser.add_argument("--n", type=several, default=count, help="generated images of each row")
    parser.add_argument("--features", choices=FEATURES, default="pca")
    parser.add_argument("--weights", type=Path, help="file of the features' weights, where they need one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(work))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--json", type=new_file, help="rows, one a line")
    parser.add_argument("--figure", type=new_file)
    parser.add_argument("--smoke", action="store_true", help="everything at its smallest")


def print_rows(arguments: argparse.Namespace, keys: tuple[str, ...], make: Callable[[], Rows]) -> None:
    """Rows that are known, others as they are ready, then the table and the figure.

    Args:
        arguments: of the command.
        keys: of those that decide a row, beside the common ones.
        make: prepares what all rows share; returns a function for every row by its name.
    """
    extractor(arguments.features, arguments.weights)
    path = arguments.json or arguments.work / "rows.jsonl"
    settings = {key: getattr(arguments, key) for key in (*keys, *COMMON)}
    rows, makers = known_rows(path, settings), make()
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, row_of in makers.items():
        if name not in {row["row"] for row in rows}:
            row = {"row": name, **row_of(), "settings": settings}
            rows.append(row)
            print(f"{name}: similarity {row['mean']:.3f}, copied share {row['copied_share']:.3f}", flush=True)
            keep_row(path, row)
    print(table(rows))
    if arguments.figure:
        draw(rows, arguments.figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--missing", type=fraction, nargs="+", default=[0.0, 0.2, 0.4, 0.6, 0.8], metavar="P")
    parser.add_argument("--share", type=fraction, default=0.06, help="of the digits that is trained on")
    parser.add_argument("--images", type=whole, default=128_000, help="seen in each training")
    options(parser, 1000, "runs/memorisation")
    arguments = parser.parse_args()
    if not arguments.share:
        parser.error("--share 0: nothing is left to train on; give a number above 0")
    if arguments.smoke:
        arguments.missing, arguments.images, arguments.n = [0.0, 0.6], 512, 16

    def make() -> Rows:
        work = Memorisation(arguments)
        rows = {UNSEEN: None, **{f"p = {p:g}": p for p in arguments.missing}}
        return {name: partial(work.row, missing) for name, missing in rows.items()}

    print_rows(arguments, ("share", "images"), make)


if __name__ == "__main__":
    one_line(main)
