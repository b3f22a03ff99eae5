"""Peak memory of reconstructing a whole volume on the CPU.

    python -m benchmarks.reconstruction_memory --json memory.json

Simulates a volume of 30 slices, 16 coils, 384 x 320, and runs ``mrigen reconstruct`` on it in a process of
its own, once for each solver: l1-wavelet, and learned ones with a teacher of the shipped recipes' network and
random weights, for memory does not depend on what was learned. All run few steps, because the memory of a
step is that of all of them. The peak is the largest resident set size that Linux reports (VmHWM), Python and
torch included. ``--size`` and ``--slices`` make it smaller.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.arguments import new_file, whole

LIMIT = 6 * 2**30
SOLVERS = {
    "l1-wavelet": "l1-wavelet:iterations=3",
    "plug-and-play": "pnp:steps=1,hide=nothing",
    "DDS": "dds:steps=2",
    "DPS": "dps:steps=2",
}
COMMAND = """
import sys
from pathlib import Path
from mrigen.cli.main import run

code = run(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")))
raise SystemExit(code)
"""
TEACHER = """
import json, sys
from pathlib import Path
from mrigen.checkpoints.description import ModelDescription
from mrigen.channels import ChannelLayout
from mrigen.model import Model

folder, network = Path(sys.argv[1]), json.loads(sys.argv[4])
height, width = int(sys.argv[2]), int(sys.argv[3])
seen = ChannelLayout(image="complex", image_channels=2, mask_channels=1, ones_channel=True)
description = ModelDescription(
    network={"resolution": height, "in_channels": 4, "out_channels": 2, **network},
    preconditioner={"name": "edm"},
    conventions=seen,
    image_shape=(1, height, width),
    objective={"name": "ambient"},
    corruption={"mask": {"name": "exact-random", "acceleration": 4, "acs_lines": 20}, "fresh_masks": True},
)
Model.random_init(description).save(folder)
"""


def measured(*arguments: Any) -> tuple[int, float]:
    """Bytes at the peak and seconds of a command of mrigen."""
    start = time.perf_counter()
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1]), time.perf_counter() - start


def network() -> dict[str, Any]:
    """The network of the shipped recipe for volumes of this size."""
    from mrigen import recipe

    return dict(recipe.load("fastmri/brain-r4", []).teacher.network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=whole, nargs=2, default=[384, 320], metavar=("H", "W"))
    parser.add_argument("--coils", type=whole, default=16)
    parser.add_argument("--slices", type=whole, default=30)
    parser.add_argument("--batch", type=whole, help="slices at once; by default what the command chooses")
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--network", type=json.loads, help="JSON of another network of the teacher")
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (height, width), raw, teacher = options.size, folder / "raw", folder / "teacher"
        measured(
            "simulate", "--out", raw, "--volumes", 1, "--slices", options.slices, "--matrix", height, width,
            "--coils", options.coils, "--jobs", 1,
        )  # fmt: skip
        (volume,) = raw.glob("*.h5")
        layout = json.dumps(options.network or network())
        command = [sys.executable, "-c", TEACHER, str(teacher), str(height), str(width), layout]
        subprocess.run(command, check=True)
        print(f"{options.slices} slices, {options.coils} coils, {height} x {width}\n")
        print("| solver | peak, GiB | below 6 GiB | s |\n|---|---|---|---|")
        for solver in options.solvers:
            words, out = SOLVERS[solver], folder / "out"
            more = ["--batch", options.batch] if options.batch else []
            model = [] if solver == "l1-wavelet" else ["--model", teacher]
            peak, seconds = measured(
                "reconstruct", volume, "--solver", words, "--out", out, "--acceleration", 4,
                "--acs-lines", 20, "--device", "cpu", *model, *more,
            )  # fmt: skip
            rows.append({"solver": words, "peak_bytes": peak, "seconds": seconds})
            fits = "yes" if peak < LIMIT else "no"
            print(f"| `{words}` | {peak / 2**30:.2f} | {fits} | {seconds:.0f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
