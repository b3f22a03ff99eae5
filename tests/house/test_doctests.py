"""Every class and function of the library face has an example, and examples run."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import mrigen

ROOT = Path(__file__).parents[2]


def face():
    """The classes and functions that ``mrigen.__all__`` names, those of its modules included."""
    found = {}
    for name in mrigen.__all__:
        value = getattr(mrigen, name)
        members = {f"{name}.{n}": getattr(value, n) for n in getattr(value, "__all__", ())}
        for path, member in (members if inspect.ismodule(value) else {name: value}).items():
            if inspect.isclass(member) or inspect.isroutine(member):
                found.setdefault(member, path)
    return {path: member for member, path in found.items()}


FACE = face()


@pytest.mark.parametrize("name", list(FACE))
def test_the_library_face_has_examples_that_run(name):
    text = inspect.getdoc(FACE[name])
    assert "\nExamples:\n    >>> " in text
    globs = {**vars(inspect.getmodule(FACE[name]))}
    test = doctest.DocTestParser().get_doctest(text, globs, name, None, None)
    assert not doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed


def others():
    """Modules with examples outside the face."""
    files = [path for path in (ROOT / "mrigen").rglob("*.py") if ">>> " in path.read_text()]
    return sorted(str(path.relative_to(ROOT)) for path in files)


@pytest.mark.parametrize("file", others())
def test_the_other_examples_of(file):
    module = importlib.import_module(file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    shown = {id(member) for member in FACE.values()}
    tests = [t for t in doctest.DocTestFinder().find(module) if t.examples]
    for test in tests:
        if id(getattr(module, test.name.rpartition(".")[2], None)) not in shown:
            assert not doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed
