"""Tables of the documentation, written from the numbers that benchmarks kept.

    python -m benchmarks.result_tables

``benchmarks/results/NAME.json`` holds ``command``, ``machine`` and ``rows``; and either ``benchmark``, the
program whose ``table`` prints the rows, or ``columns``, with the cells of each row as they were printed, or
``files``, of which it takes the rows of the same methods: a column for each, with its first two distances. In
the pages of ``docs/results`` what stands between ``<!-- results NAME -->`` and ``<!-- end -->`` is written
anew: the command, the machine and the table. What the table before it in the same section said of command or
machine is not said again.
"""

from __future__ import annotations

import importlib
import json
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"
PAGES = sorted((ROOT / "docs" / "results").glob("*.md"))
BLOCK = re.compile(r"(<!-- results ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SECTION = re.compile(r"^(?=## )", re.MULTILINE)


def results(name: str) -> dict[str, Any]:
    """A file of results."""
    kept: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return kept


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, or the only value."""
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def printed(columns: list[str], rows: list[list[str]]) -> str:
    """Markdown of cells as they are."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])


def table(kept: dict[str, Any]) -> str:
    """Markdown of the rows of a file of results."""
    if "benchmark" in kept:
        text: str = importlib.import_module(f"benchmarks.{kept['benchmark']}").table(kept["rows"])
        return text
    if "files" in kept:
        return printed(["", *kept["files"]], joined(list(kept["files"].values()), kept["rows"]))
    return printed(kept["columns"], kept["rows"])


def joined(files: list[str], methods: dict[str, list[str]]) -> list[list[str]]:
    """The first two distances of methods in files of results; an empty cell where one has no row.

    Args:
        files: names of the files.
        methods: of every method the names that its row has in them.

    Raises:
        ValueError: a row of a file belongs to no method.
    """
    cells = [{row[0]: " / ".join(row[1:3]) for row in results(name)["rows"]} for name in files]
    if unnamed := set().union(*cells) - set().union(*methods.values()):
        raise ValueError(f"rows of no method: {', '.join(sorted(unnamed))}")
    rows = []
    for method, names in methods.items():
        matches = ([file[name] for name in names if name in file] for file in cells)
        rows.append([method, *("".join(match) for match in matches)])
    return rows


def written(section: str) -> str:
    """A section of a page with its tables, commands and machines as the files say."""
    before: dict[str, str] = {}

    def block(match: re.Match[str]) -> str:
        kept = results(match[2])
        parts = {"command": f"```sh\n{kept['command']}\n```", "machine": kept["machine"]}
        new = [text for key, text in parts.items() if before.get(key) != text]
        before.update(parts)
        body = "\n\n".join([*new, table(kept)])
        return f"{match[1]}\n{body}\n\n{match[3]}"

    return BLOCK.sub(block, section)


def updated(page: str) -> str:
    """A page with the tables of the files as they are."""
    return "".join(map(written, SECTION.split(page)))


def main() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if (new := updated(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
