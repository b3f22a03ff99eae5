"""The report of a run: what was done, curves, samples, nearest neighbours, table and command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from mrigen.errors import UsageError
from mrigen.files import sha256, write_text
from mrigen.recipe import health
from mrigen.report import html
from mrigen.report.tables import COLUMNS, FLOOR, distances

if TYPE_CHECKING:
    from torch import Tensor

    from mrigen.data.stores import Store

NAME = "report.html"
RECIPE, SUMMARY, LOG, SELECTION = "recipe.yaml", "summary.json", "log.jsonl", "selection.json"
SAMPLES, NEIGHBOURS = 24, 6
SEARCHED = 20_000_000  # pixels of the measurements that neighbours are looked for among, at most
POINTS = 400  # of a curve, at most
COMPARABLE = ("features", "n", "references", "held_out_references")  # equal where numbers can be compared
SHARED = ("held_out_references", "observation", FLOOR)  # rows that say nothing of a model


def write_page(run: Path, out: Path, beside: Sequence[Path] = ()) -> Path:
    """Write the page of a run folder; returns its path.

    Args:
        run: its folder.
        out: HTML file.
        beside: folders of other runs, baselines for example, measured with the same references and n.

    Raises:
        UsageError: not a run folder, or its numbers cannot be compared.
    """
    if not (run / RECIPE).is_file():
        raise UsageError(f"{run}: no {RECIPE} in it; give a folder of mrigen run, or of mrigen reconstruct")
    recipe = yaml.safe_load((run / RECIPE).read_text(encoding="utf-8"))
    summary = _json(run / SUMMARY)
    store = _store(run, recipe)
    title = str(recipe.get("title") or summary.get("recipe") or run.name)
    figure = run / "figure.png"
    overview = "observations, samples and references, side by side"
    about = (
        f"Run folder {run.name}, seed {recipe.get('seed', 0)}. Trained on corrupted measurements; references "
        "were used for the numbers below only."
    )
    before = [
        ("Overview", html.png(figure.read_bytes(), overview) if figure.is_file() else ""),
        ("Distances", _table(summary, _others(run, summary, beside))),
    ]
    after = [
        ("Nearest neighbours in the training data", _neighbours(run, store)),
        ("Curves", _curves(run)),
        ("Data", _data(store)),
        ("Stages", _stages(run)),
        ("Again", html.preformatted(_command(run))),
        ("Settings", html.preformatted((run / RECIPE).read_text(encoding="utf-8"), "the whole recipe")),
        ("Checksums", html.facts(_checksums(run, store))),
        ("Versions when this page was written", html.facts(health.versions())),
    ]
    count = SAMPLES
    while True:
        text = html.document(title, about, [*before, ("Samples", _samples(run, count)), *after])
        if count == 0 or len(text.encode()) <= html.LARGEST:
            break
        count //= 2
    write_text(out, text)
    return out


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _store(run: Path, recipe: Mapping[str, Any]) -> Store | None:
    """The training data, if they are still there."""
    from mrigen.data.manifest import NAME as MANIFEST
    from mrigen.data.stores import open_store

    source = (recipe.get("data") or {}).get("store")
    for folder in (run / "store", *([Path(source)] if source else [])):
        if (folder / MANIFEST).is_file():
            return open_store(folder)
    return None


def _stages(run: Path) -> str:
    """Images of each stage, as far as it came."""
    rows = {}
    for stage in _stage_folders(run):
        entries = _log(stage)
        record = _json(stage / "stage.json")
        if entries:
            ended = "finished" if record.get("finished") else "not finished"
            rows[stage.name] = f"{entries[-1]['images']:,.0f} images, {ended}"
    return html.facts(rows)


def _stage_folders(run: Path) -> list[Path]:
    names = ["teacher", *sorted(path.name for path in run.glob("lap-*")), "student"]
    return [run / name for name in names if (run / name).is_dir()]


def _log(stage: Path) -> list[dict[str, float]]:
    """Entries of the stage's log; of a continued one the last of each number of images."""
    path = stage / LOG
    if not path.is_file():
        return []
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    last = {entry["images"]: entry for entry in entries}
    return [last[key] for key in sorted(last)]


