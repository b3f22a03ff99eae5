"""The command line's notation of operators: ``name`` or ``name:key=value,...``."""

import pytest

from mrigen.errors import UsageError
from mrigen.operators.corruption import CORRUPTIONS, make_corruption


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("inpainting", {"name": "inpainting"}),
        (" inpainting:missing=0.8 ", {"name": "inpainting", "missing": 0.8}),
        (
            "inpainting:missing=0.8, per_channel = true",
            {"name": "inpainting", "missing": 0.8, "per_channel": True},
        ),
        (
            "missing-box:size=[16, 8],position=centre",
            {"name": "missing-box", "size": [16, 8], "position": "centre"},
        ),
        (
            "compose:parts=[{name: gaussian-blur, size: 5}, {name: inpainting}]",
            {"name": "compose", "parts": [{"name": "gaussian-blur", "size": 5}, {"name": "inpainting"}]},
        ),
        (
            "fourier-lines:mask={name: random, acceleration: 4},image=complex",
            {"name": "fourier-lines", "mask": {"name": "random", "acceleration": 4}, "image": "complex"},
        ),
        ("a=b/my_ops.py:MyOperator", {"name": "a=b/my_ops.py:MyOperator"}),
        ("my_ops.py:MyOperator:std=2", {"name": "my_ops.py:MyOperator", "std": 2}),
    ],
)
def test_what_the_notation_means(text, spec):
    assert CORRUPTIONS.parse(text) == spec


def test_it_builds_the_same_as_a_recipe():
    corruption = make_corruption(CORRUPTIONS.parse("gaussian-blur:size=5,std=1e-0"), (3, 16, 16))
    assert corruption.params.model_dump() == {"size": 5, "std": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inpainting:missing=[1", "missing=\\[1 is not YAML; mend the value"),
        ("inpainting:missing=0.1,missing=0.2", "says missing twice; leave one out"),
        ("inpainting:name=blur", "says name twice"),
        ("inpainting:missing", "unknown operator 'inpainting:missing': did you mean 'inpainting'"),
        ("", "unknown operator ''"),
        ("inpainting:missing=a", "missing: .*valid number"),
        ("inpainting:missing=", "missing: .*valid number"),
        ("inpainting:p=0.5", "p: unknown key"),
    ],
)
def test_mistakes_are_told_in_one_line(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_corruption(CORRUPTIONS.parse(text), (3, 8, 8))
    assert "\n" not in str(caught.value)
