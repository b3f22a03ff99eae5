"""The table of docs/formats.md names every reader, and tests that run for it."""

import importlib.util
import re
from pathlib import Path

import pytest
from format_files import WRITERS

from mrigen.prep.readers import READERS

ROOT = Path(__file__).parents[2]
FILES = [*Path(__file__).parent.glob("test_*.py"), ROOT / "tests" / "prep" / "test_picture_cases.py"]
OTHER_NAMES = {"npy": "numpy", "matlab 7.3": "matlab"}


def rows():
    lines = (ROOT / "docs" / "formats.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1:]]


@pytest.fixture(scope="module")
def tests():
    """Every test of the formats by its name, and the kinds of file that it is run for; None for any."""
    found = {}
    for path in FILES:
        spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, test in vars(module).items():
            marks = {m.args[0]: m.args[1] for m in getattr(test, "pytestmark", []) if m.name == "parametrize"}
            kinds = marks.get("kind")
            found[name] = None if kinds is None or not set(kinds) <= set(WRITERS) else set(kinds)
    return found


def test_the_table_of_formats(tests):
    table = rows()
    assert {row[1].strip("`") for row in table} - {"images"} == set(READERS.names())
    assert all(len(row) == 6 and all(row) for row in table)
    for row in table:
        for cell in row[2:]:
            names = re.findall(r"`(test_\w+)`", cell)
            assert names or cell == "–", (row[0], cell)
            assert set(names) <= set(tests), (row[0], cell)
            readers = [{OTHER_NAMES.get(k, k) for k in tests[n]} for n in names if tests[n] is not None]
            # the reference of a comparison is no parameter of its test
            assert all(row[1].strip("`") in {*some, "fastmri"} for some in readers), (row[0], cell)
