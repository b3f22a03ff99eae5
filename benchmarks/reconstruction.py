"""Every solver and baseline on held-out simulated brain slices whose truth is known.

Make a model first, then reconstruct slices that neither it nor anyone has seen:

    mrigen run demo/brain --out runs/demo
    python -m benchmarks.reconstruction --teacher runs/demo/teacher/model \
        --generator runs/demo/student/model --json reconstruction.json --figure calibration.png

Volumes are simulated anew with a seed that no training used, undersampled with random lines, and
prepared as training data are: coil maps and scale come from the ACS lines alone. Errors are those of
magnitudes, slice by slice, with their standard error; LPIPS, in grey windows of the reference, where its
weights are. σ is what explains how far the measurement is from its maps. The weights of the baselines are
tuned here for each acceleration on separate slices (the best PSNR of a short list), so that they are as good
as they can be; the learned solvers run with their defaults, except where the last column says otherwise.
Times are those of one slice on one core.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import existing, new_file, positive, several, whole
from benchmarks.heads import acs_lines
from benchmarks.perception import Distance, perception
from benchmarks.result_tables import printed
from torch import Tensor

from mrigen.cli.main import run
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.inverse import SOLVERS, Prior, TeacherPrior
from mrigen.metrics.reconstruction import volume_errors
from mrigen.model import Model
from mrigen.prep.kspace.options import Options
from mrigen.reconstruction.job import Request, solve_batch
from mrigen.reconstruction.scans import ScanSource
from mrigen.reconstruction.sources import Batch

SEED = 20_000
SAMPLED = {
    "DDS": "dds:steps=30",
    "DDS, no floor": "dds:steps=30,spread=0",
    "moment matching": "mmps:steps=30",
    "moment matching, 7 steps": "mmps:steps=7",
    "Langevin": "langevin",
    "ambient DPS": "ambient-dps:steps=30",
}
BASELINES = {
    "zero-filled": ["zero-filled"],
    "RSS": ["rss"],
    "CG-SENSE": [f"cg-sense:regularization={w}" for w in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)],
    "l1-wavelet": [f"l1-wavelet:regularization={w}" for w in (1e-3, 3e-3, 1e-2, 3e-2)],
    "total variation": [f"total-variation:regularization={w}" for w in (3e-3, 1e-2, 3e-2, 1e-1)],
    "non-local means": [f"non-local-means:weight={w}" for w in (0.1, 0.3, 1.0, 3.0)],
}
LEARNED = {
    "ambient one-step": ("teacher", "ambient-one-step"),
    "ambient one-step, data-consistent": ("teacher", "ambient-one-step:spread=0.05"),
    "plug-and-play, teacher": ("teacher", "pnp"),
    "DDS": ("teacher", "dds:steps=30"),
    "moment matching": ("teacher", "mmps:steps=30"),
    "DPS": ("teacher", "dps:steps=100"),
    "ambient DPS": ("teacher", "ambient-dps:steps=100"),
    "Langevin": ("teacher", "langevin"),
    "latent": ("generator", "latent"),
    "latent, 4 starts": ("generator", "latent:starts=4,steps=500"),
    "latent, pivotal tuning": ("generator", "latent:steps=500,tuning_steps=100"),
    "plug-and-play, generator": ("generator", "pnp"),
}
SOLVED = {**LEARNED, **{name: ("teacher", words) for name, words in SAMPLED.items()}}
"""Role and words of every learned solver."""
ONE_STEP = "ambient-one-step"
DIGITS = {"psnr": 2, "ssim": 3, "nrmse": 3, "lpips": 3}


def silent(units: int = 1, note: str = "") -> None:
    """No progress bar."""
    del units, note


def simulate(folder: Path, options: argparse.Namespace) -> list[Path]:
    """Held-out volumes, of one slice in the middle of the head each."""
    arguments = [
        "simulate", "--out", folder, "--volumes", options.slices + options.tuning, "--slices", 1,
        "--matrix", options.matrix, options.matrix, "--coils", options.coils, "--seed", SEED, "--jobs", 1,
    ]  # fmt: skip
    assert run([str(a) for a in arguments]) == 0
    return sorted(folder.glob("*.h5"))


def phase_of(models: Iterable[Model]) -> str:
    """What the phase of the models' images is relative to; the scans are prepared alike."""
    phases = {str((model.description.corruption or {}).get("phase", "coil")) for model in models}
    if len(phases) > 1:
        raise UsageError(
            "--teacher and --generator: their images have different phases; give models of one run"
        )
    return phases.pop() if phases else "coil"


