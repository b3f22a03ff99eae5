"""A recipe at tiny size: every stage of it in seconds, to see that all parts fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS
from mrigen.networks import NETWORKS
from mrigen.prep.images.builtin import BUILT_IN
from mrigen.recipe.schema import Recipe

BATCH, STEPS, SAMPLES = 4, 2, 8
SIZE, IMAGES = 16, 64
NETWORK = {"model_channels": 8, "num_blocks": 1, "hidden": 32}
CONSISTENCY = {"steps": 1, "samples": 2, "images": 1}
SCANS = {"volumes": 4, "slices": 4, "matrix": [32, 64], "coils": 2}
PREP = {
    "acs_lines": 4,
    "kernel_width": 3,
    "calib_readout": 12,
    "virtual_coils": 2,
    "crop": [0, 0],
    "seed": 1,
}
HALVES = {"train": 0.5, "test": 0.5}


def smoke(recipe: Recipe) -> Recipe:
    """The recipe with a small network, two steps of each training, and few small images.

    Where the recipe names no data of its own, drawn shapes or a simulated head stand in. Objective,
    operator, loss, sampler and metric stay what they are.

    Raises:
        UsageError: the recipe does not fit images of this size, or starts from a model, which has its own.
    """
    if recipe.teacher.init is not None:
        raise UsageError("--smoke: makes a small network, not that of teacher.init; leave one of them out")
    tree = recipe.model_dump(mode="json")
    tree["title"] = f"{recipe.title} (smoke)"
    if recipe.data.store is None:
        tree["data"] = _data(tree["data"], recipe.evaluate.split)
    teacher, distill, evaluate = tree["teacher"], tree["distill"], tree["evaluate"]
    teacher["network"] = _network(teacher["network"])
    if teacher["objective"].get("consistency"):
        teacher["objective"]["consistency"] |= CONSISTENCY
    if teacher["restore"]:
        known = SOLVERS[teacher["restore"]["name"]].Params.model_fields
        teacher["restore"] |= {key: STEPS for key in ("steps", "iterations") if key in known}
    for run in (teacher, distill):
        run |= {"images": STEPS * BATCH, "batch": BATCH, "micro_batch": None, "snapshot_images": BATCH}
    if tree["laps"] is not None:
        tree["laps"] |= {"images": STEPS * BATCH, "samples": SAMPLES}
    distill["selection"] |= {"every_images": BATCH, "samples": SAMPLES, "patience": None}
    few = {"steps": STEPS + 1}
    others = {name: {**sampler, **few} for name, sampler in evaluate["samplers"].items()}
    evaluate |= {"samples": SAMPLES, "sampler": {**evaluate["sampler"], **few}, "samplers": others}
    return Recipe(**tree)


def _network(spec: Mapping[str, Any]) -> dict[str, Any]:
    known = NETWORKS[spec["name"]].Params.model_fields
    return {**spec, **{key: value for key, value in NETWORK.items() if key in known}}


def _data(data: dict[str, Any], evaluated: str) -> dict[str, Any]:
    images = data["images"]
    if images is not None:
        size = {} if images["source"] in BUILT_IN else {"size": SIZE}
        return {**data, "images": {**images, "source": images["source"] or "shapes", "limit": IMAGES, **size}}
    if data["source"]:
        return data
    prep = {key: value for key, value in data["prep"].items() if key != "center_fraction"}
    split = HALVES if evaluated in HALVES else {evaluated: 0.5, "train": 0.5}
    return {**data, "simulate": SCANS, "prep": {**prep, **PREP, "split": split}}
