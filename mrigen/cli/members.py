"""``mrigen list``."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mrigen.registry import Registry


class Kind(StrEnum):
    """What can be chosen by name."""

    operators = "operators"
    masks = "masks"
    objectives = "objectives"
    losses = "losses"
    samplers = "samplers"
    solvers = "solvers"
    networks = "networks"


REGISTRIES = {
    Kind.operators: ("mrigen.operators.corruption", "CORRUPTIONS"),
    Kind.masks: ("mrigen.operators.masks", "MASKS"),
    Kind.objectives: ("mrigen.diffusion.objectives", "OBJECTIVES"),
    Kind.losses: ("mrigen.losses", "LOSSES"),
    Kind.samplers: ("mrigen.diffusion.samplers", "SAMPLERS"),
    Kind.solvers: ("mrigen.inverse", "SOLVERS"),
    Kind.networks: ("mrigen.networks", "NETWORKS"),
}

EXAMPLES = {
    Kind.operators: "mrigen prep-images photos --out store --operator {0}",
    Kind.masks: "mrigen prep-fastmri multicoil_train --out store --acceleration 4 --mask {0}",
    Kind.objectives: "mrigen train RECIPE --set 'teacher.objective={1}'",
    Kind.losses: "mrigen distill RECIPE --set 'distill.loss={1}'",
    Kind.samplers: "mrigen sample TEACHER --out samples.h5 --sampler {2}{3}",
    Kind.solvers: "mrigen reconstruct scan.h5 --out images --solver {0}",
    Kind.networks: "mrigen train RECIPE --set 'teacher.network={1}'",
}

GIVEN = {"acceleration", "acs_lines", "center_fraction", "resolution", "in_channels", "out_channels"}
"""Parameters that have an option of their own, or that the data give."""


def list_members(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    name: Annotated[
        str | None, typer.Argument(help="One of them, or `mine.py:Class`: all its parameters.")
    ] = None,
) -> None:
    """List what recipes and options name, one line each; of one NAME all parameters, with an example.

    Examples:

    - `mrigen list solvers`

    - `mrigen list masks poisson-disc`
    """
    module, attribute = REGISTRIES[kind]
    registry: Registry[Any] = getattr(import_module(module), attribute)
    if name is None:
        names = registry.names()
        width = max(map(len, names))
        for each in names:
            typer.echo(f"{each:<{width}}  {summary(registry[each])}")
        base = registry.base
        typer.echo(
            f"\nA class of yours, derived from {base.__module__}.{base.__qualname__}, is named mine.py:Class."
        )
        return
    _show(kind, name, registry[name])


def summary(member: type[Any]) -> str:
    """The first paragraph of a class's docstring in one line."""
    import inspect

    text = inspect.getdoc(member) or ""
    return " ".join(text.split("\n\n")[0].split())


def _show(kind: Kind, name: str, member: type[Any]) -> None:
    import inspect

    from mrigen.registry import parameters

    typer.echo(f"{name}\n\n{inspect.cleandoc(member.__doc__ or '')}\n\nParameters:")
    found = parameters(member)
    for each in found:
        typer.echo(f"  {each.name}: {each.kind} = {each.default}")
        if each.text:
            typer.echo(f"      {each.text}")
    if not found:
        typer.echo("  none")
    shown = {p.name: "..." for p in found if p.default == "required" and p.name not in GIVEN}
    if not shown:
        simple = (p for p in reversed(found) if p.name not in GIVEN and p.default[0] not in "{[nN")
        shown = {p.name: p.default for p in list(simple)[:1]}
    option = name + "".join(
        f"{',' if i else ':'}{key}={value}" for i, (key, value) in enumerate(shown.items())
    )
    sets = "".join(f" --set {key}={value}" for key, value in shown.items())
    mapping = "{" + ", ".join([f"name: {name}", *(f"{key}: {value}" for key, value in shown.items())]) + "}"
    typer.echo(f"\nExample:\n  {EXAMPLES[kind].format(option, mapping, name, sets)}")
