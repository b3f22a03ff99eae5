"""Linops of sigpy as operators, and operators as linops of sigpy."""

import numpy as np
import pytest
import sigpy
import torch
from sigpy import linop

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.operators import MultiCoilMRI
from mrigen.operators.base import linear
from mrigen.operators.blur import Blur
from mrigen.operators.composition import compose
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.non_cartesian import NonCartesianMRI
from mrigen.operators.nonlinear import Clip
from mrigen.operators.sigpy_bridge import from_sigpy, to_sigpy
from mrigen.operators.super_resolution import LowResolution
from mrigen.tensors import concatenate, randn_like

OURS = [MultiCoilMRI, NonCartesianMRI, Blur, PixelMask, LowResolution]


def inner(a, b):
    return (a.conj() * b).real.sum()


def wide(operator):
    return operator.to(dtype=torch.float64)


def linops():
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((3, 6, 7)) + 1j * rng.standard_normal((3, 6, 7))
    mask = rng.random((6, 7)) < 0.5
    sense = (
        linop.Multiply((3, 6, 7), mask) * linop.FFT((3, 6, 7), axes=(-2, -1)) * linop.Multiply((6, 7), maps)
    )
    return {
        "sense": sense,
        "gradient": linop.FiniteDifference((6, 7)),
        "wavelet": linop.Wavelet((6, 7), wave_name="db2"),
        "stack": linop.Vstack([linop.Identity((6, 7)), 2 * linop.Circshift((6, 7), (1, 2))], axis=0),
        "convolution": linop.ConvolveData((6, 7), rng.standard_normal((3, 2))),
        "upsampling": linop.Upsample((6, 7), (2, 1)) * linop.Downsample((6, 7), (2, 1)),
    }


@pytest.mark.parametrize("name", linops())
@pytest.mark.parametrize("complex_valued", [True, False])
def test_any_linop_is_an_operator(name, complex_valued, generator):
    """Values of the linop, its adjoint, and gradients by finite differences, each of several samples."""
    theirs = linops()[name]
    ours = wide(from_sigpy(theirs, complex_valued=complex_valued))
    dtype = torch.complex128 if complex_valued else torch.float64
    x = randn_like(torch.zeros(2, 1, 6, 7, dtype=dtype), generator)
    y = ours.forward(x)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if not complex_valued else {"rtol": 1e-10, "atol": 1e-10}
    for i in range(2):
        np.testing.assert_allclose(y[i].numpy(), theirs(x[i, 0].numpy()), **tolerance)
    other = randn_like(y, generator)
    torch.testing.assert_close(inner(y, other), inner(x, ours.adjoint(other)), **tolerance)
    variable = x.clone().requires_grad_()
    inner(other, ours.forward(variable)).backward()
    assert variable.grad.dtype == dtype
    torch.testing.assert_close(variable.grad, ours.adjoint(other), **tolerance)
    direction = randn_like(x, generator)
    change = (ours.forward(x + direction) - ours.forward(x - direction)) / 2
    torch.testing.assert_close(inner(variable.grad, direction), inner(other, change), **tolerance)


def test_second_derivatives(generator):
    """½‖A x‖² has the Hessian Aᴴ A."""
    operator = wide(from_sigpy(linops()["sense"]))
    x = randn_like(operator.zero_image(), generator).requires_grad_()
    v = randn_like(operator.zero_image(), generator)
    y = operator.forward(x)
    (gradient,) = torch.autograd.grad(0.5 * inner(y, y), x, create_graph=True)
    (product,) = torch.autograd.grad(inner(gradient, v), x)
    torch.testing.assert_close(product, operator.normal(v))


