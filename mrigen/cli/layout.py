"""Help of a command as plain text: usage, what it does, examples; then options; then details."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

HEADS = ("Examples:", "Try:")
OPTIONS = "Options"


class Command(TyperCommand):
    """A command whose help begins with its examples.

    The callback's docstring has paragraphs in Markdown: the first says what the command does, a list after
    ``Examples:`` or ``Try:`` has a command line per item, perhaps with words before it, and the others are
    details. Nothing heavy is loaded for it.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "rich_markup_mode": None})

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        self.format_usage(ctx, formatter)
        first, examples, details = parts(self.help or "")
        formatter.write_paragraph()
        formatter.write_text(first)
        if examples:
            with formatter.section("Examples"):
                for words, line in examples:
                    for text in (*wrapped(f"# {words}", formatter, "# "), *command_lines(line, formatter)):
                        formatter.write(f"{'':>{formatter.current_indent}}{text}\n")
        for panel, rows in self.panels(ctx).items():
            with formatter.section(panel):
                formatter.write_dl(rows, col_max=26)
        for number, text in enumerate(details):
            if number == 0:
                formatter.write("\nDetails:\n")
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(text)

    def panels(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Names and texts of the parameters, by panel in the order of their declaration."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                default = "Arguments" if parameter.param_type_name == "argument" else OPTIONS
                panel = getattr(parameter, "rich_help_panel", None) or default
                rows.setdefault(panel, []).append((record[0], record[1].replace("`", "")))
        return rows


def parts(text: str) -> tuple[str, list[tuple[str, str]], list[str]]:
    """What a command does, its examples (words, command line), and the paragraphs of details."""
    paragraphs = [" ".join(each.split()) for each in inspect.cleandoc(text).split("\n\n") if each.strip()]
    start = next((i for i, each in enumerate(paragraphs) if each in HEADS), len(paragraphs))
    examples = [pair for each in paragraphs[start + 1 :] if each.startswith("- ") for pair in _example(each)]
    about = [each.replace("`", "") for each in paragraphs[:start]]
    return (about[0] if about else ""), examples, about[1:]


def _example(item: str) -> Iterator[tuple[str, str]]:
    """Words and command lines of ``- words: `line`, then `line```."""
    pieces = re.split(r"`([^`]*)`", item.removeprefix("- "))
    for words, line in zip(pieces[::2], pieces[1::2], strict=False):
        yield words.strip(" ,:").removesuffix("then").strip(" ,:"), line


def wrapped(text: str, formatter: Any, again: str) -> list[str]:
    """Lines of a comment; none of an empty one."""
    import textwrap

    width = formatter.width - formatter.current_indent
    return textwrap.wrap(text, width, subsequent_indent=again) if text.strip("# ") else []


def command_lines(line: str, formatter: Any) -> list[str]:
    """A command line, continued by backslashes where it is long."""
    import textwrap

    width = formatter.width - formatter.current_indent - 2
    lines = textwrap.wrap(
        line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return [f"{each} \\" for each in lines[:-1]] + lines[-1:]
