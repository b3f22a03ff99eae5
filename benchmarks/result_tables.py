"""Tables of the documentation, written from the numbers that benchmarks kept.

    python -m benchmarks.result_tables

``benchmarks/results/NAME.json`` holds ``command``, ``machine`` and ``rows``; and either ``benchmark``, the
program whose ``table`` prints the rows, or ``columns``, with the cells of each row as they were printed. In
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
    return printed(kept["columns"], kept["rows"])


def written(section: str) -> str:
    """A section of a page with its tables, commands and machines as the files say."""
    before: dict[str, str] = {}

    def block(match: re.Match[str]) -> str:
        kept = json.loads((FOLDER / f"{match[2]}.json").read_text(encoding="utf-8"))
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