def batches(
    paths: list[Path], acceleration: float, acs: int, phase: str, options: argparse.Namespace
) -> list[Batch]:
    """Prepared slices, with the σ that explains how far each is from its maps."""
    prep = Options(
        acceleration=acceleration,
        acs_lines=acs,
        virtual_coils=0,
        kernel_width=options.kernel_width,
        phase=phase,
    )
    return [next(ScanSource(path, prep).batches(1)).with_sigma(None) for path in paths]


def measure(
    words: str, batches: list[Batch], prior: Any, distance: Distance | None = None, samples: int = 1
) -> tuple[dict[str, Any], list[Tensor]]:
    """Mean errors, their standard errors and seconds of a slice; and the samples of each batch."""
    solver = SOLVERS.build(SOLVERS.parse(words))
    request = Request(solver=words, samples=samples, batch=samples)
    rows, seconds, drawn = [], 0.0, []
    for batch in batches:
        start = time.perf_counter()
        images, _, _ = solve_batch(solver, batch, prior, request, torch.device("cpu"), silent)
        seconds += time.perf_counter() - start
        assert batch.reference is not None
        drawn.append(images)
        rows.append(volume_errors(images.mean(1), batch.reference).row())
        if distance is not None:
            rows[-1]["lpips"] = distance(images.mean(1), batch.reference)[0]
    row: dict[str, Any] = {"solver": words, "seconds": seconds / len(batches), "slices": len(batches)}
    for name in DIGITS.keys() & rows[0].keys():
        values = np.array([r[name] for r in rows])
        row[name] = float(values.mean())
        row[f"{name}_error"] = float(values.std(ddof=min(1, len(values) - 1)) / math.sqrt(len(values)))
    return row, drawn


def tuned(candidates: list[str], batches: list[Batch]) -> str:
    """The candidate with the highest PSNR."""
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda words: measure(words, batches, None)[0]["psnr"])


def calibration(drawn: list[Tensor], batches: list[Batch]) -> dict[str, Any]:
    """Root mean square error of pixels against their predicted standard deviation, in ten equal groups.

    The ratio over all pixels is 1 for samples of the posterior: the mean of n such samples errs by a factor
    of √(1 + 1/n) more than their standard deviation says, which is taken out.
    """
    errors: list[Tensor] = []
    spreads: list[Tensor] = []
    samples = drawn[0].shape[1]
    for images, batch in zip(drawn, batches, strict=True):
        assert batch.reference is not None
        mean = images.mean(1, keepdim=True)
        spreads.append(((images - mean).abs().square().sum(1) / (samples - 1)).sqrt().flatten())
        errors.append((mean[:, 0] - batch.reference).abs().flatten())
    error, spread = torch.cat(errors), torch.cat(spreads)
    groups = spread.argsort().chunk(10)
    excess = (1 + 1 / samples) ** 0.5
    return {
        "ratio": float((error.square().mean() / spread.square().mean()).sqrt() / excess),
        "predicted": [float(spread[g].square().mean().sqrt()) for g in groups],
        "error": [float(error[g].square().mean().sqrt()) for g in groups],
    }


