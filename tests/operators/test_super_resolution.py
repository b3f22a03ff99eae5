"""Downsampling against block means, torch's and Pillow's resamplers, and the laws of A†."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from mrigen.errors import UsageError
from mrigen.operators.corruption import make_corruption


def downsampling(kernel: str, factor: int, size=(24, 36), *, restored=False):
    spec = {"name": "super-resolution", "kernel": kernel, "factor": factor, "restored": restored}
    return make_corruption(spec, (3, *size)).draw(2, torch.Generator())


@pytest.fixture
def x(generator):
    return torch.randn(2, 3, 24, 36, generator=generator)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_average_is_the_mean_of_blocks(x, factor):
    y = downsampling("average", factor).forward(x)
    blocks = x.view(2, 3, 24 // factor, factor, 36 // factor, factor).mean((3, 5))
    torch.testing.assert_close(y, blocks)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_averages_are_brought_back_by_repetition(x, factor):
    operator = downsampling("average", factor)
    y = operator.forward(x)
    repeated = y.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    torch.testing.assert_close(operator.as_image(y), repeated)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_torchs_antialiased(x, factor):
    y = downsampling("bicubic", factor).forward(x)
    theirs = functional.interpolate(
        x, scale_factor=1 / factor, mode="bicubic", antialias=True, align_corners=False
    )
    torch.testing.assert_close(y, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_pillows(x, factor):
    y = downsampling("bicubic", factor).forward(x)
    image = Image.fromarray(x[0, 0].numpy())
    theirs = np.asarray(image.resize((36 // factor, 24 // factor), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(y[0, 0].numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("kernel", ["average", "bicubic"])
def test_constants_stay(kernel):
    operator = downsampling(kernel, 3)
    y = operator.forward(torch.ones(2, 3, 24, 36))
    torch.testing.assert_close(y, torch.ones(2, 3, 8, 12))


@pytest.mark.parametrize("kernel", ["average", "bicubic"])
def test_the_image_of_a_measurement_measures_the_same(x, kernel):
    """A A† y = y, and A† A is an orthogonal projection."""
    operator = downsampling(kernel, 2)
    y = operator.forward(x)
    torch.testing.assert_close(operator.forward(operator.as_image(y)), y, atol=1e-5, rtol=1e-5)
    restored = downsampling(kernel, 2, restored=True)
    brought_back = restored.forward(x)
    torch.testing.assert_close(brought_back, operator.as_image(y), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(restored.forward(brought_back), brought_back, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(restored.adjoint(x), restored.forward(x), atol=1e-5, rtol=1e-5)


def test_tweedie_needs_white_noise(x, generator):
    """A† of noise is correlated; the restored measurement's noise is white as it is."""
    sigma = torch.tensor([0.1, 0.2])
    operator = downsampling("average", 2)
    with pytest.raises(UsageError, match="restored: true"):
        operator.whitened_image(operator.forward(x), sigma, generator)
    restored = downsampling("average", 2, restored=True)
    y = restored.forward(x)
    image, level = restored.whitened_image(y, sigma, generator)
    assert image is y
    assert torch.equal(level, sigma)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="10 x 9 pixels do not divide by factor 2; crop"):
        make_corruption({"name": "super-resolution", "factor": 2}, (1, 10, 9))
