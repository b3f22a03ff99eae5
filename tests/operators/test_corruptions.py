"""What every registered corruption of images must satisfy, whatever it models."""

import json

import pytest
import torch
from gpu import needs_gpu

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, linear
from mrigen.operators.corruption import CORRUPTIONS, make_corruption
from mrigen.operators.noise import Noise
from mrigen.tensors import TensorRecord, randn_like

EXPECTED = {
    *("identity", "gaussian-blur", "motion-blur", "blur", "inpainting", "missing-box", "kept-patch"),
    *("super-resolution", "compressed-sensing", "fourier-lines", "fourier-points", "fourier-poisson"),
    *("radial", "spiral", "phase-retrieval", "clipping", "compose", "vlbi"),
}
NOT_LINEAR = {"phase-retrieval", "clipping"}
ON_THE_CPU = {"radial", "spiral"}  # sigpy's transform
MIRRORED = {
    *("identity", "gaussian-blur", "motion-blur", "blur", "inpainting", "missing-box", "kept-patch"),
    *("super-resolution", "clipping"),
}


@pytest.fixture(params=CORRUPTIONS.names())
def name(request) -> str:
    return request.param


@pytest.fixture
def corruption(name):
    return CORRUPTIONS[name].example()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def double(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def inner(a, b):
    return (a.conj() * b).real.flatten(1).sum(1)


def tensors(record: TensorRecord) -> list[torch.Tensor]:
    found = []
    for value in vars(record).values():
        if isinstance(value, TensorRecord):
            found += tensors(value)
        elif isinstance(value, torch.Tensor):
            found.append(value)
    return found


def test_all_operators_are_there():
    assert set(CORRUPTIONS.names()) >= EXPECTED


def test_images_have_odd_sides_somewhere(corruption):
    assert any(length % 2 for length in corruption.shape[1:])


def test_draws_are_of_the_images_shape_and_linear_where_they_should_be(corruption, name):
    operator = corruption.draw(3, seeded(0))
    assert operator.zero_image().shape == (3, *corruption.shape)
    assert isinstance(operator, LinearOperator) == (name not in NOT_LINEAR)
    x = randn_like(operator.zero_image(), seeded(1))
    y = operator.forward(x)
    assert len(y) == 3
    assert operator.as_image(y).shape == x.shape
    assert operator.as_image(y).dtype == x.dtype


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS.names()) - NOT_LINEAR))
def test_adjoint_of_drawn_operators(corruption):
    operator = corruption.draw(3, seeded(0)).to(dtype=torch.float64)
    x = randn_like(operator.zero_image(), seeded(1))
    y = operator.forward(x)
    other = randn_like(y, seeded(2))
    torch.testing.assert_close(inner(y, other), inner(x, operator.adjoint(other)))


@pytest.mark.parametrize("name", sorted(NOT_LINEAR))
def test_operators_without_adjoint_are_refused(corruption):
    with pytest.raises(UsageError, match="is not linear: it has no adjoint") as caught:
        linear(corruption.draw(1, seeded(0)))
    assert "\n" not in str(caught.value)


def test_the_same_seed_draws_the_same(corruption):
    one, two = corruption.draw(4, seeded(3)), corruption.draw(4, seeded(3))
    for a, b in zip(tensors(one), tensors(two), strict=True):
        assert torch.equal(a, b)


def test_every_sample_has_its_own_operator(corruption):
    """A batch acts on each image as the operator of that sample alone does."""
    operator = corruption.draw(3, seeded(4)).to(dtype=torch.float64)
    x = randn_like(operator.zero_image(), seeded(5))
    whole = operator.forward(x)
    for i in range(3):
        torch.testing.assert_close(operator.select(i).forward(x[i : i + 1]), whole[i : i + 1])


def test_gradients_agree_with_finite_differences(corruption):
    operator = corruption.draw(2, seeded(6)).to(dtype=torch.float64)
    x = double(randn_like(operator.zero_image(), seeded(7)))
    direction = randn_like(x, seeded(8))
    weights = randn_like(operator.forward(x), seeded(9))
    variable = x.clone().requires_grad_()
    inner(weights, operator.forward(variable)).sum().backward()
    step = 1e-6
    ahead, behind = (operator.forward(x + s * step * direction) for s in (1, -1))
    expected = inner(weights, (ahead - behind) / (2 * step)).sum()
    torch.testing.assert_close(inner(variable.grad, direction).sum(), expected, rtol=1e-5, atol=1e-5)


def test_further_corruption_sees_less_or_is_refused(corruption, name):
    """Ã = K A: applied to what A measured, Ã loses nothing of what it keeps."""
    operator = corruption.draw(5, seeded(10))
    if corruption.ambient_obstacle and name not in {"fourier-poisson", "compose"}:
        with pytest.raises(UsageError, match="has no further corruption") as caught:
            corruption.corrupt_further(operator, seeded(11))
        assert corruption.ambient_obstacle in str(caught.value)
        return
    further = corruption.corrupt_further(operator, seeded(11))
    x = randn_like(operator.zero_image(), seeded(12))
    y, less = operator.forward(x), further.forward(x)
    kept = less != 0
    torch.testing.assert_close(less[kept], y[kept], rtol=1e-5, atol=1e-5)
    if name != "identity":
        assert less.norm() < y.norm()


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS.names()) - ON_THE_CPU))
def test_everything_stays_on_the_operators_device(corruption):
    """The meta device refuses tensors that were left on another; it knows shapes and no values."""
    operator = corruption.draw(2, seeded(0))
    away = operator.to(device="meta")
    x = away.zero_image()
    y, expected = away.forward(x), operator.forward(operator.zero_image())
    results = [x, y, away.as_image(y)]
    if isinstance(away, LinearOperator):
        results += [away.adjoint(y), away.normal(x)]
    shown = away.conditioning()
    results += [] if shown is None else [shown]
    assert {r.device.type for r in results} == {"meta"}
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype


