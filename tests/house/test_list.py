"""``mrigen list`` names every member, and all that a member takes."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from pydantic_core import to_json

from mrigen.cli.main import run
from mrigen.cli.members import REGISTRIES, Kind, catalogue, describe_kind
from mrigen.registry import Params, parameters


def registry(kind):
    module, name = REGISTRIES[kind]
    return getattr(__import__(module, fromlist=[name]), name)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_member_has_a_line(kind, capsys):
    assert run(["list", kind.value]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[: lines.index("")]]
    assert names == registry(kind).names()
    assert all(len(line.split()) > 3 for line in lines[: len(names)])


@pytest.mark.parametrize("kind", list(Kind))
def test_every_parameter_of_every_member_is_told(kind, capsys):
    for name in registry(kind).names():
        member = registry(kind)[name]
        assert run(["list", kind.value, name]) == 0
        said = capsys.readouterr().out
        for each in parameters(member):
            assert f"\n  {each.name}: " in said
            assert each.text, (name, each.name)
            if each.default != "required":
                default = member.Params.model_fields[each.name].get_default(call_default_factory=True)
                assert yaml.safe_load(each.default) == json.loads(to_json(default))


def test_documents_and_the_package_say_what_the_classes_say(capsys):
    """Else `make docs` has to be run."""
    path = Path(__file__).parents[2] / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    described = {kind.value: describe_kind(kind) for kind in Kind}
    assert catalogue() == described
    assert generate.PAGE.read_text() == generate.page(described)
    assert run(["list", "solvers", "dds"]) == 0
    assert f"```text\n{capsys.readouterr().out}```" in generate.PAGE.read_text()


def test_bounds_and_defaults_are_those_of_the_class(capsys):
    assert run(["list", "masks", "poisson-disc"]) == 0
    said = capsys.readouterr().out
    assert "\n  uniform: float >= 0, < 1 = 0.1\n" in said
    assert "\n  acs_lines: int >= 0 or null = null\n" in said
    assert said.splitlines()[-1].endswith("--mask poisson-disc:crop_corner=true")


def test_unknown_names_are_refused(capsys):
    assert run(["list", "masks", "poison-disc"]) == 2
    assert "did you mean 'poisson-disc'" in capsys.readouterr().err


def test_parameters_without_a_docstring_are_listed():
    class Bare:
        class Params(Params):
            a: int = 2

    (only,) = parameters(Bare)
    assert (only.name, only.kind, only.default, only.text) == ("a", "int", "2", "")
