"""``mrigen recipes``."""

import json

import typer

from mrigen.cli.layout import Command

app = typer.Typer(help="List the shipped recipes, or print one.", no_args_is_help=True)


@app.command("list", cls=Command)
def list_recipes(
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of the table."),
) -> None:
    """List the shipped recipes with the first line of their header.

    Examples:

    - `mrigen recipes list`
    """
    from mrigen import recipe

    names = recipe.names()
    if as_json:
        typer.echo(json.dumps({name: recipe.summary(name) for name in names}, indent=2, ensure_ascii=False))
        return
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:<{width}}  {recipe.summary(name)}")


@app.command(cls=Command)
def show(
    name: str = typer.Argument(help="A name from the list, or a YAML file."),
    resolved: bool = typer.Option(
        False, "--resolved", help="With everything from the recipes that it extends, without comments."
    ),
) -> None:
    """Print a recipe, its header first: the command, the hardware and the numbers to expect.

    Examples:

    - `mrigen recipes show demo/brain > mine.yaml`

    - a recipe that extends another, in full: `mrigen recipes show cifar10/denoise-s20 --resolved`
    """
    from mrigen import recipe

    if resolved:
        import yaml

        typer.echo(yaml.safe_dump(recipe.resolved(name), sort_keys=False), nl=False)
    else:
        typer.echo(recipe.text(name), nl=False)