@needs_gpu
def test_a_gpu_gives_the_same(corruption):
    operator = corruption.draw(2, seeded(0))
    away = operator.to(device="cuda")
    x = randn_like(operator.zero_image(), seeded(1))
    y = operator.forward(x)
    torch.testing.assert_close(away.forward(x.cuda()).cpu(), y, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(away.as_image(y.cuda()).cpu(), operator.as_image(y), rtol=1e-4, atol=1e-4)
    noise = [
        o.noise(y.to(o.zero_image().device), torch.ones(2).to(o.zero_image().device), seeded(2)).cpu()
        for o in (operator, away)
    ]
    torch.testing.assert_close(*noise)
    if not corruption.ambient_obstacle:
        further = [
            corruption.corrupt_further(o, seeded(3)).forward(x.to(o.zero_image().device)).cpu()
            for o in (operator, away)
        ]
        torch.testing.assert_close(*further, rtol=1e-4, atol=1e-4)


def test_noise_is_white_where_something_is_measured(corruption):
    """Its standard deviation per component is σ of the sample; nothing appears where A is blind."""
    corruption.noise = Noise(low=0.1, high=0.4)
    operator = corruption.draw(2, seeded(13))
    y = operator.forward(randn_like(operator.zero_image(), seeded(14)))
    sigma = torch.tensor([0.1, 0.4])
    draws = torch.stack([operator.noise(y, sigma, seeded(100 + i)) for i in range(400)])
    parts = torch.view_as_real(draws) if draws.is_complex() else draws[..., None]
    for i in range(2):
        measured = parts[:, i][:, y[i] != 0]
        assert measured.numel()
        spread = measured.square().mean().sqrt()
        assert abs(spread / sigma[i] - 1) < 5 / (2 * measured.numel()) ** 0.5
    blind = (y == 0).expand_as(draws)
    if corruption.__class__.__name__ != "Clipping":
        assert not draws[blind].any()


def test_measure_draws_operator_and_noise_together(corruption):
    """y = A x + σ ε, with the σ and the A that are returned, and another draw for another seed."""
    corruption.noise = Noise(low=0.2, high=0.3)
    x = randn_like(corruption.draw(3, seeded(0)).zero_image(), seeded(15))
    batch = corruption.measure(x, seeded(16))
    assert ((batch.sigma >= 0.2) & (batch.sigma <= 0.3)).all()
    assert len(set(batch.sigma.tolist())) == 3
    residual = batch.y - batch.operator.forward(x)
    rms = residual[residual != 0].abs().square().mean().sqrt() / (2**0.5 if residual.is_complex() else 1)
    assert 0.1 < rms < 0.45
    assert not torch.equal(batch.y, corruption.measure(x, seeded(17)).y)


def test_noiseless_measurements_are_exact(corruption):
    x = randn_like(corruption.draw(3, seeded(0)).zero_image(), seeded(18))
    batch = corruption.measure(x, seeded(19))
    assert torch.equal(batch.y, batch.operator.forward(x))
    assert not batch.sigma.any()


def test_a_recipes_words_are_enough_to_draw_the_same(corruption, name):
    """The frozen spec survives JSON and means the same corruption."""
    spec = json.loads(
        json.dumps(CORRUPTIONS.freeze({"name": name, **corruption.params.model_dump(mode="json")}))
    )
    again = make_corruption(spec, corruption.shape)
    assert again.ambient_obstacle == corruption.ambient_obstacle
    for a, b in zip(tensors(corruption.draw(2, seeded(1))), tensors(again.draw(2, seeded(1))), strict=True):
        assert torch.equal(a, b)


def test_mirrored_measurements_are_those_of_mirrored_images(corruption, name):
    operator = corruption.draw(4, seeded(20)).to(dtype=torch.float64)
    x = double(randn_like(operator.zero_image(), seeded(21)))
    which = torch.tensor([True, False, True, False])
    y = operator.forward(x)
    if name not in MIRRORED:
        with pytest.raises(UsageError, match="cannot be mirrored"):
            operator.mirror(y, which, -1)
        return
    for axis in (-1, -2):
        flipped = torch.where(which.reshape(-1, 1, 1, 1), x.flip(axis), x)
        moved, other = operator.mirror(y, which, axis)
        torch.testing.assert_close(other.forward(flipped), moved)


def test_unknown_words_are_named(name):
    with pytest.raises(UsageError, match="nonsense: unknown key"):
        make_corruption({"name": name, "nonsense": 1}, (1, 32, 32))


def test_unknown_operators_are_named():
    with pytest.raises(UsageError, match="unknown operator 'inpaintin': did you mean 'inpainting'"):
        make_corruption({"name": "inpaintin"}, (1, 8, 8))