def _curves(run: Path) -> str:
    """Losses of every stage and the distances that chose."""
    figures = []
    for stage in _stage_folders(run):
        entries = _log(stage)
        keys = {key: None for entry in entries for key in entry if key != "images"}
        for key in keys:
            points = [(e["images"], e[key]) for e in entries if isinstance(e.get(key), int | float)]
            points = points[:: max(1, len(points) // POINTS)]
            name = "proximal distance (selection)" if key == "selection" else key
            if points:
                x, y = ([float(point[i]) for point in points] for i in (0, 1))
                figures.append(html.curve(f"{stage.name}: {name}", x, y))
    return f'<div class="curves">{"".join(figures)}</div>' if any(figures) else ""


def _others(run: Path, summary: Mapping[str, Any], beside: Sequence[Path]) -> dict[str, Any]:
    """Rows of other runs, by name, that may stand in the table of this one."""
    rows: dict[str, Any] = {}
    for other in beside:
        theirs = _json(other / SUMMARY)
        if not (summary and theirs):
            raise UsageError(f"{other if summary else run}: no {SUMMARY} in it; give finished runs")
        differ = [key for key in COMPARABLE if theirs.get(key) != summary.get(key)]
        if differ:
            raise UsageError(
                f"{other}: {', '.join(differ)} differ from {run}; evaluate both with the same references"
            )
        models = {
            name: row for name, row in theirs.items() if isinstance(row, Mapping) and name not in SHARED
        }
        own = {f"{other.resolve().name}: {name}": row for name, row in models.items()}
        if rows.keys() & own.keys():
            raise UsageError(f"{', '.join(map(str, beside))}: folders of the same name; rename one")
        rows |= own
    return rows


def _table(summary: Mapping[str, Any], others: dict[str, Any]) -> str:
    """Distances with their intervals beside those of other runs, of the observations and other references."""
    if not summary:
        return ""
    rows: dict[str, Any] = {
        "another part of the references" if name == FLOOR else name: row
        for name, row in summary.items()
        if isinstance(row, Mapping) and name != "held_out_references"
    } | others
    names = {key: f"Fréchet distance ({space})" for key, space in distances(summary).items()}
    caption = (
        f"n = {summary['n']}, {summary['references']} references; 95 % bootstrap intervals below. Less is "
        "better, but power beyond N/4, which is 1 at best. Not an FID: no downloaded weights."
    )
    if "inception" in summary.get("features", []):
        caption = caption.removesuffix(" Not an FID: no downloaded weights.")
    return html.table(rows, names | COLUMNS, caption)


def _read(path: Path, count: int) -> tuple[list[int], Tensor]:
    """Seeds and images of a file of samples, the first ones."""
    import torch

    from mrigen import hdf5

    with hdf5.reader(path) as file:
        seeds = [int(seed) for seed in file["seeds"][:count]]
        return seeds, torch.from_numpy(file["images"][: len(seeds)])


def _files(run: Path) -> dict[str, Path]:
    """Files of samples by what made them, those of teachers first."""
    folders = [path for path in (run / "samples").glob("*") if (path / "images.h5").is_file()]
    order = {"teacher": 0, "student": 2}
    folders.sort(key=lambda path: (order.get(path.name, 1), path.name))
    return {path.name: path / "images.h5" for path in folders}


def _pixels(images: Tensor, window: float | None) -> Any:
    """uint8 (n, H, W, 3)."""
    from mrigen.metrics.rendering import pictures

    return pictures(images, window).permute(0, 2, 3, 1).numpy()


def _window(images: Tensor) -> float | None:
    from mrigen.metrics.rendering import magnitude_window

    return magnitude_window(images) if images.is_complex() else None


def _samples(run: Path, count: int) -> str:
    """The first samples of each model with their seeds, side by side and one by one."""
    from mrigen.report.figures import POINT

    parts, layers, names = "", [], []
    for name, path in _files(run).items():
        seeds, images = _read(path, count)
        if not seeds or tuple(images.shape[1:]) == POINT:
            return ""
        pixels = _pixels(images, _window(images))
        figures = [
            html.picture(one, f"{name}, sample of seed {seed}", f"seed {seed}")
            for seed, one in zip(seeds, pixels, strict=True)
        ]
        opened = f"<summary>{name}: {len(seeds)} samples and their seeds</summary>"
        parts += f"<details open>{opened}{html.tiles(figures)}</details>"
        if images.shape[1] == 1:
            grey = images[:, 0].abs() if images.is_complex() else (images[:, 0] + 1).clamp(min=0)
            layers.append(html.Layer(name, grey.numpy().astype(np.float32)))
            names = [f"seed {seed}" for seed in seeds]
    if len({len(layer.values) for layer in layers}) == 1:
        parts = html.viewer("samples of the same seeds", layers, names) + parts
    return parts


def _neighbours(run: Path, store: Store | None) -> str:
    """Samples of the last model beside the training measurements that look most like them."""
    import torch

    from mrigen.metrics.memorisation import MeasurementSearch
    from mrigen.report.figures import POINT

    known = _files(run)
    if store is None or not known or store.image_shape == POINT:
        return ""
    _, height, width = store.image_shape
    if len(store) * height * width > SEARCHED:
        return f"<p>{len(store):,} measurements; mrigen audit searches so many.</p>"
    name, path = list(known.items())[-1]
    seeds, images = _read(path, NEIGHBOURS)
    try:
        matches = [pairs[0] for pairs in MeasurementSearch(store)(images)]
    except UsageError:  # operators that are not linear
        return ""
    figures = []
    for seed, image, match in zip(seeds, images, matches, strict=True):
        shown = torch.cat([image, match.masked, match.measured], -1)[None]
        words = (
            f"{name}, seed {seed}: the sample, the sample corrupted like measurement {match.index}, and that "
            f"measurement; correlation {match.correlation:.3f}"
        )
        figures.append(html.picture(_pixels(shown, _window(shown))[0], words, words))
    return (
        "<p>Each sample, the same through the operator of the training measurement that is most like it, and "
        "that measurement. A correlation near 1 alone is no copy where measurements say little: mrigen audit "
        f"compares with images that were not trained on.</p>{''.join(figures)}"
    )


def _data(store: Store | None) -> str:
    """What the training saw."""
    if store is None:
        return ""
    manifest = store.manifest
    described = {k: v for k, v in store.described().items() if v is not None}
    return html.facts(
        {
            "store": store.folder.name,
            "measurements for training": len(store),
            "image": " × ".join(map(str, store.image_shape)),
            "kind": "complex MR images" if store.complex_valued else "natural images",
            "corruption": json.dumps(described, default=str),
            "prepared by": getattr(manifest, "created_by", None),
        }
    )


def _command(run: Path) -> str:
    """The command that repeats the run from its own recipe."""
    again = run.with_name(f"{run.name}-again").name
    return shlex.join(["mrigen", "run", f"{run.name}/{RECIPE}", "--out", again])


def _checksums(run: Path, store: Store | None) -> dict[str, str]:
    from mrigen.data.manifest import NAME as MANIFEST

    digests = {RECIPE: sha256(run / RECIPE)}
    if store is not None and (store.folder / MANIFEST).is_file():
        digests[f"{store.folder.name}/{MANIFEST}"] = sha256(store.folder / MANIFEST)
    for stage in _stage_folders(run):
        weights = stage / "model" / "model.safetensors"
        if weights.is_file():
            digests[f"{stage.name}/model/{weights.name}"] = sha256(weights)
    return {name: f"SHA-256 {digest}" for name, digest in digests.items()}
