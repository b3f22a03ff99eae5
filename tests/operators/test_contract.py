"""What every linear operator must satisfy, whatever it models."""

import importlib
import pkgutil

import pytest
import torch

import mrigen.operators
from mrigen.operators import MultiCoilMRI
from mrigen.operators.base import LinearOperator
from mrigen.operators.corruption import CORRUPTIONS
from mrigen.operators.non_cartesian import NonCartesianMRI
from mrigen.tensors import concatenate, randn_like


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


def test_what_is_measured_is_known_beforehand(operator):
    y = operator.forward(operator.zero_image())
    shape, like = operator.measured
    assert (shape, like.dtype, like.device) == (tuple(y.shape), y.dtype, y.device)


def test_normal_is_adjoint_of_forward(operator, generator):
    x = image_for(operator, generator)
    error = 1e-5 if isinstance(operator, NonCartesianMRI) else 1e-7  # gridding, of which normal has none
    expected = operator.adjoint(operator.forward(x))
    size = float(expected.abs().max())
    torch.testing.assert_close(operator.normal(x), expected, rtol=error, atol=error * size)


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


def as_real_and_as_complex(operator, generator):
    """A of real numbers, and of the same numbers as complex ones; None where A is of real images only."""
    x = image_for(operator, generator)
    x = x.real.contiguous()
    try:
        return operator.forward(x), operator.forward(torch.complex(x, torch.zeros_like(x)))
    except (RuntimeError, TypeError):
        assert not operator.zero_image().is_complex()
        assert not operator.forward(x).is_complex()
        return None


def test_real_images_are_measured_like_the_same_complex_ones(operator, generator):
    pair = as_real_and_as_complex(operator, generator)
    if pair is not None:
        real, whole = pair
        torch.testing.assert_close(real + 0j, whole + 0j)


def dense_normal(operator):
    """Aᴴ A of each sample as a symmetric matrix (B, n, n) over the real components of the image."""
    zero = operator.zero_image()
    basis = torch.view_as_real(zero) if zero.is_complex() else zero
    columns = []
    for index in range(basis[0].numel()):
        unit = torch.zeros_like(basis).flatten(1)
        unit[:, index] = 1
        unit = unit.view_as(basis)
        image = operator.normal(torch.view_as_complex(unit) if zero.is_complex() else unit)
        columns.append((torch.view_as_real(image) if image.is_complex() else image).flatten(1))
    return torch.stack(columns, -1)


def test_norm_bound(operator):
    """At least the largest eigenvalue of Aᴴ A of each sample, and no more than 1.5 times it.

    That of several coils leaves the mask out; ``test_mri.py`` has it for maps smoother than this example's.
    """
    largest = torch.linalg.eigvalsh(dense_normal(operator))[:, -1]
    bound = operator.norm_bound()
    assert bound.shape == largest.shape
    assert (bound >= largest * (1 - 1e-6)).all()
    assert isinstance(operator, MultiCoilMRI) or (bound <= 1.5 * largest).all()


def test_projections_say_so(operator, generator):
    """N N = N for those, and for no other operator of these examples."""
    once = operator.normal(image_for(operator, generator))
    idempotent = torch.allclose(operator.normal(once), once, rtol=1e-5, atol=1e-6)
    assert operator.is_projection == idempotent


@pytest.mark.parametrize("name", sorted(CORRUPTIONS.names()))
def test_registered_operators_keep_these_contracts(name, generator):
    operator = CORRUPTIONS[name].example().draw(2, generator).to(dtype=torch.float64)
    test_real_images_are_measured_like_the_same_complex_ones(operator, generator)
    if isinstance(operator, LinearOperator):
        test_norm_bound(operator)
        test_projections_say_so(operator, generator)
