"""The list of benchmarks: ``python -m benchmarks``."""

from __future__ import annotations

import ast
from pathlib import Path


def listed() -> dict[str, str]:
    """First line of the docstring of everything here that can be run."""
    titles = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        source = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in source:
            titles[path.stem] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return titles


if __name__ == "__main__":
    for name, what in listed().items():
        print(f"python -m benchmarks.{name:22} {what}")
