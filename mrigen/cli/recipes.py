"""``mrigen recipes``."""

import typer

app = typer.Typer(help="List the shipped recipes, or print one.", no_args_is_help=True)


@app.command("list")
def list_recipes() -> None:
    """List the shipped recipes with the first line of their header."""
    from mrigen import recipe

    names = recipe.names()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:<{width}}  {recipe.summary(name)}")


@app.command()
def show(name: str = typer.Argument(help="A name from the list, or a YAML file.")) -> None:
    """Print a recipe, its header first: the command, the hardware and the numbers to expect.

    Example: `mrigen recipes show demo/brain > mine.yaml`
    """
    from mrigen import recipe

    typer.echo(recipe.text(name), nl=False)
