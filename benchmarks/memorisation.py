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
SMOKE = ["teacher.network={name: mlp, hidden: 16, num_blocks: 1}", "evaluate.sampler={name: heun, steps: 3}"]


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
        self.unseen = self.features(others[1::2])

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

    def features(self, images: Tensor) -> Tensor:
        """Features (n, d) of images, as the references are seen."""
        return self.reference.features_of(images.split(256))[self.reference.extractor.layer("fid")]

    def row(self, missing: float | None) -> dict[str, Any]:
        """A finished row; None for digits that nothing was trained on."""
        training = self.features(self.training)
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
            features = self.features(torch.cat(list(sampler(list(range(self.arguments.n))))))
            seconds = {"seconds": taken(record)}
        distance = frechet_distance(statistics(features), self.reference.statistics)
        alike = similarity(features, training, self.unseen)
        return {"training": len(training), **alike, "distance": distance, **seconds}


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--missing", type=fraction, nargs="+", default=[0.0, 0.2, 0.4, 0.6, 0.8], metavar="P")
    parser.add_argument("--share", type=fraction, default=0.06, help="of the digits that is trained on")
    parser.add_argument("--images", type=whole, default=128_000, help="seen in each training")
    parser.add_argument("--n", type=several, default=1000, help="generated digits of each row")
    parser.add_argument("--features", choices=FEATURES, default="pca")
    parser.add_argument("--weights", type=Path, help="file of the features' weights, where they need one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/memorisation"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--json", type=new_file, help="rows, one a line")
    parser.add_argument("--figure", type=new_file)
    parser.add_argument("--smoke", action="store_true", help="everything at its smallest")
    arguments = parser.parse_args()
    if not arguments.share:
        parser.error("--share 0: nothing is left to train on; give a number above 0")
    if arguments.smoke:
        arguments.missing, arguments.images, arguments.n = [0.0, 0.6], 512, 16
    extractor(arguments.features, arguments.weights)
    path = arguments.json or arguments.work / "rows.jsonl"
    keys = ("share", "images", "features", "n", "seed", "changes", "smoke")
    settings = {key: getattr(arguments, key) for key in keys}
    rows = known_rows(path, settings)
    work = Memorisation(arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, missing in {UNSEEN: None, **{f"p = {p:g}": p for p in arguments.missing}}.items():
        if name not in {row["row"] for row in rows}:
            row = {"row": name, **work.row(missing), "settings": settings}
            rows.append(row)
            print(f"{name}: similarity {row['mean']:.3f}, copied share {row['copied_share']:.3f}", flush=True)
            keep_row(path, row)
    print(table(rows))
    if arguments.figure:
        draw(rows, arguments.figure)


if __name__ == "__main__":
    one_line(main)
