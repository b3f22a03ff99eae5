"""A student as a prior: the generator that denoises too, beside the teacher that was distilled.

    mrigen run demo/brain-l1 --out runs/demo --set distill.loss.denoising_weight=1
    python -m benchmarks.student_prior --runs runs/demo --json student-prior.json

With ``denoising_weight`` the generator's network stays a denoiser;
``student/denoiser`` is this network as a teacher, for every solver. Both reconstruct the same slices of
volumes that no training saw, prepared as in ``benchmarks.reconstruction``, with the same seeds. A row is a
run, an acceleration and a solver: the mean PSNR of both, and the mean of the differences slice by slice with
its standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from benchmarks.arguments import existing, new_file, positive, whole
from benchmarks.heads import acs_lines
from benchmarks.reconstruction import batches, phase_of, silent, simulate

from mrigen.checkpoints.description import DESCRIPTION, read_description
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.inverse import SOLVERS
from mrigen.metrics.reconstruction import volume_errors
from mrigen.model import Model
from mrigen.reconstruction.job import Request, solve_batch
from mrigen.reconstruction.sources import Batch

SOLVED = ["pnp", "dds:steps=20,spread=0", "mmps:steps=15", "dps:steps=60", "langevin"]


def distilled(run: Path) -> Path:
    """The teacher that a run distilled: of its laps the one with the least proximal distance.

    Raises:
        UsageError: the run has no teacher.
    """
    records = sorted(run.glob("lap-*/selection.json"))
    if records:
        best = min(records, key=lambda path: json.loads(path.read_text(encoding="utf-8"))["proximal"])
        return best.parent / "model"
    if not (run / "teacher" / "model").is_dir():
        raise UsageError(f"{run}: no teacher here; give the folder of a finished mrigen run")
    return run / "teacher" / "model"


def errors(model: Model, words: str, slices: list[Batch], samples: int) -> list[float]:
    """PSNR of each slice in dB, of the mean of some samples."""
    solver = SOLVERS.build(SOLVERS.parse(words))
    prior = model.prior(complex_valued=True, differentiated=solver.differentiates)
    request = Request(solver=words, samples=samples, batch=samples)
    values = []
    for batch in slices:
        images, _, _ = solve_batch(solver, batch, prior, request, torch.device("cpu"), silent)
        assert batch.reference is not None
        values.append(volume_errors(images.mean(1), batch.reference).row()["psnr"])
    return values


def compared(
    run: str, acceleration: float, words: str, teacher: list[float], student: list[float]
) -> dict[str, Any]:
    """A row: means of both, and of their differences."""
    gains = [s - t for s, t in zip(student, teacher, strict=True)]
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return {
        "run": run,
        "acceleration": acceleration,
        "solver": words,
        "slices": len(gains),
        "teacher": statistics.mean(teacher),
        "student": statistics.mean(student),
        "gain": statistics.mean(gains),
        "gain_error": error,
    }


def table(rows: Iterable[dict[str, Any]]) -> str:
    """A line for every acceleration and solver, and the gain of every run."""
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["acceleration"], row["solver"]), []).append(row)
    lines = [
        "| R | solver | runs x slices | teacher (dB) | student (dB) | gain of each run (dB) |",
        "|---|---|---|---|---|---|",
    ]
    for (acceleration, words), of in groups.items():
        teacher, student = (statistics.mean(row[key] for row in of) for key in ("teacher", "student"))
        gains = ", ".join(f"{row['gain']:+.2f} ± {row['gain_error']:.2f}" for row in of)
        count = f"{len(of)} x {of[0]['slices']}"
        lines.append(f"| {acceleration:g} | `{words}` | {count} | {teacher:.2f} | {student:.2f} | {gains} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs = [Path("runs/demo/brain")]
    parser.add_argument("--runs", type=existing, nargs="+", default=runs, help="folders of finished runs")
    parser.add_argument("--denoiser", default="student/denoiser", help="in each of them")
    parser.add_argument("--solvers", nargs="+", default=SOLVED)
    parser.add_argument("--accelerations", type=positive, nargs="+", default=[4])
    parser.add_argument("--slices", type=whole, default=8)
    parser.add_argument("--samples", type=whole, default=1, help="posterior samples, whose mean is measured")
    parser.add_argument("--coils", type=whole, default=4)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    for folder in [run / options.denoiser for run in options.runs]:
        if not (folder / DESCRIPTION).is_file():
            parser.error(f"{folder}: no model here; distil with distill.loss.denoising_weight=1")
        if read_description(folder).provenance.get("fake_score"):
            parser.error(f"{folder}: is of an earlier version; distil again with loss.denoising_weight=1")
    options.tuning, options.kernel_width = 0, 3
    torch.set_num_threads(1)
    pairs = {run: (Model.load(distilled(run)), Model.load(run / options.denoiser)) for run in options.runs}
    options.matrix = next(iter(pairs.values()))[0].image_shape[-1]
    phase, rows = phase_of([model for pair in pairs.values() for model in pair]), []
    with tempfile.TemporaryDirectory() as folder:
        paths = simulate(Path(folder) / "raw", options)
        for acceleration in options.accelerations:
            acs = acs_lines(acceleration, options.matrix)
            slices = batches(paths, acceleration, acs, phase, options)
            for run, models in pairs.items():
                for words in options.solvers:
                    both = [errors(model, words, slices, options.samples) for model in models]
                    rows.append(compared(run.name, acceleration, words, *both))
                    print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
