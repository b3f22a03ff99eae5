"""What every linear operator must satisfy, whatever it models."""

import importlib
import pkgutil

import pytest
import torch

import mrigen.operators
from mrigen.operators.base import LinearOperator, concatenate, randn_like


def all_operators() -> list[type[LinearOperator]]:
    for module in pkgutil.walk_packages(mrigen.operators.__path__, "mrigen.operators."):
        importlib.import_module(module.name)
    found, queue = [], [LinearOperator]
    while queue:
        for cls in queue.pop().__subclasses__():
            queue.append(cls)
            if "example" in vars(cls):
                found.append(cls)
    return found


@pytest.fixture(params=all_operators(), ids=lambda cls: cls.__name__)
def operator(request) -> LinearOperator:
    return request.param.example().to(dtype=torch.float64)


def image_for(operator, generator):
    return randn_like(operator.zero_image(), generator)


def inner(a, b):
    """Re <a, b> per sample."""
    return (a.conj() * b).real.flatten(1).sum(1)


def test_adjointness(operator, generator):
    x = image_for(operator, generator)
    y = operator.forward(x)
    other = randn_like(y, generator)
    torch.testing.assert_close(inner(operator.forward(x), other), inner(x, operator.adjoint(other)))


def test_normal_is_adjoint_of_forward(operator, generator):
    x = image_for(operator, generator)
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.forward(x)))


def test_linearity(operator, generator):
    a, b = image_for(operator, generator), image_for(operator, generator)
    torch.testing.assert_close(
        operator.forward(2 * a - 3 * b), 2 * operator.forward(a) - 3 * operator.forward(b)
    )


@pytest.mark.parametrize("method", ["forward", "normal"])
def test_gradient(operator, generator, method):
    """The gradient of Re<w, A x> with respect to x is A^H w."""
    x = image_for(operator, generator).requires_grad_()
    y = getattr(operator, method)(x)
    w = randn_like(y.detach(), generator)
    inner(w, y).sum().backward()
    expected = operator.adjoint(w) if method == "forward" else operator.normal(w)
    torch.testing.assert_close(x.grad, expected)


def test_operators_concatenate(operator, generator):
    """Two batches of operators side by side act like each on its own."""
    x = image_for(operator, generator)
    y = operator.forward(x)
    torch.testing.assert_close(
        concatenate([operator, operator]).forward(torch.cat([x, x])), torch.cat([y, y])
    )


def test_precision_and_device_follow_the_operator(operator, generator):
    single = operator.to(dtype=torch.float32, device="cpu")
    x = image_for(operator, generator)
    narrow = x.to(torch.complex64 if x.is_complex() else torch.float32)
    y = single.forward(narrow)
    assert y.dtype in {torch.float32, torch.complex64}
    torch.testing.assert_close(y.to(operator.forward(x).dtype), operator.forward(x), rtol=1e-4, atol=1e-4)


def test_conditioning_is_a_plane_per_sample(operator, generator):
    shown = operator.conditioning()
    if shown is not None:
        x = image_for(operator, generator)
        assert shown.shape[0] == len(x)
        assert shown.shape[-2:] == x.shape[-2:]
        assert shown.dtype == torch.float32
