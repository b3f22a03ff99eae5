"""Help begins with examples, on one screen; the examples are commands that exist."""

import re
import shlex

import pytest
import typer

from mrigen.cli.layout import parts
from mrigen.cli.main import app, run

GROUP = typer.main.get_command(app)
COMMANDS = {name: c for name, c in GROUP.commands.items() if not hasattr(c, "commands")}
COMMANDS |= {f"recipes {name}": c for name, c in GROUP.commands["recipes"].commands.items()}
ROWS, COLUMNS = 24, 80


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_purpose_and_examples_are_on_the_first_screen(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    assert run([*name.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("Examples:")
    end = next(i for i in range(begin + 1, len(lines)) if re.fullmatch(r"[A-Z][\w -]+:", lines[i]))
    assert end <= ROWS
    assert max(map(len, lines[:end])) <= COLUMNS
    assert lines[0].startswith("Usage: mrigen")
    assert lines[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_have_options_that_exist(name):
    _, examples, _ = parts(COMMANDS[name].help)
    assert examples
    for _, line in examples:
        words = shlex.split(line)
        words = words[words.index("mrigen") + 1 :]
        called = " ".join(words[:2]) if words[0] == "recipes" else words[0]
        known = {option for p in COMMANDS[called].params for option in (*p.opts, *p.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


def test_words_and_lines_of_an_example():
    text = (
        "Does it.\n\nDetails of `x`.\n\nTry:\n\n- `mrigen a`\n\n- first: `mrigen b\n  --c`, then `mrigen d`\n"
    )
    found = parts(text)
    assert found == (
        "Does it.",
        [("", "mrigen a"), ("first", "mrigen b --c"), ("", "mrigen d")],
        ["Details of x."],
    )
