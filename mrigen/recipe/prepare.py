"""The data stage of a recipe."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mrigen.recipe.schema import DataParams


def prepare(data: DataParams, out: Path, store: Path, console: Console) -> None:
    """Simulate raw volumes if the recipe says so, and prepare them into ``store``."""
    raise NotImplementedError