def draw(curves: dict[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    from mrigen.report.figures import save

    figure = Figure(figsize=(6, 5), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves.items():
        axis.loglog(curve["predicted"], curve["error"], "o-", label=name)
    low, high = (
        f(v for c in curves.values() for side in ("predicted", "error") for v in c[side]) for f in (min, max)
    )
    axis.plot([low, high], [low, high], "k--", label="calibrated")
    axis.set_xlabel("predicted standard deviation")
    axis.set_ylabel("root mean square error")
    axis.legend(loc="lower right")
    save(figure, path)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of each acceleration, with error over predicted deviation where samples were drawn."""
    parts = []
    for acceleration in dict.fromkeys(row["R"] for row in rows):
        group = [row for row in rows if row["R"] == acceleration]
        known = [name for name in DIGITS if all(name in row for row in group)]
        words = [name.upper().replace("PSNR", "PSNR (dB)") for name in known]
        head = ["", *words, "error over deviation", "s per slice", "parameters"]
        cells = [
            [
                row["row"],
                *(f"{row[m]:.{DIGITS[m]}f} ± {row[m + '_error']:.{DIGITS[m]}f}" for m in known),
                f"{row['ratio']:.2f}" if "ratio" in row else "",
                f"{row['seconds']:.2g}",
                f"`{row['solver']}`",
            ]
            for row in group
        ]
        title = f"R = {acceleration:g}, {group[0]['acs_lines']} ACS lines, {group[0]['slices']} slices"
        parts.append(f"{title}\n\n{printed(head, cells)}")
    return "\n\n".join(parts)


def checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    """The options, with ACS lines for each acceleration; a mistake ends the program before its work."""
    lines, accelerations = options.matrix, options.accelerations
    if options.acs_lines is None:
        options.acs_lines = [acs_lines(acceleration, lines) for acceleration in accelerations]
    if len(options.acs_lines) != len(accelerations):
        parser.error(
            f"--acs-lines: {len(options.acs_lines)} numbers for {len(accelerations)} accelerations; give one "
            "for each, or none"
        )
    for acceleration, acs in zip(accelerations, options.acs_lines, strict=True):
        if not options.kernel_width <= acs <= lines / acceleration:
            parser.error(
                f"--acs-lines: {acs} at R = {acceleration:g} must be at least --kernel-width, "
                f"{options.kernel_width}, and at most the {lines / acceleration:g} lines that are measured"
            )
    for name in options.only or []:
        if name not in SOLVED:
            parser.error(f"--only {name!r}: choose from {', '.join(SOLVED)}")
        if getattr(options, SOLVED[name][0]) is None:
            parser.error(f"--only {name!r}: needs --{SOLVED[name][0]}")
    return options


def learned_solvers(only: list[str] | None, priors: dict[str, Prior]) -> dict[str, tuple[str, str]]:
    """The learned solvers of these priors; a teacher that is not told what was measured has no one-step.

    Raises:
        UsageError: one was asked for by name.
    """
    chosen = {name: by for name, by in SOLVED.items() if by[0] in priors and (only is None or name in only)}
    teacher = priors.get("teacher")
    if not isinstance(teacher, TeacherPrior) or teacher.objective.conditions_on_mask:
        return chosen
    needing = [name for name, (_, words) in chosen.items() if words.startswith(ONE_STEP)]
    if only and needing:
        raise UsageError(
            f"--only {needing[0]!r}: needs an ambient teacher, and --teacher is not; leave it out"
        )
    return {name: by for name, by in chosen.items() if name not in needing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=existing)
    parser.add_argument("--generator", type=existing)
    parser.add_argument("--matrix", type=whole, default=32)
    parser.add_argument("--coils", type=whole, default=4)
    parser.add_argument("--kernel-width", type=whole, default=3)
    parser.add_argument("--accelerations", type=positive, nargs="+", default=[4, 8])
    parser.add_argument(
        "--acs-lines", type=whole, nargs="+", help="one for each acceleration; by default as benchmarks.heads"
    )
    parser.add_argument("--slices", type=whole, default=16)
    parser.add_argument("--tuning", type=whole, default=6, help="further slices, to tune the baselines on")
    parser.add_argument(
        "--samples", type=several, default=8, help="posterior samples for means and calibration"
    )
    parser.add_argument("--only", nargs="+", help="names of learned solvers; all by default")
    parser.add_argument("--download", action="store_true", help="fetch the weights of LPIPS")
    parser.add_argument("--json", type=new_file)
    parser.add_argument("--figure", type=new_file, help="calibration plot")
    options = checked(parser, parser.parse_args())
    torch.set_num_threads(1)
    folders = {"teacher": options.teacher, "generator": options.generator}
    shape = (1, options.matrix, options.matrix)
    models = {role: Model.load(folder) for role, folder in folders.items() if folder is not None}
    priors = {role: model.prior(shape, complex_valued=True) for role, model in models.items()}
    phase = phase_of(models.values())
    solvers = learned_solvers(options.only, priors)
    distance = perception(shape[1:], download=options.download)
    rows: list[dict[str, Any]] = []
    curves: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = simulate(Path(folder) / "raw", options)
        for acceleration, acs in zip(options.accelerations, options.acs_lines, strict=True):
            test = batches(paths[options.tuning :], acceleration, acs, phase, options)
            tuning = batches(paths[: options.tuning], acceleration, acs, phase, options)
            known = {"R": acceleration, "acs_lines": acs}
            start = len(rows)
            for name, candidates in BASELINES.items():
                row, _ = measure(tuned(candidates, tuning), test, None, distance)
                rows.append({"row": name, **known, **row})
            for name, (role, words) in solvers.items():
                if name in LEARNED:
                    row, _ = measure(words, test, priors[role], distance)
                    rows.append({"row": name, **known, **row})
                if name in SAMPLED:
                    row, drawn = measure(SAMPLED[name], test, priors[role], distance, options.samples)
                    curve = calibration(drawn, test)
                    label = f"{name}, mean of {options.samples}"
                    rows.append({"row": label, **known, **row, "ratio": curve["ratio"]})
                    curves[f"{name}, R = {acceleration:g}"] = curve
            print(f"\n{table(rows[start:])}", flush=True)
    if options.figure and curves:
        draw(curves, options.figure)
    if options.json:
        write_json(options.json, {"rows": rows, "calibration": curves})


if __name__ == "__main__":
    one_line(main)
