"""Tables of the documentation, written from the numbers that benchmarks kept.

    python -m benchmarks.result_tables

``benchmarks/results/NAME.json`` holds ``benchmark`` (the program whose ``table`` prints the rows),
``command``, ``machine`` and ``rows``. In the pages of ``docs/results`` what stands between
``<!-- results NAME -->`` and ``<!-- end -->`` is written anew: the command, the machine and the table.
"""

from __future__ import annotations

import importlib
import json
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"
PAGES = sorted((ROOT / "docs" / "results").glob("*.md"))
BLOCK = re.compile(r"(<!-- results ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, or the only value."""
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def section(name: str) -> str:
    """Command, machine and table of one file of results."""
    kept = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    table = importlib.import_module(f"benchmarks.{kept['benchmark']}").table(kept["rows"])
    return f"\n```sh\n{kept['command']}\n```\n\n{kept['machine']}\n\n{table}\n\n"


def updated(page: str) -> str:
    """A page with the tables of the files as they are."""
    return BLOCK.sub(lambda match: match[1] + section(match[2]) + match[3], page)


def main() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if (new := updated(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
