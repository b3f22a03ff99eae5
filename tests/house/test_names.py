"""Public names are the field's words; files are neither slips nor heaps."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "mrigen").rglob("*.py") if path.name != "__init__.py")
SOURCES = [
    path
    for folder in ("mrigen", "benchmarks", "data_prep", "docs", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PRIVATE = {
    "alone", "begun", "blamed", "found", "given", "judge", "looking", "sent", "some", "told", "wanted",
}  # fmt: skip
SMALL, LARGE = 60, 400


def private_names(source):
    """Names that other modules or users write, with a word of no field in them."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_") and node.name != "__init__":
                continue
            yield from _private(node.name, node.lineno)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            for argument in arguments:
                yield from _private(argument.arg, argument.lineno)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    yield from _private(member.target.id, member.lineno)


def private_variables(source):
    """Variables and arguments, private ones too, and attributes of self, with such a word in their names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield from _private(node.id.lstrip("_"), node.lineno)
        elif isinstance(node, ast.arg):
            yield from _private(node.arg.lstrip("_"), node.lineno)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
            yield from _private(node.attr.lstrip("_"), node.lineno)


def _private(name, line):
    if not name.startswith("_") and PRIVATE & {*name.lower().split("_")}:
        yield f"{line}: {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_the_fields_words(path):
    assert not PRIVATE & {*path.stem.split("_")}
    assert list(private_names(path.read_text())) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_are_nouns_of_the_field(path):
    assert list(private_variables(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    ["found = 1", "for some in x: ...", "lambda wanted: 1", "[told for told in x]", "self._given = 1"],
)
def test_private_variables_are_seen(source):
    assert list(private_variables(source))


@pytest.mark.parametrize(
    "source", ["def told(value): ...", "def f(wanted): ...", "class Found: ...", "class A:\n    given: int"]
)
def test_private_words_are_seen(source):
    assert list(private_names(source))


def test_files_are_neither_slips_nor_heaps():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert [name for name, length in lengths.items() if length > LARGE] == []
    assert sum(length < SMALL for length in lengths.values()) <= len(lengths) / 10
