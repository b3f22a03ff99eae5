"""Radial and spiral MRI against direct sums."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.operators import mri, non_cartesian
from mrigen.operators.corruption import make_corruption
from mrigen.operators.non_cartesian import NonCartesianMRI, lags, nufft, nufft_adjoint
from mrigen.tensors import randn_like


def direct(x: torch.Tensor, trajectory: torch.Tensor) -> torch.Tensor:
    """Σ_n x_n exp(−2πi k·n) / √(HW): (B, coils, H, W) on (B, points, 2)."""
    height, width = x.shape[-2:]
    n1 = torch.arange(height, dtype=torch.float64) - height // 2
    n2 = torch.arange(width, dtype=torch.float64) - width // 2
    k = trajectory.double()[..., None, None]
    waves = torch.exp(-2j * torch.pi * (k[:, :, 0] * n1[:, None] / height + k[:, :, 1] * n2 / width))
    return torch.einsum("bpij,bcij->bcp", waves, x.to(waves.dtype)) / (height * width) ** 0.5


@pytest.mark.parametrize("name", ["radial", "spiral"])
@pytest.mark.parametrize("image", ["real", "complex"])
@pytest.mark.parametrize("size", [(16, 15), (9, 12)])
def test_measurements_are_direct_sums(name, image, size, generator):
    spec = {"name": name, "arms": 7, "samples": 21, "image": image}
    operator = make_corruption(spec, (1, *size)).draw(2, generator)
    x = randn_like(operator.zero_image(), generator)
    y = operator.forward(x)
    expected = direct(x, operator.trajectory.flatten(1, 2)).view(y.shape)
    assert (y - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("name", ["radial", "spiral"])
@pytest.mark.parametrize("image", ["real", "complex"])
def test_adjoint_is_the_conjugate_sum(name, image, generator):
    """Of real images its real part."""
    spec = {"name": name, "arms": 5, "samples": 20, "image": image}
    operator = make_corruption(spec, (1, 11, 8)).draw(1, generator)
    y = randn_like(operator.forward(operator.zero_image()), generator)
    units = torch.eye(88, dtype=torch.complex128).view(88, 1, 11, 8)
    waves = direct(units, operator.trajectory.flatten(1, 2).expand(88, -1, -1))[:, 0]
    expected = (waves.conj() @ y.flatten().to(waves.dtype)).view(1, 1, 11, 8)
    expected = expected.real if image == "real" else expected
    assert operator.adjoint(y).is_complex() == (image == "complex")
    assert (operator.adjoint(y) - expected).norm() < 1e-4 * expected.norm()


def test_with_coil_maps_it_is_the_transform_of_every_coils_image(generator):
    operator = NonCartesianMRI.example()
    x = randn_like(operator.zero_image(), generator)
    expected = direct(operator.maps * x, operator.trajectory.flatten(1, 2)).view(2, 3, 4, 10)
    expected[1, :, 1] = 0
    y = operator.forward(x)
    assert (y - expected).norm() < 1e-4 * expected.norm()
    assert not y[1, :, 1].any()


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 9)])
def test_on_grid_points_it_is_the_centred_transform(size, generator):
    x = torch.randn(2, 1, *size, dtype=torch.complex64, generator=generator)
    axes = [torch.arange(n) - n // 2 for n in size]
    grid = torch.cartesian_prod(*axes).float()[None]
    k = nufft(x, grid).view(2, 1, *size)
    expected = fourier.fft(x)
    assert (k - expected).norm() < 1e-4 * expected.norm()
    assert (nufft_adjoint(expected.flatten(2), grid, size) - x).norm() < 1e-4 * x.norm()


def waves_of(trajectory, size):
    """F as a matrix (B, points, HW) in double precision."""
    units = torch.eye(size[0] * size[1], dtype=torch.complex128).view(-1, 1, *size)
    one = [direct(units, k[None].expand(len(units), -1, -1))[:, 0].T for k in trajectory]
    return torch.stack(one)


@pytest.mark.parametrize("kind", [torch.float32, torch.complex64])
@pytest.mark.parametrize("coils", [0, 3])
@pytest.mark.parametrize("size", [(9, 8), (7, 12)])
def test_the_normal_operator_is_a_convolution(kind, coils, size, generator):
    """Beside direct sums in double precision, for arms that are kept or not, with and without maps."""
    spec = {"name": "radial", "arms": 6, "samples": 15, "further_drop": 2}
    spec |= {"image": "complex" if kind.is_complex else "real"}
    corruption = make_corruption(spec, (1, *size))
    operator = corruption.corrupt_further(corruption.draw(2, generator), generator)
    maps = torch.randn(2, coils, *size, dtype=torch.complex64, generator=generator) if coils else None
    operator = replace(operator, maps=maps)
    x = randn_like(operator.zero_image(), generator)
    kept = operator.kept.repeat_interleave(15, 1)[..., None]
    waves = waves_of(operator.trajectory.flatten(1, 2), size) * kept
    images = (x if maps is None else maps * x).to(torch.complex128).flatten(2)
    products = torch.einsum("bpn,bpm,bcm->bcn", waves.conj(), waves, images)
    expected = products if maps is None else (maps.conj().flatten(2) * products).sum(1, keepdim=True)
    expected = expected.view(x.shape)
    product = operator.normal(x)
    assert product.dtype == kind
    assert (product - (expected if kind.is_complex else expected.real)).norm() < 2e-6 * expected.norm()


def test_the_convolution_is_self_adjoint_and_positive(generator):
    """To rounding, also where its padded spectrum has negative values."""
    operator = NonCartesianMRI.example()
    a, b = (randn_like(operator.zero_image(), generator) for _ in range(2))
    pairs = (a, operator.normal(b)), (operator.normal(a), b)
    torch.testing.assert_close(*[(p.conj() * q).flatten(1).sum(1) for p, q in pairs], rtol=1e-5, atol=1e-4)
    units = torch.eye(72, dtype=torch.complex64).view(72, 1, 9, 8)
    one = operator.select(0)
    matrix = replace(one, like=torch.zeros_like(units)).normal(units).view(72, 72)
    assert (matrix - matrix.mH).abs().max() < 1e-6 * matrix.abs().max()
    values = torch.linalg.eigvalsh(matrix)
    assert values[0] > -1e-5 * values[-1]
    assert one._convolution[1][..., 0].min() < 0


def test_weights_of_samples_enter_the_lags(generator):
    """t of a weighted sum is the weighted sum of direct waves."""
    trajectory = (torch.rand(2, 20, 2, generator=generator) - 0.5) * torch.tensor([7.0, 6.0])
    weights = torch.rand(2, 20, generator=generator)
    waves = waves_of(trajectory, (7, 6))
    expected = torch.einsum("bpn,bp,bp->bn", waves.conj(), weights + 0j, waves[:, :, 3 * 6 + 3]).view(2, 7, 6)
    t = lags(trajectory, weights, (7, 6))[:, 0]
    assert t.shape == (2, 13, 11)
    middle = t[:, 6 - 3 : 6 + 4, 5 - 3 : 5 + 3]
    assert (middle - expected).norm() < 1e-6 * expected.norm()


def test_products_in_parts_are_those_at_once(generator, monkeypatch):
    operator = NonCartesianMRI.example()
    x = randn_like(operator.zero_image(), generator)
    whole = operator.normal(x)
    monkeypatch.setattr(mri, "CACHE", 1200)  # two coils of one sample
    torch.testing.assert_close(operator.normal(x), whole, rtol=1e-5, atol=1e-5)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(operator.normal(x).abs().square().sum() / 2, x)
    torch.testing.assert_close(gradient, operator.normal(operator.normal(x.detach())), rtol=1e-4, atol=1e-3)


def test_conjugate_gradients_use_the_convolution(generator, monkeypatch):
    """No gridding after the right-hand side and t."""
    corruption = make_corruption({"name": "spiral", "arms": 40, "image": "complex"}, (1, 10, 11))
    operator = corruption.draw(2, generator)
    x = randn_like(operator.zero_image(), generator)
    y = operator.forward(x)
    calls, each = [], non_cartesian._each
    monkeypatch.setattr(non_cartesian, "_each", lambda *given: calls.append(1) or each(*given))
    restored = operator.solve(y, iterations=12)
    assert len(calls) == 2 + 1  # the shape of y, the right-hand side, t
    assert (operator.forward(restored) - y).norm() < 0.05 * y.norm()


def test_second_derivatives_are_those_of_a_quadratic(generator):
    """½‖F x‖² has the Hessian Fᴴ F."""
    operator = NonCartesianMRI.example()
    x = randn_like(operator.zero_image(), generator).requires_grad_()
    v = randn_like(operator.zero_image(), generator)
    y = operator.forward(x)
    (gradient,) = torch.autograd.grad(0.5 * (y.conj() * y).real.sum(), x, create_graph=True)
    (product,) = torch.autograd.grad((gradient.conj() * v).real.sum(), x)
    torch.testing.assert_close(product, operator.normal(v), rtol=1e-4, atol=1e-4)


def test_golden_angle_spokes_are_111_degrees_apart(generator):
    """Winkelmann et al. 2007."""
    corruption = make_corruption({"name": "radial", "arms": 6, "angles": "golden"}, (1, 32, 32))
    ends = corruption.draw(1, generator).trajectory[0, :, -1].double()
    degrees = torch.rad2deg(torch.atan2(ends[:, 0], ends[:, 1]))
    steps = (degrees[1:] - degrees[:-1]) % 180
    torch.testing.assert_close(steps, torch.full((5,), 111.246, dtype=torch.float64), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["radial", "spiral"])
def test_arms_stay_in_the_ellipse_and_reach_its_edge(name, generator):
    operator = make_corruption({"name": name, "arms": 9}, (1, 20, 30)).draw(3, generator)
    radius = (operator.trajectory / torch.tensor([10.0, 15.0])).norm(dim=-1)
    assert radius.max() == pytest.approx(1, abs=1e-5)
    assert radius.min() < 0.01


@pytest.mark.parametrize(("name", "more"), [("radial", {}), ("spiral", {"turns": 8.0})])
def test_a_fully_sampled_image_comes_back(name, more, generator):
    """A Gaussian, smooth enough to lie within the disc of k-space."""
    corruption = make_corruption(
        {"name": name, "arms": 120, "angles": "equispaced", "image": "complex", **more}, (1, 32, 27)
    )
    operator = corruption.draw(1, generator)
    rows, columns = torch.arange(32) - 14.0, torch.arange(27) - 12.0
    x = torch.exp(-(rows[:, None] ** 2 + columns**2) / 18)[None, None] + 0j
    image = operator.as_image(operator.forward(x))
    assert (image - x).norm() < 0.02 * x.norm()


def test_half_of_the_arms_are_as_bright(generator):
    corruption = make_corruption(
        {"name": "radial", "arms": 60, "further_drop": 30, "image": "complex"}, (1, 24, 24)
    )
    operator = corruption.draw(1, generator)
    x = torch.ones(1, 1, 24, 24, dtype=torch.complex64)
    means = [
        o.as_image(o.forward(x)).real.mean()
        for o in (operator, corruption.corrupt_further(operator, generator))
    ]
    assert means[1] == pytest.approx(float(means[0]), rel=0.2)


def test_the_density_that_networks_see_is_the_mask_where_arms_are_grid_lines():
    """Arms along the rows of an 8 x 8 grid, some of them missing."""
    k = torch.arange(8) - 4.0
    trajectory = torch.stack(torch.meshgrid(k, k, indexing="ij"), -1)[None]
    kept = torch.tensor([[True, False, False, True, True, False, True, False]])
    like = torch.zeros(1, 1, 8, 8, dtype=torch.complex64)
    operator = NonCartesianMRI(trajectory, torch.ones(1, 8, 8), kept, like)
    expected = kept[0][:, None].float().expand(8, 8)
    torch.testing.assert_close(operator.conditioning()[0, 0], expected, atol=1e-4, rtol=0)


def test_colour_images_are_refused():
    with pytest.raises(UsageError, match="needs images of one channel, not 3"):
        make_corruption({"name": "radial"}, (3, 16, 16))


def test_spirals_turn_as_often_as_asked(generator):
    operator = make_corruption({"name": "spiral", "arms": 1, "turns": 3, "samples": 400}, (1, 16, 16)).draw(
        1, generator
    )
    path = operator.trajectory[0, 0, 1:].double().numpy()
    angle = np.unwrap(np.arctan2(path[:, 0], path[:, 1]))
    assert abs(angle[-1] - angle[0]) / (2 * np.pi) == pytest.approx(3 * 398 / 399, abs=1e-3)
