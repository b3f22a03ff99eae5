"""A recipe for several seeds: distances of observations, teacher, laps and student, and their spread.

    python -m benchmarks.demo_seeds --seeds 0 1 2 --out runs/demo-seeds --json demo_seeds.json
    python -m benchmarks.demo_seeds --recipe toy/digits-inpaint --ratio 0.25 --out runs/digits-seeds

Every seed simulates or corrupts its own data, trains its own teacher and distils it. The same command
continues what was interrupted. ``--set`` changes the recipe for all seeds, ``--ratio`` is what the student's
distance may be of its teacher's. CPU minutes are those of all processes, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.arguments import new_file, positive
from benchmarks.result_tables import spread

from mrigen import recipe as recipes
from mrigen.recipe.schema import DataParams

RATIO = 0.8


def data_seeds(data: DataParams, seed: int) -> list[str]:
    """Settings that give a recipe's data their own randomness."""
    if data.images is not None:
        return [f"data.images.seed={seed}"]
    simulated = [f"data.simulate.seed={seed}"] if data.simulate is not None else []
    return [*simulated, f"data.prep.seed={seed}"]


def run(recipe: str, seed: int, out: Path, changes: list[str]) -> dict[str, Any]:
    """Summary of one run, with the minutes that this call took (none where it was finished before)."""
    seeds = data_seeds(recipes.load(recipe, changes).data, seed)
    options = [word for change in (*seeds, *changes) for word in ("--set", change)]
    folder = out / f"seed-{seed}"
    start, before = time.monotonic(), cpu_seconds()
    command = [sys.executable, "-m", "mrigen", "run", recipe]
    subprocess.run([*command, "--seed", str(seed), "--out", str(folder), *options], check=True)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    minutes = {"minutes": time.monotonic() - start, "cpu_minutes": cpu_seconds() - before}
    return {**summary, **{name: seconds / 60 for name, seconds in minutes.items()}}


def cpu_seconds() -> float:
    """Processor time of the finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(rows: list[dict[str, Any]], allowed: float = RATIO) -> str:
    """Mean and standard deviation over the seeds of every row and metric, then a line per seed."""
    columns = {"fd": f"Fréchet distance ({rows[0]['features'][0]})"}
    columns |= {f"fd_{name}": f"Fréchet distance ({name})" for name in rows[0]["features"][1:]}
    columns |= {"fd_pca_head": "Fréchet distance (pca, head)"}
    columns |= {"high_frequency_ratio": "power beyond N/4", "energy_outside": "energy outside"}
    columns = {key: words for key, words in columns.items() if key in rows[0]["student"]}
    counts = ", ".join(f"{row['n']} (seed {row['seed']})" for row in rows)
    lines = [f"n = {counts}", "", f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, first in rows[0].items():
        if isinstance(first, dict) and "fd" in first:
            cells = [spread([row[name][key] for row in rows if name in row]) for key in columns]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| seed | teacher | student | student / teacher | minutes | CPU minutes |",
        "|---" * 6 + "|",
    ]
    ratios = [row["student"]["fd"] / row["teacher"]["fd"] for row in rows]
    for row, ratio in zip(rows, ratios, strict=True):
        distances = " | ".join(f"{row[name]['fd']:.3f}" for name in ("teacher", "student"))
        cost = [f"{row[key]:.1f}" if key in row else "" for key in ("minutes", "cpu_minutes")]
        lines.append(f"| {row['seed']} | {distances} | {ratio:.3f} | {' | '.join(cost)} |")
    good = sum(
        ratio <= allowed and row["student"]["fd"] < row["observation"]["fd"]
        for row, ratio in zip(rows, ratios, strict=True)
    )
    lines.append(
        f"\nstudent at most {allowed:g} of its teacher, below the observations: {good} of {len(rows)} seeds"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="demo/brain")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/demo-seeds"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--ratio", type=positive, default=RATIO)
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    rows = [run(arguments.recipe, seed, arguments.out, arguments.changes) for seed in arguments.seeds]
    print(table(rows, arguments.ratio))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
