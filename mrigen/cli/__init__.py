"""The command line: thin typer functions, heavy imports inside them."""
