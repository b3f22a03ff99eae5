"""Write docs/members.md, and the texts of ``mrigen list`` that the package carries.

python docs/generate.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mrigen.cli.members import CATALOGUE, Kind, describe_kind

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "members.md"
TEXTS = ROOT / "mrigen" / "assets" / CATALOGUE
HEAD = """# What recipes and options name

Written by `make docs` from the classes themselves; `mrigen list KIND [NAME]` shows the same. A class of your
own in a file is named `mine.py:Class` wherever one of these names stands: see [extending](extending.md).
"""


def kinds() -> dict[str, dict[str, Any]]:
    """The texts of every kind."""
    return {kind.value: describe_kind(kind) for kind in Kind}


def page(described: dict[str, dict[str, Any]]) -> str:
    """The page of all kinds."""
    parts = [HEAD]
    for kind, texts in described.items():
        parts.append(f"\n## {kind.capitalize()}\n\n```text\n{texts['list']}\n```\n")
        parts += [f"\n### {name}\n\n```text\n{text}\n```\n" for name, text in texts["members"].items()]
    return "".join(parts)


def main() -> None:
    described = kinds()
    TEXTS.write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(described), encoding="utf-8")


if __name__ == "__main__":
    main()
