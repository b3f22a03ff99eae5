"""The examples in the docstrings of the library face run."""

import doctest
import importlib

import pytest

FACE = [
    "mrigen",
    "mrigen.coils.compress",
    "mrigen.coils.espirit",
    "mrigen.coils.whiten",
    "mrigen.data.tensor_store",
    "mrigen.learning",
    "mrigen.masks",
    "mrigen.metrics",
    "mrigen.model",
    "mrigen.operators.base",
    "mrigen.operators.deepinv_bridge",
    "mrigen.fourier",
    "mrigen.operators.mri",
    "mrigen.operators.solve",
    "mrigen.reconstruction.in_memory",
]


@pytest.mark.parametrize("name", FACE)
def test_the_examples_of(name):
    module = importlib.import_module(name)
    done = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.attempted, f"{name} has no example"
    assert not done.failed
