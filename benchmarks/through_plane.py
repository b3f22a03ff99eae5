"""Flicker from slice to slice: through-plane variation of reconstructions beside the references'.

    python -m benchmarks.through_plane STORE --model RUN/base/lap-1 --solvers total-variation mmps:steps=20
    python -m benchmarks.through_plane SCANS --frames --solvers total-variation

Σ | |x|_{s+1} − |x|_s | over a volume, over that of the reference, and the error of the volume as fastMRI
defines it, for each weight of ``--neighbours``, and, of the last weight, for each number of ``--passes``.
Of solvers with a model there are posterior samples, each measured by itself (means over them are shown),
and their mean; with noise of their own in each slice, and, with ``--shared``, with one noise for all slices
of the volume. With ``--tune N`` the first N volumes choose the weight and the passes whose variation is
nearest to the references', and numbers are of the others.

With ``--frames`` the same is measured along frames: the slices of fully sampled scans are taken for frames
of one slice (``mrigen simulate --slice-range 0.5 0.53``: a head that drifts through it), a bolus brightens
three regions one after another, by up to 100 %, and every frame is undersampled by other random lines.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.arguments import existing, new_file, positive, whole, whole_or_zero
from torch import Tensor

import mrigen as mg
from mrigen.files import write_json
from mrigen.inverse import SOLVERS, Prior
from mrigen.metrics.reconstruction import through_plane_variation, volume_errors
from mrigen.model import Model
from mrigen.prep.kspace.options import Options
from mrigen.prep.kspace.sources import raw_files
from mrigen.prep.readers import Loaded
from mrigen.reconstruction.job import Request, prior_for, solve_batch, with_phase
from mrigen.reconstruction.neighbours import Solved, coupled, neighbours_of
from mrigen.reconstruction.prepared import StoreSource
from mrigen.reconstruction.scans import ScanSource
from mrigen.reconstruction.sources import Batch, Source

CPU = torch.device("cpu")
REGIONS = ((-0.15, -0.1, 0.1), (0.12, 0.05, 0.3), (0.05, -0.2, 0.5))
"""Place of each along H and W, from the centre in fields of view, and begin in lengths of the series."""
WIDTH, RISE = 0.08, 0.12
"""A region's standard deviation in fields of view, and what it takes to its peak in lengths of the series."""


