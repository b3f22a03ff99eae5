"""What the scripts of this folder share: their command line, and the command of mrigen that they run."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

from mrigen.cli.main import run
from mrigen.errors import UsageError

Command = Callable[[Path, Path], list[str]]
"""From the source and the folder of the store to the arguments of ``mrigen``."""


def run_script(text: str, command: Command, arguments: Sequence[str] | None = None) -> int:
    """Run the command of mrigen that prepares a data set, and return its exit code.

    Args:
        text: the script's docstring, its help.
        command: what to run.
        arguments: SOURCE, OUT and further options of the command; by default those of this program.
    """
    parser = ArgumentParser(description=text, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the data set's folder or archive")
    parser.add_argument("out", type=Path, help="folder of the store")
    options, more = parser.parse_known_args(arguments)
    try:
        chosen = [*command(options.source, options.out), *more]
    except UsageError as error:
        parser.error(str(error))
    print("mrigen", shlex.join(chosen), flush=True)
    return run(chosen)


def files(folder: Path, pattern: str, limit: int | None = None) -> list[str]:
    """Paths below a folder that match a pattern, sorted by name; the first ``limit`` of them.

    Raises:
        UsageError: there are none.
    """
    paths = sorted(folder.rglob(pattern), key=lambda path: path.name)[:limit]
    if not paths:
        raise UsageError(f"{folder}: holds no {pattern}; give the folder of the extracted data set")
    return [str(path) for path in paths]
