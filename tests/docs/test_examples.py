"""The gallery's scripts: what they name exists; the shortest ones run. All run when the pages are built."""

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import mrigen

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def names(tree):
    """Attributes of ``mg`` that a script uses, as dotted paths."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            path = ast.unparse(node)
            if re.fullmatch(r"mg(\.\w+)+", path):
                yield path.removeprefix("mg.")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_it_names_exists(path):
    tree = ast.parse(path.read_text())
    title, line = ast.get_docstring(tree, clean=True).splitlines()[:2]
    assert line == "=" * len(title)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            assert all(find_spec(alias.name) or alias.name == "deepinv" for alias in node.names)
    for dotted in names(tree):
        value = mrigen
        for part in dotted.split("."):
            value = getattr(value, part)


def test_there_are_nine():
    assert [path.stem[:2] for path in EXAMPLES] == [f"{n:02d}" for n in range(1, 10)]


def test_the_first_runs(tmp_path):
    environment = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES[0])]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"differ by (\S+)", done.stdout)[1]) < 1e-5
