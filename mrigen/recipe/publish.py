"""A model of a run with its card, as a folder of a hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mrigen.checkpoints.description import DESCRIPTION, WEIGHTS
from mrigen.checkpoints.folder import verify_model
from mrigen.checkpoints.hub import CARD, FILES, NAME, PICTURE, Card, Number
from mrigen.errors import UsageError
from mrigen.files import scratch, write_json
from mrigen.metrics.rendering import magnitude_window
from mrigen.model import Model
from mrigen.report.figures import view_of
from mrigen.report.tables import distances

SHOWN = 16
SUMMARY = "summary.json"


def publish(
    source: Path,
    target: Path,
    *,
    data: str,
    licence: str,
    title: str | None = None,
    corruption: str | None = None,
    notes: tuple[str, ...] = (),
) -> Card:
    """Copy a model folder and write its card and picture beside it.

    Args:
        source: a model folder, a stage or a run; the numbers are those of the run's ``summary.json``.
        target: the folder to write; its name is the model's name in the hub.
        data: what the model learned from.
        licence: of the weights.
        title: one line; by default what the model is.
        corruption: of the data; by default as the model describes it.
        notes: limits.

    Returns:
        The card.

    Raises:
        UsageError: no model, a damaged one, a name that is none, or a folder that holds something.
    """
    if NAME.fullmatch(target.name) is None:
        raise UsageError(f"{target}: name a model with a-z, 0-9, '.', '_' and '-'")
    if target.exists() and (not target.is_dir() or {p.name for p in target.iterdir()} - {*FILES}):
        raise UsageError(f"{target}: holds something that is no model; give a new folder")
    model = Model.load(source)
    assert model.folder is not None
    verify_model(model.folder)
    provenance = model.description.provenance
    card = Card(
        title=title if title is not None else f"{model.role} of {provenance.get('recipe', model.name)}",
        data=data,
        corruption=corruption if corruption is not None else json.dumps(model.description.corruption),
        numbers=tuple(_numbers(model.folder)),
        command=f"mrigen run {provenance['recipe']} --seed {provenance.get('seed', 0)}"
        if "recipe" in provenance
        else "",
        licence=licence,
        notes=notes,
        weights_sha256=model.description.weights_sha256,
    )
    with scratch(target) as temporary:
        folder = temporary / target.name
        folder.mkdir()
        for name in (DESCRIPTION, WEIGHTS):
            shutil.copyfile(model.folder / name, folder / name)
        write_json(folder / CARD, card.model_dump(mode="json"))
        if model.role == "generator" and model.description.generator_input == "full":
            images = model.sample(SHOWN)
            window = magnitude_window(images) if model.complex_valued else None
            view_of(model.image_shape).several(images, window, folder / PICTURE)
        if target.exists():
            target.replace(temporary / "before")
        folder.replace(target)
    return card


def _numbers(folder: Path) -> Iterator[Number]:
    """Distances of a model in the summary of its run; none of a model without a run, or of a snapshot."""
    summary = folder.parents[1] / SUMMARY
    stage = folder.parent.name
    if folder.name != "model" or not summary.is_file():
        return
    content: Mapping[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    row = content.get(stage)
    if not isinstance(row, Mapping):
        return
    others = {name: content.get(name) or {} for name in ("observation", "floor")}
    for key, space in distances(content).items():
        if key in row:
            yield Number(
                metric=f"Fréchet distance ({space})",
                value=row[key],
                n=content["n"],
                **{name: other.get(key) for name, other in others.items()},
            )
