"""Operators as a user meets them: A(x), A.H, A @ B, A.solve, refusals of wrong sizes, numpy arrays."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

import mrigen
from mrigen.errors import UsageError
from mrigen.operators import Blur, Identity, Measurements, MultiCoilMRI, PixelMask, concatenate
from mrigen.operators.solve import conjugate_gradient
from mrigen.tensors import randn_like


@pytest.fixture
def A():  # noqa: N802
    return MultiCoilMRI.example()


@pytest.fixture
def x(A, generator):
    return randn_like(A.zero_image(), generator)


def dense(A, index=0):
    """The matrix of one sample of a complex operator, by its columns."""
    one = A[index]
    eye = torch.eye(one.zero_image().numel(), dtype=torch.complex64)
    columns = [one(e.reshape(one.zero_image().shape)).flatten() for e in eye]
    return torch.stack(columns, 1)


def test_the_adjoint_is_an_operator(A, x, generator):
    y = randn_like(A(x), generator)
    assert_close(A.H(y), A.adjoint(y))
    assert_close(A.H.H(x), A.forward(x))
    assert A.H.H is A
    inner = (A(x).conj() * y).sum().real, (x.conj() * A.H(y)).sum().real
    assert_close(*inner, rtol=1e-4, atol=1e-4)
    assert_close((A.H @ A)(x), A.normal(x), rtol=1e-4, atol=1e-5)


def test_operators_of_a_users_class_take_numpy_arrays():
    @dataclasses.dataclass(frozen=True, eq=False)
    class Twice(Identity):
        def forward(self, x):
            return 2 * x

    assert_close(Twice(torch.zeros(1, 1, 2, 2)).normal(np.ones((3, 1, 2, 2))), 2 * torch.ones(3, 1, 2, 2))


def test_bound_of_eigenvalues_is_worked_out_once_an_operator(monkeypatch):
    A, calls = Blur.example(), []
    bound = Blur.norm_bound
    monkeypatch.setattr(Blur, "norm_bound", lambda self: calls.append(self) or bound(self))
    with torch.inference_mode():
        A.pseudo_inverse().project(A.zero_image() + 1)
    x = (A.zero_image() + 1).requires_grad_()
    A.pseudo_inverse(0.1).apply(x).sum().backward()
    assert len(calls) == 1
    assert x.grad.isfinite().all()


def test_composition_applies_the_second_first(generator):
    blur, mask = Blur.example(), PixelMask.example()
    x = randn_like(blur.zero_image(), generator)
    assert_close((mask @ blur)(x), mask(blur(x)))
    assert_close((mask @ blur).H(x), blur.H(mask.H(x)))
    with pytest.raises(UsageError, match=r"the second gives complex .* but the first takes real"):
        blur @ MultiCoilMRI.example()
    with pytest.raises(TypeError):
        blur @ 3


def test_norm_is_the_largest_singular_value(A):
    assert_close(A.operator_norm(300)[1], torch.linalg.svdvals(dense(A, 1))[0], rtol=1e-3, atol=0)
    assert_close(A.H.operator_norm(300), A.operator_norm(300), rtol=1e-3, atol=0)
    assert_close(Identity(torch.zeros(1, 2, 3, 3)).operator_norm(), torch.ones(1))


@pytest.mark.parametrize("regularisation", [0.0, 0.3])
def test_solve_is_regularised_least_squares(A, x, generator, regularisation):
    y = A(x) + 0.1 * randn_like(A(x), generator)
    matrix = dense(A).to(torch.complex128)
    weights = torch.cat([matrix, regularisation**0.5 * torch.eye(matrix.shape[1])])
    rhs = torch.cat([y[0].flatten().to(torch.complex128), torch.zeros(matrix.shape[1])])
    expected = torch.linalg.pinv(weights, rtol=1e-5) @ rhs
    found = A.solve(y, regularisation=regularisation, iterations=400, tolerance=1e-7)[0].flatten()
    assert (found - expected).norm() < 1e-2 * expected.norm()
    assert_close(
        found,
        A[0].solve(y[:1], regularisation=regularisation, iterations=400)[0].flatten(),
        rtol=1e-2,
        atol=1e-2,
    )


def test_conjugate_gradients_end_after_as_many_steps_as_eigenvalues(generator):
    values = torch.tensor([1.0, 1.0, 3.0, 7.0], dtype=torch.float64)
    rhs = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    rhs[1] = 0
    assert_close(conjugate_gradient(lambda d: values * d, rhs, 3, tolerance=1e-14), rhs / values)


def test_wrong_sizes_are_refused_and_not_broadcast(A, x):
    H, W = x.shape[-2:]
    for wrong in (
        x[0, 0],
        x[0],
        x[:, :, :1],
        x[:, :, :, :1],
        x[:1],
        torch.cat([x, x]),
        x[..., :-1],
        x[0, 0, 0],
    ):
        for apply in (A, A.forward, A.normal):
            with pytest.raises(UsageError, match="images must be"):
                apply(wrong)
    with pytest.raises(UsageError, match=r"add the leading axes, x\[None, None\]"):
        A[0](x[0, 0])
    with pytest.raises(UsageError, match=r"images must be \(B, 1, 12, 9\)"):
        A[0](torch.zeros(1, 1, H, W + 1))
    for wrong in (A(x)[0], A(x)[:, :1], A(x)[:1]):
        for apply in (A.H, A.adjoint):
            with pytest.raises(UsageError, match="must be"):
                apply(wrong)
        with pytest.raises(UsageError, match="measurements must be"):
            A.solve(wrong)
    with pytest.raises(UsageError, match="are real here"):
        Identity(torch.zeros(1, 1, 2, 2))(torch.zeros(1, 1, 2, 2, dtype=torch.complex64))
    with pytest.raises(UsageError, match="expected a tensor or a numpy array, not list"):
        A([1])
    with pytest.raises(UsageError, match="must not be negative"):
        A.solve(A(x), regularisation=-1)


def test_an_operator_of_one_sample_takes_any_batch(A, x):
    many = torch.cat([x, x, x])
    assert_close(A[1](many)[3], A(x)[1])


def test_numpy_arrays_are_taken(A, x):
    assert_close(A(x.numpy()), A(x))
    assert_close(A(x.to(torch.complex128).numpy()), A(x))  # in the operator's precision
    assert_close(A.H(A(x).numpy()), A.normal(x), rtol=1e-4, atol=1e-5)
    assert_close(A.solve(A(x).numpy()), A.solve(A(x)))
    for B in (A, A.H, A @ A.H, A.H @ A):
        image = B.zero_image() + 1j
        assert_close(B.normal(image.numpy()), B.normal(image))
        assert_close(B.forward(image.numpy()), B(image))
        assert_close(B.adjoint(B(image).numpy()), B.adjoint(B(image)))
    with pytest.raises(UsageError, match="images must be"):
        A.normal(x.numpy()[0])
    with pytest.raises(UsageError, match=r"write A\(x\) to apply it"):
        A @ x.numpy()
    with pytest.raises(TypeError, match="unsupported operand"):
        x.numpy() @ A
    assert_close(MultiCoilMRI(A.maps.numpy(), A.mask.numpy())(x), A(x))
    assert_close(mrigen.fft(x.numpy()), mrigen.fft(x))
    noise = np.random.default_rng(0).normal(size=(2, 3, 40, 40)) + 1j
    assert_close(mrigen.whiten(noise), mrigen.whiten(torch.from_numpy(noise)))
    assert_close(mrigen.compress_coils(noise, 2), mrigen.compress_coils(torch.from_numpy(noise), 2))
    assert_close(mrigen.espirit(noise, 12, 3), mrigen.espirit(torch.from_numpy(noise), 12, 3))


def test_masks_of_every_notation(A, x):
    W, H = 9, 12
    lines = torch.arange(W) % 2 == 0
    points = (torch.arange(H)[:, None] + torch.arange(W)) % 3 == 0
    for mask in (
        lines,
        lines[None],
        lines.float(),
        lines.numpy(),
        lines.numpy().astype(int),
        lines[None, None, None],
    ):
        B = MultiCoilMRI(A.maps, mask)
        assert B.mask.shape == (1, 1, 1, W)
        assert_close(B(x), A.with_mask(lines[None, None, None])(x))
    for mask in (points, points.double(), points[None], points.expand(2, -1, -1), points[None, None]):
        B = MultiCoilMRI(A.maps, mask)
        assert B.mask.shape[1:] == (1, H, W)
        assert_close(B(x), mrigen.fft(A.maps * x) * points)
    assert len(MultiCoilMRI(A.maps[0], lines).maps) == 1
    for mask, message in (
        (lines.float() / 2, "0 and 1 only"),
        (torch.ones(3, H, W), "do not fit together"),
        (torch.ones(H), "mask must be"),
        (torch.ones(1, 3, H, W), "mask must be"),
    ):
        with pytest.raises(UsageError, match=message):
            MultiCoilMRI(A.maps, mask)
    with pytest.raises(UsageError, match="maps must be complex"):
        MultiCoilMRI(A.maps.real, lines)


def test_operators_and_measurements_print_shapes(A, x):
    assert repr(A) == "MultiCoilMRI(maps=complex64 (2, 3, 12, 9), mask=bool (2, 1, 1, 9))"
    data = Measurements(A(x), A, 0.1)
    assert "tensor(" not in repr(data)
    assert repr(data).startswith("Measurements(y=complex64 (2, 3, 12, 9), operator=MultiCoilMRI(")
    assert "MultiCoilMRI" in repr(A.H @ A)


def test_measurements_are_indexed_and_joined(A, x):
    data = Measurements(A(x).numpy(), A, sigma=torch.tensor([0.1, 0.2]))
    assert len(data) == 2
    assert_close(data[-1].y, data.y[1:])
    assert_close(data[-1].operator(x[1:]), A(x)[1:])
    assert_close(data[::-1].sigma, torch.tensor([0.2, 0.1]))
    assert_close(data[torch.tensor([False, True])].y, data.y[1:])
    assert [float(one.sigma) for one in data] == pytest.approx([0.1, 0.2])
    again = concatenate([data[0], data[[1, 1]]])
    assert len(again) == 3
    assert_close(again.operator(x[[0, 1, 1]]), A(x)[[0, 1, 1]])
    assert_allclose(dataclasses.replace(data, sigma=torch.zeros(2)).sigma, 0)
    for wrong in (2, -3, [0, 2]):
        with pytest.raises(IndexError):
            data[wrong]
    with pytest.raises(IndexError, match="at least one"):
        data[2:]
    with pytest.raises(UsageError, match="sigma must be"):
        Measurements(A(x), A, torch.zeros(3))
    with pytest.raises(UsageError, match="finite and not negative"):
        Measurements(A(x), A, torch.tensor([0.1, -0.1]))
    assert_close(Measurements(A(x), A, torch.tensor(0.1)).sigma, torch.tensor([0.1, 0.1]))
    assert (len(A), len(A[0]), len(data.to("cpu", dtype=torch.float64))) == (2, 1, 2)


def test_reconstruction_in_memory_is_the_solver_of_the_command(A, x):
    from mrigen.inverse import SOLVERS, Task

    data = Measurements(A(x), A)
    found = mrigen.reconstruct(data, solver="cg-sense", steps=5)
    solver = SOLVERS.build({"name": "cg-sense", "steps": 5})
    assert_close(found, solver.solve(Task(data, [0, 1])).image)
    assert mrigen.reconstruct(data, solver=solver, samples=3, batch=2).shape == (2, 3, *x.shape[1:])
    for wrong, message in (
        ({"solver": "dds"}, "solver dds needs a teacher"),
        ({"solver": "cg-sens"}, "did you mean 'cg-sense'"),
        ({"solver": "cg-sense", "step": 3}, "step: unknown key"),
        ({"samples": 0}, "at least 1"),
    ):
        with pytest.raises(UsageError, match=message):
            mrigen.reconstruct(data, **wrong)
    with pytest.raises(UsageError, match="measurements of MultiCoilMRI must be"):
        mrigen.reconstruct(Measurements(A(x)[..., :4], A))


def test_frechet_distance_of_tensors(generator):
    a = torch.randn(500, 2, dtype=torch.float64, generator=generator)
    assert mrigen.metrics.frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert mrigen.metrics.frechet(3 * a, a) == pytest.approx(4 * float((a**2).mean(0).sum()), rel=0.02)
    images = torch.rand(6, 1, 32, 32, generator=generator) * 2 - 1
    assert mrigen.metrics.frechet(images, images) == pytest.approx(0, abs=1e-3)
    assert mrigen.metrics.frechet(images, images.square(), features="pixels") > 1e-3
    with pytest.raises(UsageError, match="both real or both complex"):
        mrigen.metrics.frechet(images, a)
    with pytest.raises(UsageError, match="at least two"):
        mrigen.metrics.frechet(a[:1], a)