def test_the_project_s_sense_and_sigpys_agree(generator):
    ours = MultiCoilMRI.example()
    masks = ours.mask.expand(2, 1, 12, 9).numpy()
    theirs = [
        linop.Multiply((3, 12, 9), m) * linop.FFT((3, 12, 9), axes=(-2, -1)) * linop.Multiply((12, 9), s)
        for s, m in zip(ours.maps.numpy(), masks, strict=True)
    ]
    bridged = from_sigpy(theirs, (1, 12, 9))
    x = randn_like(ours.zero_image(), generator)
    torch.testing.assert_close(bridged.forward(x), ours.forward(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bridged.normal(x), ours.normal(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("sample", [0, 1])
def test_any_operator_is_a_linop(kind, sample, generator):
    operator = wide(kind.example())
    one = to_sigpy(operator, sample if len(operator.zero_image()) > 1 else 0)
    x = randn_like(operator.zero_image(), generator)
    x = x.to(torch.complex128 if x.is_complex() else torch.float64)
    at = min(sample, len(x) - 1)
    full = x if len(x) > 1 else x.expand(2, -1, -1, -1)
    y = operator.forward(full)[at]
    np.testing.assert_allclose(one(full[at].numpy()), y.numpy(), rtol=1e-6, atol=1e-6 * float(y.norm()))
    back = operator.adjoint(operator.forward(full))[at]
    np.testing.assert_allclose(
        one.N(full[at].numpy()), back.numpy(), rtol=1e-6, atol=1e-6 * float(back.norm())
    )
    assert list(one.ishape) == list(full.shape[1:])
    assert list(one.oshape) == list(y.shape)
    assert list(one.H.oshape) == list(one.ishape)
    assert one.H.H(full[at].numpy()).dtype == one(full[at].numpy()).dtype


@pytest.mark.parametrize("kind", [*OURS, type(compose(Blur.example(), PixelMask.example()))])
def test_there_and_back(kind, generator):
    """from_sigpy(to_sigpy(A)) is A, in value and gradient."""
    operator = kind.example()
    zero = operator.zero_image()
    again = from_sigpy(
        [to_sigpy(operator, i) for i in range(len(zero))], zero.shape[1:], complex_valued=zero.is_complex()
    )
    x = randn_like(zero, generator)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(again.forward(x), operator.forward(x), **close)
    gradients = []
    weights = randn_like(operator.forward(x), generator)
    for one in (operator, again):
        variable = x.clone().requires_grad_()
        inner(weights, one.forward(variable)).backward()
        gradients.append(variable.grad)
    torch.testing.assert_close(gradients[1], gradients[0], **close)


def test_linops_there_and_back():
    theirs = linops()["sense"]
    again = to_sigpy(wide(from_sigpy(theirs)))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 7)) + 1j * rng.standard_normal((6, 7))
    np.testing.assert_allclose(again(x[None]), theirs(x))
    np.testing.assert_allclose(again.N(x[None])[0], theirs.N(x))


def test_sigpys_solver_inverts_our_operator(generator):
    """Least squares by sigpy's conjugate gradients on a blur of ours."""
    blur = wide(Blur(torch.tensor([[[[0.1, 0.2, 0.4, 0.15, 0.15]]]]), torch.zeros(1, 1, 6, 8)))
    x = torch.randn(1, 1, 6, 8, dtype=torch.float64, generator=generator)
    y = blur.forward(x)[0].numpy()
    solution = sigpy.app.LinearLeastSquares(to_sigpy(blur), y, max_iter=200, show_pbar=False).run()
    np.testing.assert_allclose(solution, x[0].numpy(), atol=1e-6)


def test_linops_act_in_sums_and_products_with_ours(generator):
    mixed = 2 * to_sigpy(wide(MultiCoilMRI.example())) * linop.Multiply((1, 12, 9), np.array(1j))
    x = randn_like(torch.zeros(1, 12, 9, dtype=torch.complex128), generator)
    expected = wide(MultiCoilMRI.example()).select(0).forward(2j * x[None])[0]
    np.testing.assert_allclose(mixed(x.numpy()), expected.numpy())


def test_one_linop_for_all_and_one_for_each_join(generator):
    shared = from_sigpy(linops()["gradient"])
    own = from_sigpy([linops()["gradient"], -1 * linops()["gradient"]])
    joined = concatenate([shared, own])
    x = randn_like(torch.zeros(3, 1, 6, 7, dtype=torch.complex64), generator)
    parts = torch.cat([shared.forward(x[:1]), own.forward(x[1:])])
    torch.testing.assert_close(joined.forward(x), parts)
    torch.testing.assert_close(joined.select(2).forward(x[2:]), parts[2:])


def test_composes_with_ours(generator):
    """A sigpy transform after a mask of ours."""
    mask = PixelMask(torch.rand(2, 1, 6, 7, generator=generator) < 0.5, 1)
    both = linear(compose(mask, from_sigpy(linop.FFT((1, 6, 7), axes=(-2, -1)), complex_valued=False)))
    x = torch.randn(2, 1, 6, 7, generator=generator)
    torch.testing.assert_close(both.forward(x), fourier.fft(x * mask.mask), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both.normal(x), x * mask.mask, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused(generator):
    with pytest.raises(ValueError, match="does not act on images of"):
        from_sigpy(linop.Identity((6, 7)), (1, 5, 5))
    with pytest.raises(ValueError, match="say what shape"):
        from_sigpy(linop.Identity((2, 1, 6, 7)))
    with pytest.raises(ValueError, match="needs one linop, or 2 of the same shapes"):
        from_sigpy([linop.Identity((6, 7)), linop.FiniteDifference((6, 7))])
    with pytest.raises(RuntimeError) as caught:
        to_sigpy(Blur.example())(np.zeros((3, 7, 5), complex))
    assert "takes real arrays" in str(caught.value.__cause__)
    with pytest.raises(UsageError, match="Clip is not linear"):
        to_sigpy(Clip.example())
