"""``mrigen list``."""

from __future__ import annotations

import json
from enum import StrEnum
from importlib import import_module, resources
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mrigen import plugins

if TYPE_CHECKING:
    from mrigen.registry import Registry

CATALOGUE = "members.json"


class Kind(StrEnum):
    """What can be chosen by name."""

    operators = "operators"
    masks = "masks"
    objectives = "objectives"
    losses = "losses"
    samplers = "samplers"
    solvers = "solvers"
    networks = "networks"
    readers = "readers"
    metrics = "metrics"


REGISTRIES = {
    Kind.operators: ("mrigen.operators.corruption", "CORRUPTIONS"),
    Kind.masks: ("mrigen.operators.masks", "MASKS"),
    Kind.objectives: ("mrigen.diffusion.objectives", "OBJECTIVES"),
    Kind.losses: ("mrigen.losses", "LOSSES"),
    Kind.samplers: ("mrigen.diffusion.samplers", "SAMPLERS"),
    Kind.solvers: ("mrigen.inverse", "SOLVERS"),
    Kind.networks: ("mrigen.networks", "NETWORKS"),
    Kind.readers: ("mrigen.prep.readers", "READERS"),
    Kind.metrics: ("mrigen.metrics.scores", "METRICS"),
}

EXAMPLES = {
    Kind.operators: "mrigen prep-images photos --out store --operator {0}",
    Kind.masks: "mrigen prep-fastmri multicoil_train --out store --acceleration 4 --mask {0}",
    Kind.objectives: "mrigen train RECIPE --set 'teacher.objective={1}'",
    Kind.losses: "mrigen distill RECIPE --set 'distill.loss={1}'",
    Kind.samplers: "mrigen sample TEACHER --out samples.h5 --sampler {2}{3}",
    Kind.solvers: "mrigen reconstruct scan.h5 --out images --solver {0}",
    Kind.networks: "mrigen train RECIPE --set 'teacher.network={1}'",
    Kind.readers: "mrigen prep-fastmri FILE --out store --acceleration 4 --reader {0}",
    Kind.metrics: "mrigen evaluate samples.h5 --reference store-reference --metrics {0}",
}

FROM_DATA = {"acceleration", "acs_lines", "center_fraction", "resolution", "in_channels", "out_channels"}
"""Parameters that have an option of their own, or that the data give."""


def list_members(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    name: Annotated[
        str | None, typer.Argument(help="One of them, or `mine.py:Class`: all its parameters.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: names and their first lines.")] = False,
) -> None:
    """List what recipes and options name, one line each; of one NAME all parameters, with an example.

    Examples:

    - `mrigen list solvers`

    - `mrigen list masks poisson-disc`
    """
    known = None if entry_points(group=plugins.GROUP) else catalogue()[kind.value]
    if known is None or (name is not None and name not in known["members"]):
        known = describe_kind(kind, name)
    if as_json:
        texts = known["members"] if name is None else {name: known["members"][name]}
        first = {each: _first(text) if name is None else text for each, text in texts.items()}
        typer.echo(json.dumps(first, indent=2, ensure_ascii=False))
        return
    typer.echo(known["members"][name] if name is not None else known["list"])


def _first(text: str) -> str:
    """The first paragraph below the name."""
    return " ".join(text.split("\n\n", 2)[1].split())


def catalogue() -> dict[str, dict[str, Any]]:
    """The texts of all kinds as they were when the package was made; nothing heavy is imported for them."""
    text = resources.files("mrigen.assets").joinpath(CATALOGUE).read_text(encoding="utf-8")
    kinds: dict[str, dict[str, Any]] = json.loads(text)
    return kinds


def describe_kind(kind: Kind, name: str | None = None) -> dict[str, Any]:
    """The list of a kind, and the text of every member, or of one that may be a user's.

    Raises:
        UsageError: there is no such member.
    """
    module, attribute = REGISTRIES[kind]
    registry: Registry[Any] = getattr(import_module(module), attribute)
    base = registry.base
    names = registry.names()
    width = max(map(len, names))
    lines = [f"{each:<{width}}  {summary(registry[each])}" for each in names]
    derived = f"derived from {base.__module__}.{base.__qualname__}"
    lines += ["", f"A class of yours, {derived}, is named mine.py:Class."]
    described = {each: _described(kind, each, registry[each]) for each in ([name] if name else names)}
    return {"list": "\n".join(lines), "members": described}


def summary(member: type[Any]) -> str:
    """The first paragraph of a class's docstring in one line."""
    import inspect

    text = inspect.getdoc(member) or ""
    return " ".join(text.split("\n\n")[0].split())


def _described(kind: Kind, name: str, member: type[Any]) -> str:
    """Docstring, parameters and an example of a member."""
    import inspect

    from mrigen.registry import parameters

    lines = [name, "", inspect.cleandoc(member.__doc__ or ""), "", "Parameters:"]
    params = parameters(member)
    for each in params:
        lines.append(f"  {each.name}: {each.kind} = {each.default}")
        if each.text:
            lines.append(f"      {each.text}")
    if not params:
        lines.append("  none")
    shown = {p.name: "..." for p in params if p.default == "required" and p.name not in FROM_DATA}
    if not shown:
        simple = (p for p in reversed(params) if p.name not in FROM_DATA and p.default[0] not in "{[nN")
        shown = {p.name: p.default for p in list(simple)[:1]}
    option = name + "".join(
        f"{',' if i else ':'}{key}={value}" for i, (key, value) in enumerate(shown.items())
    )
    sets = "".join(f" --set {key}={value}" for key, value in shown.items())
    mapping = "{" + ", ".join([f"name: {name}", *(f"{key}: {value}" for key, value in shown.items())]) + "}"
    return "\n".join([*lines, "", "Example:", f"  {EXAMPLES[kind].format(option, mapping, name, sets)}"])
