"""Sphinx: pages in Markdown, the API from docstrings, examples that are run. ``make docs`` builds them."""

from __future__ import annotations

import inspect
import pydoc
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

import mrigen
from mrigen.cli.main import app as commands

ROOT = Path(__file__).parents[1]

project = "mrigen"
release = version = mrigen.__version__
project_copyright = "the authors of mrigen, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "README.md"]
suppress_warnings = ["config.cache", "myst.xref_missing"]
nitpicky = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_typehints = "none"  # signatures show them
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": [str(ROOT / "examples")],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
}

html_theme = "furo"
html_title = f"mrigen {release}"
html_static_path: list[str] = []
html_show_sphinx = False
html_copy_source = False


def api_page() -> str:
    """Every name of ``mrigen.__all__`` and of its modules' ``__all__``, with its docstring."""
    parts = ["# API\n\nEvery public name of `import mrigen as mg`. Examples are run by the tests.\n"]
    names = [name for name in mrigen.__all__ if name != "__version__"]
    values = {name: getattr(mrigen, name) for name in names}
    parts += ["\n## Functions and classes\n"]
    shown: set[int] = set()
    own = {f"mrigen.{name}": v for name, v in values.items() if not isinstance(v, ModuleType)}
    parts += _members(own, shown)
    for name, module in values.items():
        if isinstance(module, ModuleType):
            about = (inspect.getdoc(module) or "").split("\n\n", maxsplit=1)[0]
            parts.append(f"\n## mrigen.{name}\n\n{about}\n")
            inner = {f"mrigen.{name}.{member}": getattr(module, member) for member in module.__all__}
            parts += _members(inner, shown)
    parts += [
        "\n## Classes to derive from\n\nEach is the base of a file of yours: [Extending](extending.md).\n"
    ]
    parts += _members(bases(), shown)
    return "\n".join(parts)


def bases() -> dict[str, Any]:
    """Classes that the table of ``extending.md`` names, by their path."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    paths = re.findall(r"^\| [\w ]+ \| \d+ \| `([\w.]+)` \|", text, re.MULTILINE)
    return {path: pydoc.locate(path) for path in paths}


def _members(members: dict[str, Any], shown: set[int]) -> list[str]:
    """Autodoc's directives of classes and functions, by public name, that have none yet."""
    directives = []
    for path, member in members.items():
        kind = "autoclass" if inspect.isclass(member) else "autofunction"
        if (inspect.isclass(member) or inspect.isroutine(member)) and id(member) not in shown:
            shown.add(id(member))
            options = "   :members:\n" if kind == "autoclass" else ""
            directives.append(f"```{{eval-rst}}\n.. {kind}:: {path}\n{options}```\n")
    return directives


def commands_page() -> str:
    """The help of every command, as a terminal of 100 columns shows it."""
    group: Any = typer.main.get_command(commands)
    context = group.make_context("mrigen", [], resilient_parsing=True, terminal_width=100)
    parts = [
        "# All commands\n\nWhat `mrigen COMMAND --help` prints; see [the command line](command-line.md).\n"
    ]
    for name, command in _leaves(group, ()):
        inner = type(context)(command, info_name=" ".join(("mrigen", *name)), terminal_width=100)
        parts.append(f"\n## mrigen {' '.join(name)}\n\n```text\n{command.get_help(inner).strip()}\n```\n")
    return "".join(parts)


def _leaves(group: Any, above: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """Commands with their names, those of groups within included."""
    leaves = []
    for name, command in group.commands.items():
        inner = (*above, name)
        leaves += _leaves(command, inner) if hasattr(command, "commands") else [(inner, command)]
    return leaves


def write_pages(app: Any) -> None:
    """Pages that are made anew at every build."""
    for name, text in {"api.md": api_page(), "commands.md": commands_page()}.items():
        path = Path(app.srcdir) / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def plain(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: no substitutions |x|, no emphasis."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith(("..", ">>>")):
            words = line.split("``")
            words[::2] = [re.sub(r"(?<!\\)([|*])", r"\\\1", text) for text in words[::2]]
            lines[number] = "``".join(words)


def setup(app: Any) -> None:
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", plain)
