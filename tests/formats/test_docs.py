"""The table of docs/formats.md names every reader, and tests that exist."""

import re
from pathlib import Path

from mrigen.prep.readers import READERS

ROOT = Path(__file__).parents[2]


def test_the_table_of_formats():
    table = [
        line for line in (ROOT / "docs" / "formats.md").read_text().splitlines() if line.startswith("| ")
    ]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1:]]
    assert {row[1].strip("`") for row in rows} - {"images"} == set(READERS.names())
    tests = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    named = {name for row in rows for cell in row[2:] for name in re.findall(r"`(test_\w+)`", cell)}
    assert len(named) > 8
    for name in named:
        assert f"def {name}(" in tests, name
    assert all(len(row) == 6 and all(row) for row in rows)
