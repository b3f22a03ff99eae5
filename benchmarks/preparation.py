"""``mrigen prep-fastmri`` beside a loop over sigpy's ESPIRiT that does the same: slices per second, memory.

    python -m benchmarks.preparation --coils 16 --matrix 320 320 --slices 8 --volumes 1,4 --jobs 1,2 --profile

One volume is simulated with twofold readout oversampling (16 coils, 640 x 320) and given several names. In
every round each program prepares it once as a whole command, start-up included; medians are shown. The loop
over sigpy (``benchmarks.sigpy_loop``) prepares the smallest number of volumes with as many threads as the
largest number of jobs. Memory is that of all processes together. ``--cold`` drops the raw files from the
page cache before every run.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import torch
from benchmarks.arguments import new_file, whole, whole_or_zero
from benchmarks.espirit import machine
from benchmarks.process_tree import Cost, measure

from mrigen.prep.kspace import job
from mrigen.prep.kspace.options import Options
from mrigen.prep.simulate.acquisition import Simulation
from mrigen.prep.simulate.job import simulate

ACCELERATION = 4
ACS_LINES = 24
FUNCTIONS = {
    "read": "reading the raw k-space",
    "sha256": "checksums of the raw files and of the store",
    "plan": "whitening matrix from the image corner, masks; reading for it",
    "_mixing": "compression matrix from the ACS",
    "mix_coils": "whitening and compressing",
    "crop_image": "cropping the readout",
    "espirit": "coil maps",
    "acs_scale": "scale",
    "mismatch": "distance of data and model",
    "append": "writing",
    "_sync": "waiting for the disk",
}


def raw_folders(folder: Path, numbers: list[int], simulation: Simulation) -> dict[int, Path]:
    """Folders with so many names of one simulated volume."""
    simulate(folder / "simulated", 1, simulation)
    (volume,) = (folder / "simulated").glob("*.h5")
    folders = {}
    for number in numbers:
        folders[number] = folder / f"raw{number}"
        folders[number].mkdir()
        for i in range(number):
            os.link(volume, folders[number] / f"volume{i:05d}.h5")
    return folders


def forget(folder: Path) -> None:
    """Drop the files from the page cache."""
    for path in folder.glob("*.h5"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def commands(raw: dict[int, Path], options: argparse.Namespace) -> dict[tuple[str, int], list[str]]:
    """Every program with the number of volumes that it prepares; OUT is to be added."""
    shared = ["--acceleration", str(ACCELERATION), "--acs-lines", str(options.acs_lines)]
    shared += ["--virtual-coils", str(options.virtual_coils)]
    fewest = min(raw)
    loop = [sys.executable, "-m", "benchmarks.sigpy_loop", str(raw[fewest]), *shared]
    programs = {("sigpy loop", fewest): loop}
    for number, folder in raw.items():
        for count in options.jobs:
            ours = [sys.executable, "-m", "mrigen", "prep-fastmri", str(folder), *shared, "--no-references"]
            programs[f"mrigen --jobs {count}", number] = [*ours, "--jobs", str(count)]
    return programs


def compare(
    raw: dict[int, Path], options: argparse.Namespace, scratch: Path
) -> tuple[dict[tuple[str, int], list[Cost]], float]:
    """Costs of every round, and how far the scales of ours and of the loop are apart."""
    costs: dict[tuple[str, int], list[Cost]] = defaultdict(list)
    scales: dict[str, np.ndarray] = {}
    for _ in range(options.rounds):
        for (name, number), command in commands(raw, options).items():
            out = scratch / "out"
            threads = str(max(options.jobs)) if name == "sigpy loop" else "1"
            if options.cold:
                forget(raw[number])
            place = [str(out)] if name == "sigpy loop" else ["--out", str(out)]
            environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
            costs[name, number].append(measure([*command, *place], environment))
            scales[name] = _scales(out / "volume00000.h5")
            shutil.rmtree(out)
    reference = scales.pop("sigpy loop")
    return costs, max(float(np.abs(scale / reference - 1).max()) for scale in scales.values())


def _scales(path: Path) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return (
            file["scale"][()]
            if "scale" in file
            else np.array([file[f"{i}/scale"][()] for i in range(len(file))])
        )


def rows(costs: dict[tuple[str, int], list[Cost]], slices: int) -> list[dict[str, object]]:
    """Medians, with the loop over sigpy as the unit."""
    table = []
    for (name, number), rounds in costs.items():
        medians = {key: statistics.median(asdict(cost)[key] for cost in rounds) for key in asdict(rounds[0])}
        rate = number * slices / medians["seconds"]
        table.append({"program": name, "volumes": number, "slices_per_second": rate, **medians})
    unit = table[0]["slices_per_second"]
    per_slice = table[0]["processor_seconds"] / table[0]["volumes"]
    for row in table:
        row["ratio"] = row["slices_per_second"] / unit
        row["processor_ratio"] = per_slice / (row["processor_seconds"] / row["volumes"])
        row["cores"] = row["processor_seconds"] / row["seconds"]
    return table


def profile(raw: Path, arguments: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """Cumulative seconds of the functions named in FUNCTIONS, and of the whole."""
    options = Options(
        acceleration=ACCELERATION, acs_lines=arguments.acs_lines, virtual_coils=arguments.virtual_coils
    )
    profiler = cProfile.Profile()
    profiler.runcall(job.run, [raw], scratch / "profiled", options, references=None, jobs=1)
    seconds = dict.fromkeys(("run", *FUNCTIONS), 0.0)
    for (_, _, name), (_, _, _, cumulative, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        if name in seconds:
            seconds[name] = max(seconds[name], cumulative)
    return seconds


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coils", type=whole, default=16)
    parser.add_argument("--virtual-coils", type=whole_or_zero, default=4)
    parser.add_argument("--acs-lines", type=whole, default=ACS_LINES)
    parser.add_argument("--matrix", type=whole, nargs=2, default=(320, 320))
    parser.add_argument("--slices", type=whole, default=8)
    parser.add_argument("--volumes", type=_numbers, default=[1, 4])
    parser.add_argument("--jobs", type=_numbers, default=[1, 2])
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    height, width = options.matrix
    simulation = Simulation(
        coils=options.coils,
        slices=options.slices,
        matrix=(height, width),
        oversampling=2,
    )
    result: dict[str, object] = {
        "machine": machine(max(options.jobs)),
        "options": vars(options) | {"json": None},
    }
    print(
        f"{options.coils} coils to {options.virtual_coils or 'all'}, {2 * height} x {width}, "
        f"{options.slices} slices a volume, torch {torch.__version__}; {result['machine']}"
    )
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        raw = raw_folders(scratch, options.volumes, simulation)
        costs, deviation = compare(raw, options, scratch)
        result |= {"programs": rows(costs, options.slices), "scales_differ": deviation}
        print(
            f"{'':18}{'volumes':>8}{'s':>9}{'slices/s':>10}{'ratio':>8}"
            f"{'cpu s':>8}{'cpu ratio':>10}{'cores':>7}{'MiB':>7}"
        )
        for row in result["programs"]:
            print(
                f"{row['program']:18}{row['volumes']:8}{row['seconds']:9.2f}{row['slices_per_second']:10.3f}"
                f"{row['ratio']:7.1f}x{row['processor_seconds']:8.1f}{row['processor_ratio']:9.1f}x{row['cores']:7.2f}"
                f"{row['peak_mib']:7.0f}"
            )
        print(f"scales of the slices differ by {deviation:.1e} at most")
        if options.profile:
            result["profile_s"] = seconds = profile(raw[min(raw)], options, scratch)
            print(f"{seconds['run']:8.2f} s in all, one process")
            for name, what in FUNCTIONS.items():
                print(f"{seconds[name]:8.2f} s  {what}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
