"""How long the command takes before it does anything, and which imports that is.

    python -m benchmarks.startup --json startup.json

Every command runs in a fresh process, one warm-up and then ``--runs`` times; medians of wall and processor
seconds are shown beside the bare interpreter. The imports are those of ``python -X importtime``, by the
milliseconds that each module takes itself.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.arguments import new_file, whole

from mrigen.files import write_json

COMMANDS = {
    "python -c pass": (["-c", "pass"], None),
    "mrigen --help": (["-m", "mrigen", "--help"], 0.3),
    "mrigen recipes list": (["-m", "mrigen", "recipes", "list"], 0.5),
    "mrigen list solvers": (["-m", "mrigen", "list", "solvers"], 0.5),
    "mrigen prep-fastmri --help": (["-m", "mrigen", "prep-fastmri", "--help"], 2.0),
    "mrigen sample --help": (["-m", "mrigen", "sample", "--help"], 2.0),
    "python -c 'import torch'": (["-c", "import torch"], None),
    "mrigen doctor": (["-m", "mrigen", "doctor"], 2.0),
    "mrigen info (k-space in .npy)": (["-m", "mrigen", "info", "{kspace}"], None),
}
LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|\s*(\S+)")


def once(arguments: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime


def imports(arguments: list[str], most: int) -> list[tuple[str, float]]:
    """The modules that take longest themselves, and their milliseconds."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    costs = [(m[3], int(m[1]) / 1000) for m in map(LINE.match, done.stderr.splitlines()) if m]
    return sorted(costs, key=lambda row: -row[1])[:most]


def measure(runs: int, most: int, folder: Path) -> list[dict[str, Any]]:
    """One row per command; a small file of k-space for ``info`` is written into ``folder``."""
    kspace = folder / "kspace.npy"
    np.save(kspace, np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.complex64))
    rows = []
    for name, (template, target) in COMMANDS.items():
        arguments = [word.format(kspace=kspace) if word == "{kspace}" else word for word in template]
        once(arguments)
        wall, processor = zip(*(once(arguments) for _ in range(runs)), strict=True)
        rows.append(
            {
                "command": name,
                "seconds": statistics.median(wall),
                "processor_seconds": statistics.median(processor),
                "target": target,
                "imports": imports(arguments, most),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Times, then imports."""
    lines = ["| command | seconds | processor seconds | target |", "|---" * 4 + "|"]
    for row in rows:
        target = "" if row["target"] is None else f"{row['target']:g}"
        seconds = f"{row['seconds']:.2f} | {row['processor_seconds']:.2f}"
        lines.append(f"| {row['command']} | {seconds} | {target} |")
    named = {row["command"]: ", ".join(f"{m} {t:.1f}" for m, t in row["imports"]) for row in rows[1:]}
    lines.extend(f"{command}, ms in imports: {words}" for command, words in named.items())
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=whole, default=10)
    parser.add_argument("--imports", type=whole, default=10, help="modules to name")
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = measure(arguments.runs, arguments.imports, Path(name))
    print(table(rows))
    if arguments.json:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
