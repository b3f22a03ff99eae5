"""Regularised pseudo-inverses against dense matrices, and their limits."""

import math

import pytest
import torch

from mrigen.operators import MultiCoilMRI
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.pseudo_inverse import PseudoInverse, _SelfAdjoint
from mrigen.tensors import randn_like


def coils(generator, height=4, width=8):
    """Two slices, three coils of norm one at every pixel, another mask of lines in each."""
    maps = torch.randn(2, 3, height, width, dtype=torch.complex128, generator=generator)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    lines = torch.tensor([[1, 0, 1, 1, 1, 0, 0, 1], [0, 1, 0, 1, 1, 1, 0, 0]], dtype=torch.bool)
    return MultiCoilMRI(maps, lines[:, None, None])


def dense(function, operator):
    """The matrix (n, n) of a complex linear map for each sample."""
    batch, channels, height, width = operator.zero_image().shape
    n = channels * height * width
    columns = []
    for index in range(n):
        unit = torch.zeros(batch, n, dtype=torch.complex128)
        unit[:, index] = 1
        columns.append(function(unit.view(batch, channels, height, width)).flatten(1))
    return torch.stack(columns, -1)


def bound(tau, steps):
    root = math.sqrt((1 + tau) / tau)
    rate = (root - 1) / (root + 1)
    return 2 * rate**steps / (1 + rate ** (2 * steps))


@pytest.mark.parametrize(("tau", "steps"), [(0.05, 8), (0.05, 3), (0.3, 6), (0.01, 40)])
def test_the_error_is_within_the_stated_bound(generator, tau, steps):
    """‖q(N) (N + τ) − I‖ ≤ Chebyshev's bound, and P the same distance from (N + τ)⁻¹ N."""
    A = coils(generator)
    inverse = A.pseudo_inverse(tau, steps)
    N = dense(A.normal, A)
    identity = torch.eye(N.shape[-1], dtype=torch.complex128)
    regularised = N + tau * identity
    q, P = dense(inverse.apply, A), dense(inverse.project, A)
    assert torch.linalg.matrix_norm(q @ regularised - identity, 2).max() <= bound(tau, steps) * (1 + 1e-9)
    exact = torch.linalg.solve(regularised, N)
    assert torch.linalg.matrix_norm(P - exact, 2).max() <= bound(tau, steps) * (1 + 1e-9)


def test_p_is_linear_hermitian_and_between_zero_and_one(generator):
    A = coils(generator)
    inverse = A.pseudo_inverse()
    P = dense(inverse.project, A)
    torch.testing.assert_close(P, P.mH)
    values = torch.linalg.eigvalsh(P)
    assert values.min() > -1e-9
    assert values.max() < 1 + bound(0.05, 8)
    x, y = (randn_like(A.zero_image(), generator) for _ in range(2))
    torch.testing.assert_close(
        inverse.project(2 * x - 1j * y), 2 * inverse.project(x) - 1j * inverse.project(y)
    )


def test_maps_of_any_scale_have_the_same_projection(generator):
    """τ is relative to the norm: P depends on what is measured, not on the units of the maps."""
    A = coils(generator)
    x = randn_like(A.zero_image(), generator)
    scaled = MultiCoilMRI(7 * A.maps, A.mask)
    torch.testing.assert_close(scaled.pseudo_inverse().project(x), A.pseudo_inverse().project(x))
    torch.testing.assert_close(scaled.pseudo_inverse().apply(scaled.normal(x)), A.pseudo_inverse().project(x))


def test_masks_are_their_own_projection(generator):
    """Pixel masks: P is the mask and z what is observed, without regularisation."""
    mask = PixelMask(torch.rand(2, 1, 5, 4, generator=generator) < 0.5, 1)
    x = torch.randn(2, 1, 5, 4, generator=generator)
    inverse = mask.pseudo_inverse()
    assert torch.equal(inverse.project(x), x * mask.mask)
    assert torch.equal(inverse.apply(x), x)


def test_gradients_are_those_of_a_linear_map(generator):
    A = coils(generator)
    x = randn_like(A.zero_image(), generator).requires_grad_()
    y = randn_like(x.detach(), generator)
    project = A.pseudo_inverse().project
    (gradient,) = torch.autograd.grad((project(x).conj() * y).real.sum(), x)
    torch.testing.assert_close(gradient, project(y))


def test_gpus_do_the_same_in_fewer_kernels(generator):
    """Values and gradients of the way of GPUs, in double precision."""
    operator = MultiCoilMRI.example().to(dtype=torch.float64)
    inverse = PseudoInverse(operator, 0.05, 8)
    b = operator.normal(randn_like(operator.zero_image(), generator)).requires_grad_()
    weight = randn_like(b, generator)
    expected, found = inverse._solve(b), _SelfAdjoint.apply(b, inverse)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((weight.conj() * y).real.sum(), b)[0] for y in (expected, found)]
    torch.testing.assert_close(*gradients)
