"""A user's own operator in a Python file: it works like ours, and its mistakes are told in a line."""

import importlib
import json
import textwrap

import pytest
import torch

from mrigen import plugins
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator
from mrigen.operators.corruption import CORRUPTIONS, make_corruption

IMPORTS = """
from dataclasses import dataclass
import torch
from torch import Tensor
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import ImageCorruption
from mrigen.registry import Params
"""
SHAPE = (1, 5, 4)


def example() -> str:
    """The file that the documentation shows."""
    text = plugins.__doc__.split("frozen dataclasses:\n\n", 1)[1]
    return IMPORTS + textwrap.dedent(text)


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "my_ops.py") -> str:
        (tmp_path / name).write_text(text)
        return f"{tmp_path / name}:MyOperator"

    return write


def refused(name: str, **values) -> str:
    with pytest.raises(UsageError) as caught:
        make_corruption({"name": name, **values}, SHAPE)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_documented_example_works(write, generator):
    corruption = make_corruption({"name": write(example()), "darkest": "0.25"}, SHAPE)
    operator = corruption.draw(2, generator)
    assert isinstance(operator, LinearOperator)
    y = operator.forward(torch.ones(2, *SHAPE))
    torch.testing.assert_close(y, torch.tensor([1.0, 0.75, 0.5, 0.25]).expand(2, *SHAPE))
    with pytest.raises(UsageError, match="the same for every image"):
        corruption.corrupt_further(operator, generator)


def test_it_can_be_named_on_the_command_line_and_within_a_chain(write, generator):
    name = write(example())
    spec = CORRUPTIONS.parse(f"{name}:darkest=0.5")
    assert spec == {"name": name, "darkest": 0.5}
    chain = make_corruption({"name": "compose", "parts": [{"name": "clipping"}, spec]}, SHAPE)
    y = chain.draw(1, generator).forward(torch.ones(1, *SHAPE))
    assert y[0, 0, 0].tolist() == pytest.approx([1, 5 / 6, 4 / 6, 0.5])


def test_a_relative_path_is_stored_as_an_absolute_one(write, tmp_path, monkeypatch):
    write(example())
    monkeypatch.chdir(tmp_path)
    frozen = CORRUPTIONS.freeze({"name": "my_ops.py:MyOperator"})
    assert frozen["name"] == f"{tmp_path.resolve()}/my_ops.py:MyOperator"
    assert frozen["darkest"] == 0.5


def test_a_file_that_changed_is_refused(write, tmp_path):
    frozen = json.loads(json.dumps(CORRUPTIONS.freeze({"name": write(example())})))
    make_corruption(frozen, SHAPE)
    write(example() + "\n# another thought\n")
    with pytest.raises(UsageError, match=r"my_ops\.py: changed since operator .* was recorded"):
        make_corruption(frozen, SHAPE)
    (tmp_path / "my_ops.py").unlink()
    with pytest.raises(UsageError, match=r"my_ops\.py: no such file, but operator"):
        make_corruption(frozen, SHAPE)


def test_a_new_version_of_a_file_is_loaded(write, generator):
    values = []
    for text in ("0.5", "0.75"):
        name = write(example().replace("darkest: float = 0.5", f"darkest: float = {text}"))
        y = make_corruption({"name": name}, SHAPE).draw(1, generator).forward(torch.ones(1, *SHAPE))
        values.append(float(y.min()))
    assert values == [0.5, 0.75]


def test_a_sigpy_linop_is_a_users_operator(write, generator):
    name = write(
        IMPORTS
        + textwrap.dedent("""
        from sigpy import linop
        from mrigen.operators.sigpy_bridge import from_sigpy

        class MyOperator(ImageCorruption):
            Params = Params
            ambient_obstacle = "nothing is random"

            def draw(self, batch, generator):
                shift = linop.Circshift(self.shape, (1,), axes=(-1,))
                return from_sigpy([shift] * batch, complex_valued=False)
        """)
    )
    x = torch.randn(2, *SHAPE, generator=generator)
    y = make_corruption({"name": name}, SHAPE).draw(2, generator).forward(x)
    torch.testing.assert_close(y, x.roll(1, -1))


def test_no_such_file(tmp_path):
    message = refused(f"{tmp_path}/missing.py:MyOperator")
    assert message.endswith("missing.py: no such file; name a class of yours as path/to/file.py:Class")


def test_no_such_class(write):
    name = write(example()).replace("MyOperator", "Other")
    assert "my_ops.py: has no class 'Other'; there are: Shading, MyOperator" in refused(name)


def test_a_class_of_another_kind(write):
    message = refused(write(example()).replace("MyOperator", "Shading"))
    assert (
        "Shading is no ImageCorruption; derive it from mrigen.operators.corruption.ImageCorruption" in message
    )


def test_a_class_that_lacks_something(write):
    text = IMPORTS + "class MyOperator(ImageCorruption):\n    pass\n"
    assert "MyOperator lacks draw, Params; define what ImageCorruption asks for" in refused(write(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_to_be_found\n", "my_ops.py:1: ModuleNotFoundError while importing it"),
        (
            "x = 1\n\nraise RuntimeError('two\\nlines')\n",
            "my_ops.py:3: RuntimeError while importing it: two lines",
        ),
        ("def broken(:\n    pass\n", "my_ops.py:1: SyntaxError while importing it"),
        ("import sys\nsys.exit(3)\n", "my_ops.py:2: SystemExit while importing it: 3"),
        ("x = '\0'\n", "SyntaxError while importing it"),
    ],
)
def test_errors_on_import_name_file_and_line(write, text, message):
    assert message in refused(write(text))


def test_wrong_parameters_are_named(write):
    assert "dark: unknown key" in refused(write(example()), dark=1)
    assert "darkest: " in refused(write(example()), darkest="very")


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            "return self.weights * y",
            "return 2 * self.weights * y",
            "adjoint is not that of forward, <A x, y> =",
        ),
        ("return self.weights * y", "return y[:1]", "adjoint gives shape (1, 1, 5, 4)"),
        ("return self.weights * x", "return (self.weights * x).abs()", "forward is not linear"),
        ("return self.weights * x", "return (self.weights * x)[:1]", "one finite measurement per image"),
        ("return self.weights * x", "return x / 0", "not finite"),
        ("zeros_like(self.weights)", "zeros(1, 5, 4)", "zero_image has shape (1, 5, 4); return (2, 1, 5, 4)"),
        ("return self.weights * x", "return self.weight * x", "AttributeError while making the operator"),
        (
            "self.shape[2])",
            "self.shape[9])",
            "IndexError while making the operator: tuple index out of range",
        ),
    ],
)
def test_operators_that_are_wrong_are_refused_before_use(write, right, wrong, message):
    text = example()
    assert right in text
    assert message in refused(write(text.replace(right, wrong)))


def test_the_line_of_an_error_in_a_method_is_named(write):
    text = example().replace("self.shape[2])", "self.shape[9])")
    line = text[: text.index("self.shape[9]")].count("\n") + 1
    assert f"my_ops.py:{line}: IndexError" in refused(write(text))


def test_loading_a_file_leaves_no_half_made_module(write):
    name = write("raise ValueError('first')\n")
    for _ in range(2):
        assert "first" in refused(name)
    assert importlib.import_module("mrigen.plugins") is plugins
