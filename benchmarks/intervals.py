"""Calibrated posterior samples of unseen heads: how often intervals hold, in k-space and in the image.

    python -m benchmarks.intervals RAW --model runs/heads/seed-0/R4/base/lap-1 --out runs/intervals

RAW is a folder of fully sampled volumes that the model has not seen, of several heads and contrasts. Two
slices of each are undersampled at each acceleration, with coil maps of their ACS lines, and go through
``mrigen reconstruct --calibrate``. The rows say which share of components that were put aside, and on which
nothing depends, lies in their 90 % intervals, without and with calibration; which share of the head's pixels
does, where the truth is known; root mean square error over predicted standard deviation (1 is right); and, of
pixels whose brightness is off by a tenth of the grey window with a chance of 5 to 20, 20 to 50 and over 50 %,
the chance and how many were. Below, the image's numbers of each head and contrast.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import h5py
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import existing, new_file, positive, several, whole_or_zero
from benchmarks.heads import acs_lines

from mrigen.cli.main import run
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.model import Model
from mrigen.prep.readers import inspect
from mrigen.reconstruction.uncertainty import HEAD


def command(*words: object) -> None:
    """A command of mrigen; ends the program where it fails, after its one line."""
    if code := run([str(word) for word in words]):
        raise SystemExit(code)


def measured(options: argparse.Namespace, acceleration: float, paths: list[Path]) -> dict[str, Any]:
    """One acceleration: the calibration of ``metrics.json``, and the image's numbers of each group."""
    folder = options.out / f"R{acceleration:g}"
    scan = inspect(paths[0])
    phase = (Model.load(options.model).description.corruption or {}).get("phase", "coil")
    if not (folder / "metrics.json").is_file():
        command(
            "prep-fastmri", *paths, "--out", folder / "store", "--acceleration", acceleration,
            "--acs-lines", acs_lines(acceleration, scan.width), "--kernel-width", options.kernel_width,
            "--slices", ",".join(map(str, options.slice)), "--phase", phase, "--virtual-coils", 0,
            "--noise-whitening", "--split", "test=1", "--jobs", 1,
        )  # fmt: skip
        command(
            "reconstruct", folder / "store", "--model", options.model, "--solver", options.solver,
            "--samples", options.samples, "--calibrate", "--seed", options.seed, "--out", folder,
            "--device", "cpu",
        )  # fmt: skip
    calibration: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))[
        "calibration"
    ]
    contrasts = {path.stem: str(inspect(path).acquisition) for path in paths}
    return {**calibration, "groups": groups(folder / "reconstruction.h5", contrasts)}


def groups(path: Path, contrasts: dict[str, str]) -> dict[str, dict[str, float]]:
    """Coverage of the head's pixels, and error over deviation, of each head and contrast."""
    sums: defaultdict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(4, dtype=torch.float64))
    with h5py.File(path) as file:
        rows = (file[name][:] for name in ("names", "image", "reference", "std", "lower", "upper"))
        for name, *arrays in zip(*rows, strict=True):
            stem = name.decode().partition(" slice ")[0]
            image, truth, deviation, lower, upper = map(torch.from_numpy, arrays)
            head = truth.abs() > HEAD * truth.abs().max()
            inside = head & (lower <= truth.abs()) & (truth.abs() <= upper)
            scale = truth.abs().max().double() ** 2
            energies = [(image - truth).abs().double().square().sum(), deviation.double().square().sum()]
            key = f"{stem.rpartition('_')[0] or stem} {contrasts[stem]}"
            sums[key] += torch.stack([head.sum(), inside.sum(), *(e / scale for e in energies)])
    return {
        key: {"coverage_image": float(n[1] / n[0]), "error_over_deviation": float((n[2] / n[3]).sqrt())}
        for key, n in sorted(sums.items())
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    titles = (
        "R",
        "slices",
        "factors, quantile",
        "k-space, plain",
        "k-space",
        "image",
        "error over deviation",
    )
    lines = [
        f"| {' | '.join(titles)} | off by a tenth: predicted and observed |",
        "|---" * (len(titles) + 1) + "|",
    ]
    for name, row in rows.items():
        factors = " to ".join(f"{f:.2f}" for f in dict.fromkeys([row["factors"][0], row["factors"][-1]]))
        classes = ", ".join(
            f"{100 * one['predicted']:.0f} % {100 * one['observed']:.0f} %" for one in row["exceedance"][1:]
        )
        shares = (row[f"coverage_{part}"] for part in ("put_aside_uncalibrated", "put_aside", "image"))
        lines.append(
            f"| {name} | {row['slices']} | {factors}, {row['quantile']:.2f} | "
            f"{' | '.join(f'{100 * share:.1f} %' for share in shares)} | "
            f"{row['error_over_deviation']:.2f} | {classes} |"
        )
    for name, row in rows.items():
        parts = (
            f"{group}: {100 * part['coverage_image']:.1f} % ({part['error_over_deviation']:.2f})"
            for group, part in row["groups"].items()
        )
        lines.append(f"\nR = {name}: {'; '.join(parts)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=existing, help="folder of fully sampled volumes")
    parser.add_argument("--model", type=existing, required=True, help="teacher")
    parser.add_argument("--out", type=Path, required=True, help="folder; what is there is not measured again")
    parser.add_argument("--accelerations", type=positive, nargs="+", default=[4, 8])
    parser.add_argument("--solver", default="mmps:steps=20")
    parser.add_argument("--samples", type=several, default=8)
    parser.add_argument("--slice", type=whole_or_zero, nargs="+", default=[6, 14], help="of each volume")
    parser.add_argument("--kernel-width", type=several, default=3)
    parser.add_argument("--seed", type=whole_or_zero, default=0)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(options.raw.glob("*.h5"))
    if not paths:
        raise UsageError(f"{options.raw}: holds no volumes (*.h5)")
    rows = {f"{r:g}": measured(options, r, paths) for r in options.accelerations}
    print(table(rows))
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    one_line(main)
