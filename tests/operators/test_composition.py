"""One operator after another."""

import pytest
import torch

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, linear
from mrigen.operators.blur import Blur
from mrigen.operators.composition import compose
from mrigen.operators.corruption import make_corruption
from mrigen.operators.fourier_masks import FourierMask
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.nonlinear import Clip
from mrigen.tensors import randn_like


def chain(*parts, shape=(1, 12, 9)):
    return make_corruption({"name": "compose", "parts": list(parts)}, shape)


def test_the_first_named_acts_first(generator):
    blur, mask = Blur.example(), PixelMask.example()
    x = torch.randn(2, 3, 7, 5, generator=generator)
    torch.testing.assert_close(compose(blur, mask).forward(x), blur.forward(x) * mask.mask)
    torch.testing.assert_close(compose(mask, blur).forward(x), blur.forward(x * mask.mask))


def test_composition_is_associative(generator):
    blur, mask = Blur.example(), PixelMask.example()
    x = torch.randn(2, 3, 7, 5, generator=generator)
    left, right = compose(compose(blur, mask), blur), compose(blur, compose(mask, blur))
    torch.testing.assert_close(left.forward(x), right.forward(x))
    torch.testing.assert_close(linear(left).adjoint(x), linear(right).adjoint(x))
    torch.testing.assert_close(
        linear(left).normal(x), linear(left).adjoint(left.forward(x)), rtol=1e-4, atol=1e-4
    )


def test_a_chain_is_linear_only_if_all_parts_are():
    assert isinstance(compose(Blur.example(), PixelMask.example()), LinearOperator)
    for operators in ((Clip.example(), Blur.example()), (Blur.example(), Clip.example())):
        with pytest.raises(UsageError, match="Composition is not linear"):
            linear(compose(*operators))


def test_a_recipes_chain_is_its_parts_in_turn(generator):
    corruption = chain(
        {"name": "gaussian-blur", "size": 5}, {"name": "super-resolution", "factor": 3, "restored": False}
    )
    operator = corruption.draw(2, generator)
    x = torch.randn(2, 1, 12, 9, generator=generator)
    blurred = make_corruption({"name": "gaussian-blur", "size": 5}, (1, 12, 9)).draw(2, generator).forward(x)
    small = blurred.view(2, 1, 4, 3, 3, 3).mean((3, 5))
    torch.testing.assert_close(operator.forward(x), small, rtol=1e-5, atol=1e-5)
    assert operator.as_image(small).shape == x.shape


def test_networks_are_shown_all_masks(generator):
    """A pixel is marked where every part measures it."""
    corruption = chain({"name": "inpainting", "missing": 0.3}, {"name": "inpainting", "missing": 0.3})
    operator = corruption.draw(3, generator)
    seen = operator.forward(torch.ones(3, 1, 12, 9)) != 0
    assert torch.equal(operator.conditioning() != 0, seen)
    blurs = chain({"name": "gaussian-blur", "size": 3}, {"name": "gaussian-blur", "size": 3})
    assert blurs.draw(1, generator).conditioning() is None


def test_noise_comes_in_at_the_end(generator):
    """It is not blurred, and it is where the last mask measures."""
    corruption = chain({"name": "gaussian-blur", "size": 3}, {"name": "inpainting"})
    operator = corruption.draw(400, generator)
    zero = torch.zeros(400, 1, 12, 9)
    noise = operator.noise(zero, torch.full((400,), 0.5), generator)
    mask = operator.outer.mask
    assert not noise[~mask].any()
    assert noise[mask].std() == pytest.approx(0.5, rel=0.03)
    both = mask[..., 1:] & mask[..., :-1]
    neighbours = (noise[..., 1:] * noise[..., :-1])[both].mean() / 0.25
    assert abs(neighbours) < 5 / both.sum() ** 0.5


def test_the_further_corruption_is_the_last_parts(generator):
    corruption = chain({"name": "identity"}, {"name": "fourier-points", "acceleration": 2, "centre": 2})
    assert corruption.ambient_obstacle == ""
    operator = corruption.draw(3, generator)
    further = corruption.corrupt_further(operator, generator)
    assert isinstance(further.outer, FourierMask)
    assert not (further.outer.mask & ~operator.outer.mask).any()
    assert further.outer.mask.sum() < operator.outer.mask.sum()
    assert further.inner is operator.inner
    x = randn_like(operator.zero_image(), generator)
    torch.testing.assert_close(further.forward(x), operator.forward(x) * further.outer.mask)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"name": "identity"}], "at least 2"),
        ([{"name": "identity"}, {"name": "blurr", "size": 3}], "unknown operator 'blurr'"),
        ([{"name": "gaussian-blur", "width": 3}, {"name": "identity"}], "width: unknown key"),
        (
            [{"name": "compressed-sensing", "measurements": 4}, {"name": "gaussian-blur", "size": 3}],
            "the measurement of compressed-sensing is no image; let it be the last part",
        ),
        (
            [{"name": "fourier-points", "centre": 2}, {"name": "gaussian-blur", "size": 3}],
            "gaussian-blur takes real images, but fourier-points before it gives complex ones",
        ),
        (
            [
                {"name": "super-resolution", "factor": 3, "restored": False},
                {"name": "gaussian-blur", "size": 9},
            ],
            "too wide for images of 4 x 3",
        ),
    ],
)
def test_chains_that_do_not_fit_are_refused_in_one_line(parts, message):
    with pytest.raises(UsageError, match=message) as caught:
        chain(*parts)
    assert "\n" not in str(caught.value)
