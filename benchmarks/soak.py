"""Commands killed at random moments and continued: is everything as if nothing had happened?

``python -m benchmarks.soak --faults 200 --json soak.json``

Every trial runs one command on small data, is struck by faults one after the other, continues by the same
command after each, and is compared byte by byte with a run that nothing happened to. Processes are forked
from one that has imported everything. Faults:

- ``SIGKILL``, ``SIGTERM``: at a random moment;
- ``torn write``: killed inside a random write, when half of the file has reached the disk;
- ``disk full``: the file system has a random size and takes no more; continued on a larger one (needs the
  right to mount; otherwise a random flush fails with ENOSPC);
- ``damage``: killed at a random moment, and the newest saved state is cut off or has a bit flipped.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.arguments import new_file, whole
from benchmarks.soak_commands import STAGES, Stage, prepare_inputs
from benchmarks.soak_faults import (
    DAMAGE,
    FULL,
    TERM,
    Fault,
    Place,
    damage_newest_state,
    faults_for,
    place,
    run_forked,
)

from mrigen.files import write_json

TIMED = {"log.jsonl", "report.html", "seconds.json"}  # they tell how long something took


@dataclass
class Row:
    """What happened to one stage."""

    seconds: float
    faults: dict[str, int] = field(default_factory=collections.Counter)
    trials: int = 0
    survived: int = 0
    bytes_lost: int = 0
    slowest_stop: float = 0.0
    wrong: list[str] = field(default_factory=list)


def results(folder: Path) -> dict[str, bytes]:
    """Every file of a trial as far as it does not depend on time; folders have no content.

    Of the saved states of a stage the newest one counts: SIGTERM saves one more than there would have been.
    """
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            contents[f"{name}/"] = b""
        elif path.name not in TIMED and not _superseded(path):
            content = path.read_bytes()
            contents[name] = _untimed(content) if path.name == "summary.json" else content
    return contents


def _superseded(path: Path) -> bool:
    return path.match("state-*") and path.stem < max(other.stem for other in path.parent.glob("state-*"))


def _untimed(content: bytes) -> bytes:
    tree = json.loads(content)
    rows = [row for row in tree.values() if isinstance(row, dict)]
    stops = [stop for row in rows for stop in row.get("stops", [])]
    for row in [*rows, *stops]:
        row.pop("seconds_per_1000", None)
    return json.dumps(tree).encode()


def lost(expected: dict[str, bytes], actual: dict[str, bytes]) -> tuple[int, list[str]]:
    """Bytes that differ or are missing, and the names of files that differ, are missing or too many."""
    names = [name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)]
    count = 0
    for name in names:
        a, b = expected.get(name, b""), actual.get(name, b"")
        count += sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
    return count, sorted(names)


@dataclass(frozen=True)
class Whole:
    """The run that nothing happened to.

    Attributes:
        files: its results.
        used: bytes that they need on the disk.
    """

    files: dict[str, bytes]
    used: int


def trial(
    stage: Stage, inputs: Path, where: Place, row: Row, whole: Whole, draw: random.Random, most: int
) -> None:
    """Faults one after the other until the command comes through or ``most`` struck; then compare."""
    command, struck = stage.command(inputs), []
    while len(struck) < most:
        counts = {kind: row.faults[kind] for kind in faults_for(states=stage.states)}
        kind = draw.choice([kind for kind, count in counts.items() if count == min(counts.values())])
        if not strike(kind, command, where, row, whole.used, draw):
            break
        struck.append(kind)
        row.faults[kind] += 1
    ended = run_forked(command, where.folder)
    row.trials += 1
    count, names = lost(whole.files, results(where.folder)) if ended.code == 0 else (0, [])
    row.bytes_lost += count
    if ended.code == 0 and not names:
        row.survived += 1
    else:
        row.wrong.append(f"{', '.join(struck)}: exit {ended.code}, {names or ended.output[-300:]}")


def strike(kind: str, command: list[str], where: Place, row: Row, most: int, draw: random.Random) -> bool:
    """Run the command with a fault; whether it came before the end."""
    moment = draw.random() * row.seconds
    if kind == FULL and where.mounted:
        used = where.used()
        with where.limited(used + int(draw.random() * max(most - used, 1 << 14))):
            return run_forked(command, where.folder).code != 0
    ended = run_forked(command, where.folder, Fault(kind, moment))
    if kind == TERM and ended.struck:
        row.slowest_stop = max(row.slowest_stop, ended.stopping)
    return ended.struck and (kind != DAMAGE or damage_newest_state(where.folder, draw))


def soak(
    faults: int, seed: int, names: list[str], per_trial: int, report: Callable[[str], None]
) -> dict[str, Row]:
    """Run trials until so many faults have struck, always of the command that has suffered least."""
    stages = [stage for stage in STAGES if not names or stage.name in names]
    rows: dict[str, Row] = {}
    wholes: dict[str, Whole] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        inputs = root / "given"
        inputs.mkdir()
        prepare_inputs(inputs)
        for stage in stages:
            rows[stage.name], wholes[stage.name] = uninterrupted(stage, inputs, root / "whole")
            report(f"{stage.name}: {rows[stage.name].seconds:.1f} s, {len(wholes[stage.name].files)} files")
        numbers = itertools.count()
        while (there := sum(sum(row.faults.values()) for row in rows.values())) < faults:
            number = next(numbers)
            stage = min(stages, key=lambda stage: sum(rows[stage.name].faults.values()))
            row, draw = rows[stage.name], random.Random(f"{seed} {number}")
            with place(root / "trial") as where:
                trial(stage, inputs, where, row, wholes[stage.name], draw, min(per_trial, faults - there))
            shutil.rmtree(root / "trial")
            report(f"{stage.name}: {dict(row.faults)} {row.survived} of {row.trials} {row.wrong[-1:]}")
    return rows


def uninterrupted(stage: Stage, inputs: Path, folder: Path) -> tuple[Row, Whole]:
    """The run that the others are compared with."""
    with place(folder) as where:
        start = time.monotonic()
        ended = run_forked(stage.command(inputs), folder)
        if ended.code:
            raise SystemExit(f"{stage.name}: {ended.output}")
        result = Row(time.monotonic() - start), Whole(results(folder), where.used())
    shutil.rmtree(folder)
    return result


def table(rows: dict[str, Row]) -> str:
    """The figures as Markdown."""
    kinds = faults_for(states=True)
    lines = [
        f"| command | seconds | {' | '.join(kinds)} | runs | survived | bytes lost |",
        "|---" * (len(kinds) + 5) + "|",
    ]
    for name, row in rows.items():
        counts = " | ".join(str(row.faults[kind]) if row.faults[kind] else "" for kind in kinds)
        numbers = f"{row.trials} | {row.survived} | {row.bytes_lost}"
        lines.append(f"| {name} | {row.seconds:.1f} | {counts} | {numbers} |")
    total = [sum(row.faults[kind] for row in rows.values()) for kind in kinds]
    runs, survived, count = (
        sum(getattr(row, word) for row in rows.values()) for word in ("trials", "survived", "bytes_lost")
    )
    lines.append(
        f"| all ({sum(total)} faults) | | {' | '.join(map(str, total))} | {runs} | {survived} | {count} |"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=whole, default=200)
    parser.add_argument("--per-trial", type=whole, default=4, help="faults one after the other in one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="commands")
    parser.add_argument("--json", type=new_file)
    args = parser.parse_args()
    start = time.monotonic()
    rows = soak(args.faults, args.seed, args.only, args.per_trial, lambda line: print(line, file=sys.stderr))
    print(table(rows))
    stop = max(row.slowest_stop for row in rows.values())
    print(f"\nslowest end after SIGTERM: {stop:.1f} s; {(time.monotonic() - start) / 60:.1f} minutes in all")
    for name, row in rows.items():
        for line in row.wrong:
            print(f"{name}: {line}")
    if args.json is not None:
        write_json(args.json, {name: vars(row) | {"faults": dict(row.faults)} for name, row in rows.items()})
    return int(any(row.wrong for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
