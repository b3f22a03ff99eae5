"""The demo for several seeds: Fréchet distance of observations, teacher and student, and their spread.

    python -m benchmarks.demo_seeds --seeds 0 1 2 --out runs/demo-seeds --json demo_seeds.json

Every seed simulates and prepares its own volumes, trains its own teacher and distils it. The same
command continues what was interrupted. ``--recipe`` takes any recipe, ``--set`` changes it for all seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RATIO = 0.8


def run(recipe: str, seed: int, out: Path, changes: list[str]) -> dict[str, Any]:
    """Summary of one run, with the minutes that this call took (none where it was finished before)."""
    seeds = [f"data.simulate.seed={seed}", f"data.prep.seed={seed}"] if recipe == "demo/brain" else []
    options = [word for change in (*seeds, *changes) for word in ("--set", change)]
    folder = out / f"seed-{seed}"
    start = time.monotonic()
    command = [sys.executable, "-m", "mrigen", "run", recipe]
    subprocess.run([*command, "--seed", str(seed), "--out", str(folder), *options], check=True)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {**summary, "minutes": (time.monotonic() - start) / 60}


def table(rows: list[dict[str, Any]]) -> str:
    """One line per seed, then mean and standard deviation."""
    names = ("observation", "teacher", "student", "floor")
    lines = [
        f"Fréchet distance ({rows[0]['features']}, n = {rows[0]['n']})",
        "| seed | " + " | ".join(names) + " | student / teacher | minutes |",
        "|---" * 7 + "|",
    ]
    ratios = [row["student"]["fd"] / row["teacher"]["fd"] for row in rows]
    for row, ratio in zip(rows, ratios, strict=True):
        distances = " | ".join(f"{row[name]['fd']:.3f}" for name in names)
        lines.append(f"| {row['seed']} | {distances} | {ratio:.2f} | {row['minutes']:.1f} |")
    if len(rows) > 1:
        spread = [_spread([row[name]["fd"] for row in rows]) for name in names]
        lines.append(f"| mean ± sd | {' | '.join(spread)} | {_spread(ratios)} | |")
    good = sum(
        ratio <= RATIO and row["student"]["fd"] < row["observation"]["fd"]
        for row, ratio in zip(rows, ratios, strict=True)
    )
    lines.append(
        f"\nstudent at most {RATIO} of its teacher and below the observations: {good} of {len(rows)} seeds"
    )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="demo/brain")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/demo-seeds"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [run(given.recipe, seed, given.out, given.changes) for seed in given.seeds]
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
