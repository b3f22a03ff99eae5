"""Flicker from slice to slice: through-plane variation of reconstructions beside the references'.

    python -m benchmarks.through_plane STORE --model RUN/base/lap-1 --solvers total-variation mmps:steps=20

Σ | |x|_{s+1} − |x|_s | over a volume, over that of the reference, and the error of the volume as fastMRI
defines it, for each weight of ``--neighbours``. Of solvers with a model there are posterior samples, each
measured by itself (means over them are shown), and their mean; with noise of their own in each slice, and,
with ``--shared``, with one noise for all slices of the volume.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.arguments import existing, new_file, whole
from torch import Tensor

from mrigen.files import write_json
from mrigen.inverse import SOLVERS, Prior
from mrigen.metrics.reconstruction import through_plane_variation, volume_errors
from mrigen.model import Model
from mrigen.reconstruction.job import Request, prior_for, solve_batch
from mrigen.reconstruction.neighbours import Solved, coupled, neighbours_of
from mrigen.reconstruction.prepared import StoreSource
from mrigen.reconstruction.sources import Batch

CPU = torch.device("cpu")


def volumes_of(store: Path, count: int) -> Iterator[tuple[StoreSource, list[Batch]]]:
    """Evenly spread volumes of a store, each with its slices as one batch."""
    whole_store = StoreSource(store, None, "all")
    names = list(dict.fromkeys(whole_store.volumes))
    for name in names[:: -(-len(names) // count)]:
        rows = [i for i, volume in enumerate(whole_store.volumes) if volume == name]
        source = StoreSource(store, None, f"{rows[0]}:{rows[-1] + 1}")
        yield source, [batch.with_sigma(None) for batch in source.batches(len(rows))]


def solved(words: str, batch: Batch, prior: Prior | None, samples: int, *, shared: bool) -> Solved:
    """Reconstructions of a volume's slices; with ``shared`` all have the noise of the first."""
    request = Request(solver=words, samples=samples)
    keyed = replace(batch, positions=[0] * len(batch.positions)) if shared else batch
    made = solve_batch(SOLVERS.build(SOLVERS.parse(words)), keyed, prior, request, CPU, lambda *_: None)
    return Solved(batch, *made)


def judged(images: Tensor, batch: Batch) -> dict[str, float]:
    """Variation over the reference's and error of a volume (slices, samples, 1, H, W), means over samples."""
    assert batch.reference is not None
    scale = batch.scale.view(-1, 1, 1)
    reference = batch.reference[:, 0] * scale
    each = [images[:, j, 0] * scale for j in range(images.shape[1])]
    target = through_plane_variation(reference)
    return {
        "through_plane": statistics.fmean(through_plane_variation(x) / target for x in each),
        "nrmse": statistics.fmean(volume_errors(x, reference).nrmse for x in each),
    }


def measured(options: argparse.Namespace, words: str, model: Model | None) -> list[dict[str, Any]]:
    """A row for each kind of noise, weight, and samples or their mean: means over volumes."""
    solver = SOLVERS.build(SOLVERS.parse(words))
    samples = options.samples if solver.needs else 1
    kinds = [False, True] if options.shared and solver.needs else [False]
    rows: dict[tuple[bool, float, str], list[dict[str, float]]] = {}
    for source, (batch,) in volumes_of(options.store, options.volumes):
        prior = prior_for(model, solver, source, Request(solver=words))
        beside = neighbours_of(source.places, frames=False)
        for shared in kinds:
            start = time.process_time()
            single = solved(words, batch, prior, samples, shared=shared)
            seconds = (time.process_time() - start) / len(source) / samples
            for weight in options.weights:
                start = time.process_time()
                parts = coupled([single], beside if weight else [], weight, CPU)
                images = torch.cat([part.images for part in parts])
                more = (time.process_time() - start) / len(source) / samples if weight else 0.0
                shown = {"sample" if solver.needs else "image": images}
                if samples > 1:
                    shown["mean"] = images.mean(1, keepdim=True)
                for name, values in shown.items():
                    row = {**judged(values, batch), "seconds": seconds + more}
                    rows.setdefault((shared, weight, name), []).append(row)
    return [
        {
            "solver": words,
            "noise": ("one" if shared else "own") if solver.needs else "",
            "image": name,
            "weight": weight,
            "volumes": len(each),
            **{key: statistics.fmean(row[key] for row in each) for key in each[0]},
            "least": min(row["through_plane"] for row in each),
            "most": max(row["through_plane"] for row in each),
        }
        for (shared, weight, name), each in rows.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    head = "| solver | image | noise | `--neighbours` | through-plane variation | least to most | NRMSE | s |"
    lines = [
        f"| `{r['solver']}` | {r['image']} | {r['noise']} | {r['weight']:g} | {r['through_plane']:.2f} | "
        f"{r['least']:.2f} to {r['most']:.2f} | {r['nrmse']:.3f} | {r['seconds']:.2f} |"
        for r in rows
    ]
    return "\n".join([head, f"{'|---' * 8}|", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=existing, help="measurement store with its references beside it")
    parser.add_argument("--model", type=existing, help="teacher, for solvers that need one")
    parser.add_argument("--solvers", nargs="+", default=["zero-filled", "cg-sense", "total-variation"])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--volumes", type=whole, default=3)
    parser.add_argument("--samples", type=whole, default=2)
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = None if options.model is None else Model.load(options.model, CPU)
    rows: list[dict[str, Any]] = []
    for words in options.solvers:
        rows += measured(options, words, model)
        print(table(rows), flush=True)
        if options.json:
            write_json(options.json, rows)


if __name__ == "__main__":
    main()
