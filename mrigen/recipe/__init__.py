"""Recipes: YAML files that say how a whole study is run, checked before anything starts."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrigen.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mrigen.recipe.schema import Recipe

LIMIT = 1 << 20
SUFFIXES = (".yaml", ".yml")


def names() -> list[str]:
    """Names of the shipped recipes, ``demo/brain`` for example; not those that others only extend."""
    shipped = (name for name, _ in _shipped(files("mrigen.recipes"), ""))
    return sorted(name for name in shipped if not name.rpartition("/")[2].startswith("_"))


def text(name: str) -> str:
    """Text of a recipe, shipped (by name) or the user's own (by path).

    Raises:
        UsageError: there is no such recipe.
    """
    path = Path(name)
    if name.endswith(SUFFIXES):
        try:
            if path.stat().st_size > LIMIT:
                raise UsageError(f"{name}: too large for a recipe")
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{name}: cannot read this recipe ({error})") from error
    shipped = dict(_shipped(files("mrigen.recipes"), ""))
    if name not in shipped:
        import difflib

        close = difflib.get_close_matches(name, shipped, n=1)
        hint = f"did you mean {close[0]}?" if close else "mrigen recipes list shows all"
        raise UsageError(f"no recipe {name!r}: {hint}")
    return shipped[name].read_text(encoding="utf-8")


def summary(name: str) -> str:
    """First line of a recipe's header."""
    first = text(name).splitlines()[0]
    return first.lstrip("# ").strip()


def resolved(name: str, below: tuple[str, ...] = ()) -> dict[str, Any]:
    """A recipe's mapping, unchecked, with everything from the recipe that it ``extends``.

    The recipe's own values win, section by section; a section with another ``name`` (another
    objective, another network) replaces that of the base as a whole.

    Args:
        name: a shipped recipe's name, or the path of a YAML file. ``extends`` is the same; a path is
            relative to the recipe's own.
        below: recipes that extend this one.

    Raises:
        UsageError: no such recipe, no valid YAML, or a recipe that extends itself.
    """
    if name in below:
        raise UsageError(f"{name}: extends itself, by way of {' and '.join(below)}")
    from mrigen.recipe.plain_yaml import parse

    try:
        tree = parse(text(name))
    except ValueError as error:
        raise UsageError(f"{name}: not a valid recipe: {error}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{name}: not a valid recipe: the top level must be a mapping")
    if "extends" not in tree:
        return tree
    base = tree.pop("extends")
    if not isinstance(base, str):
        raise UsageError(f"{name}: extends: give one recipe, a name or a path")
    if base.endswith(SUFFIXES):
        base = str((Path(name).parent / base).resolve())
    return _merged(resolved(base, (*below, name)), tree)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    if base.get("name") != own.get("name", base.get("name")):
        return own
    both = {
        key: _merged(base[key], value)
        if isinstance(base.get(key), dict) and isinstance(value, dict)
        else value
        for key, value in own.items()
    }
    return {**base, **both}


def load(name: str, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        name: a shipped recipe's name, or the path of a YAML file.
        overrides: ``key=value`` settings such as ``teacher.optimizer.lr=1e-4``.

    Raises:
        UsageError: no such recipe, no valid YAML, an unknown key or a value of the wrong kind.
    """
    tree = resolved(name)
    for override in overrides or []:
        change(tree, override)
    from pydantic import ValidationError

    from mrigen.recipe.schema import Recipe
    from mrigen.registry import describe

    try:
        return Recipe(**{"name": Path(name).stem if name.endswith(SUFFIXES) else name, **tree})
    except ValidationError as error:
        raise UsageError(f"recipe {name}: {describe(error)}") from error
    except TypeError as error:
        raise UsageError(f"recipe {name}: keys must be words") from error


def change(tree: dict[str, Any], override: str) -> None:
    """Apply ``a.b.c=value`` to a mapping; the value is read as YAML, and the schema checks both.

    Raises:
        UsageError: not of that form.
    """
    from mrigen.recipe.plain_yaml import parse

    path, equals, value = override.partition("=")
    if not equals or not path:
        raise UsageError(f"--set {override}: write key=value")
    *parents, last = path.strip().split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UsageError(f"--set {override}: {parent} is a value, not a section")
        node = child
    try:
        node[last] = parse(value)
    except ValueError as error:
        raise UsageError(f"--set {override}: not a valid value") from error


def _shipped(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _shipped(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield f"{prefix}{entry.name.removesuffix('.yaml')}", entry