def bolus(kspace: Tensor) -> Tensor:
    """k-space (frames, coils, H, W), images times 1 + Σ_i u_i² e^{2 − 2u_i} exp(−‖r − r_i‖² / 2 s²)."""
    frames, _, height, width = kspace.shape
    y = (torch.arange(height) - height // 2)[:, None] / height
    x = (torch.arange(width) - width // 2) / width
    gain = torch.ones(frames, 1, height, width)
    for down, right, begin in REGIONS:
        u = ((torch.arange(frames) / frames - begin) / RISE).clamp(min=0).view(-1, 1, 1, 1)
        place = (-((y - down).square() + (x - right).square()) / (2 * WIDTH**2)).exp()
        gain = gain + u.square() * (2 - 2 * u).exp() * place
    return mg.fft(mg.ifft(kspace) * gain)


def series_of(folder: Path, count: int, prep: Options) -> Iterator[tuple[Source, list[Batch]]]:
    """The first scans of a folder as series, each with its frames as one batch."""
    for path in raw_files(folder)[:count]:
        kspace = bolus(mg.read_kspace(path))
        loaded = Loaded.of(path, kspace.numpy(), complete=True, choices={"repetition": len(kspace)})
        source = ScanSource(loaded, prep)
        yield source, [batch.with_sigma(None) for batch in source.batches(len(source))]


def volumes_of(store: Path, count: int) -> Iterator[tuple[Source, list[Batch]]]:
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
    """A row for each kind of noise, weight, passes, and samples or their mean: means over volumes."""
    solver = SOLVERS.build(SOLVERS.parse(words))
    samples = options.samples if solver.needs else 1
    kinds = [False, True] if options.shared and solver.needs else [False]
    last = [(options.weights[-1], passes) for passes in options.passes if passes > 1]
    settings = list(dict.fromkeys([*((weight, 1) for weight in options.weights), *last]))
    rows: dict[tuple[bool, str, tuple[float, int]], list[dict[str, float]]] = {}
    if options.frames:
        prep = Options(
            acceleration=options.acceleration, acs_lines=options.acs_lines, kernel_width=options.kernel_width,
            virtual_coils=0, noise_whitening=True, choose="repetition=all",
        )  # fmt: skip
        prep = prep if model is None else with_phase(Request(solver=words, prep=prep), model).prep
        sources = series_of(options.store, options.volumes, prep)
    else:
        sources = volumes_of(options.store, options.volumes)
    for source, (batch,) in sources:
        prior = prior_for(model, solver, source, Request(solver=words))
        beside = neighbours_of(source.places, frames=options.frames)
        for shared in kinds:
            start = time.process_time()
            single = solved(words, batch, prior, samples, shared=shared)
            seconds = (time.process_time() - start) / len(source) / samples
            for weight, passes in settings:
                start = time.process_time()
                parts = coupled([single], beside if weight else [], weight, CPU, passes)
                images = torch.cat([part.images for part in parts])
                more = (time.process_time() - start) / len(source) / samples if weight else 0.0
                shown = {"sample" if solver.needs else "image": images}
                if samples > 1:
                    shown["mean"] = images.mean(1, keepdim=True)
                for name, values in shown.items():
                    row = {**judged(values, batch), "seconds": seconds + more}
                    rows.setdefault((shared, name, (weight, passes)), []).append(row)
    return [
        {
            "solver": words,
            "noise": ("one" if shared else "own") if solver.needs else "",
            "image": name,
            "weight": weight,
            "passes": passes,
            **summary,
        }
        for shared, name in dict.fromkeys(key[:2] for key in rows)
        for (weight, passes), summary in summarised(
            {setting: rows[shared, name, setting] for setting in settings}, options.tune
        ).items()
    ]


def summarised(
    rows: dict[tuple[float, int], list[dict[str, float]]], tune: int
) -> dict[tuple[float, int], dict[str, Any]]:
    """Means over volumes for each weight and passes, without the first ``tune`` volumes, which choose.

    Raises:
        ValueError: no volume is left.
    """
    variation = {
        setting: statistics.fmean(row["through_plane"] for row in each[:tune]) if tune else math.nan
        for setting, each in rows.items()
    }
    best = min(variation, key=lambda setting: abs(variation[setting] - 1)) if tune else None
    summaries: dict[tuple[float, int], dict[str, Any]] = {}
    for setting, each in rows.items():
        rest = each[tune:]
        if not rest:
            raise ValueError(f"--tune {tune}: there are {len(each)} volumes, and one more must be left")
        summaries[setting] = {
            "volumes": len(rest),
            **{key: statistics.fmean(row[key] for row in rest) for key in rest[0]},
            "least": min(row["through_plane"] for row in rest),
            "most": max(row["through_plane"] for row in rest),
        }
        if tune:
            summaries[setting] |= {"tuning": variation[setting], "chosen": setting == best}
    return summaries


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    names = ["solver", "image", "noise", "`--neighbours`", "variation", "least to most", "NRMSE", "s"]
    several = any(row["passes"] > 1 for row in rows)
    if several:
        names.insert(4, "`--passes`")
    if "tuning" in rows[0]:
        names.insert(names.index("variation"), "variation where it was chosen")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for r in rows:
        cells = [f"`{r['solver']}`", r["image"], r["noise"], f"{r['weight']:g}"]
        cells += [str(r["passes"])] * several
        if "tuning" in r:
            cells[-1] += ", chosen" * r["chosen"]
            cells.append(f"{r['tuning']:.2f}")
        cells += [f"{r['through_plane']:.2f}", f"{r['least']:.2f} to {r['most']:.2f}"]
        cells += [f"{r['nrmse']:.3f}", f"{r['seconds']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "store", type=existing, help="store with its references beside it, or folder of scans"
    )
    parser.add_argument("--frames", action="store_true", help="slices of scans are frames of a series")
    parser.add_argument("--acceleration", type=positive, default=4.0, help="of the frames")
    parser.add_argument("--acs-lines", type=whole, default=4, help="of the frames")
    parser.add_argument("--kernel-width", type=whole, default=3, help="of the frames' ESPIRiT")
    parser.add_argument("--model", type=existing, help="teacher, for solvers that need one")
    parser.add_argument("--solvers", nargs="+", default=["zero-filled", "cg-sense", "total-variation"])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--passes", type=whole, nargs="+", default=[1], help="with the last weight")
    parser.add_argument("--volumes", type=whole, default=3)
    parser.add_argument("--tune", type=whole_or_zero, default=0, help="volumes that choose")
    parser.add_argument("--samples", type=whole, default=2)
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    if max(options.passes) > 1 and not options.weights[-1]:
        parser.error("--passes: go with the last of --weights, which is 0; give that first")
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
