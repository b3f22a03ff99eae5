"""Blurs against scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from mrigen.errors import UsageError
from mrigen.operators.blur import Blur, gaussian_kernel, motion_kernel
from mrigen.operators.corruption import make_corruption


@pytest.mark.parametrize("size", [(11, 14), (9, 9), (5, 3)])
@pytest.mark.parametrize("kernel", [(9, 5), (1, 3), (3, 1), (3, 3), (5, 5)])
def test_convolution_is_scipys_with_mirror_edges(size, kernel, generator):
    """Kernels without symmetry, up to the widest that the image can hold."""
    if kernel[0] // 2 >= size[0] or kernel[1] // 2 >= size[1]:
        with pytest.raises(ValueError, match="reaches beyond"):
            Blur(torch.zeros(1, 1, *kernel), torch.zeros(1, 1, *size))
        return
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=generator)
    k = torch.randn(2, 3, *kernel, dtype=torch.float64, generator=generator)
    ours = Blur(k, torch.zeros_like(x)).forward(x)
    for b in range(2):
        for c in range(3):
            theirs = ndimage.convolve(x[b, c].numpy(), k[b, c].numpy(), mode="mirror")
            np.testing.assert_allclose(ours[b, c].numpy(), theirs, atol=1e-12)


def test_gaussian_blur_is_scipys(generator):
    """9 x 9 and σ_G = 2 pixels, the papers' blur: scipy truncates at radius 4 = 2 σ_G."""
    corruption = make_corruption({"name": "gaussian-blur"}, (3, 20, 17))
    x = torch.randn(2, 3, 20, 17, generator=generator)
    ours = corruption.draw(2, generator).forward(x)
    theirs = ndimage.gaussian_filter(x.double().numpy(), (0, 0, 2, 2), mode="mirror", truncate=2.0)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-6)


def test_gaussian_kernel_is_that_of_the_closed_form():
    kernel = gaussian_kernel(9, 2.0).double()
    assert kernel.shape == (9, 9)
    torch.testing.assert_close(kernel.sum(), torch.tensor(1.0, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        kernel[4, 4] / kernel[2, 7], torch.tensor(np.exp((4 + 9) / 8)), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("name", ["gaussian-blur", "motion-blur"])
def test_a_constant_stays_and_so_does_the_mean_seen_by_the_adjoint(name, generator):
    """Kernels sum to 1: A 1 = 1, and so Σ Aᵀ y = Σ y."""
    operator = make_corruption({"name": name}, (1, 21, 18)).draw(4, generator)
    ones = torch.ones(4, 1, 21, 18)
    torch.testing.assert_close(operator.forward(ones), ones)
    y = torch.randn(ones.shape, generator=generator)
    torch.testing.assert_close(operator.adjoint(y).sum((1, 2, 3)), y.sum((1, 2, 3)), atol=1e-4, rtol=1e-4)


def test_an_impulse_shows_the_kernel_and_the_adjoint_its_mirror_image(generator):
    kernel = torch.randn(1, 1, 5, 3, generator=generator)
    operator = Blur(kernel, torch.zeros(1, 1, 15, 15))
    impulse = torch.zeros(1, 1, 15, 15)
    impulse[0, 0, 7, 7] = 1
    torch.testing.assert_close(operator.forward(impulse)[..., 5:10, 6:9], kernel)
    torch.testing.assert_close(operator.adjoint(impulse)[..., 5:10, 6:9], kernel.flip((-2, -1)))


@pytest.mark.parametrize(
    ("length", "angle"), [(7.0, 0.0), (7.0, 90.0), (4.5, 30.0), (9.0, 135.0), (0.2, 77.0)]
)
def test_motion_kernels_are_lines(length, angle):
    """Sum 1, centre of mass 0; variance length²/12 along the line plus that of the interpolation.

    A triangle of bilinear interpolation at offset f from the grid has variance f (1 − f), at most ¼.
    """
    kernel = motion_kernel(torch.tensor([length]), torch.tensor([angle]), 6)[0, 0].double()
    assert (kernel >= 0).all()
    offset = torch.arange(-6, 7, dtype=torch.float64)
    rows, columns = kernel.sum(1), kernel.sum(0)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    for line in (rows, columns):
        assert float((line * offset).sum()) == pytest.approx(0, abs=1e-6)
    radians = np.deg2rad(angle)
    for line, share in ((rows, np.sin(radians)), (columns, np.cos(radians))):
        extra = float((line * offset**2).sum()) - (length * share) ** 2 / 12
        assert -1e-3 <= extra <= 0.25 + 1e-3
    mixed = float((kernel * offset[:, None] * offset).sum())
    expected = -(length**2) / 12 * np.sin(radians) * np.cos(radians)
    assert mixed == pytest.approx(expected, abs=0.01)


def test_a_horizontal_movement_of_odd_length_is_a_box_with_half_ends():
    """∫ tri over a movement of 5 pixels: 1/5 inside, with ends of what the triangle leaves over."""
    kernel = motion_kernel(torch.tensor([5.0]), torch.tensor([0.0]), 3)[0, 0]
    assert not kernel[torch.arange(7) != 3].any()
    expected = torch.tensor([0.125, 0.875, 1, 1, 1, 0.875, 0.125]) / 5
    torch.testing.assert_close(kernel[3], expected, atol=2e-4, rtol=0)


def test_random_movements_have_the_asked_lengths_and_angles(generator):
    corruption = make_corruption({"name": "motion-blur", "length": [3, 9], "angle": [0, 180]}, (1, 32, 32))
    kernels = corruption.draw(500, generator).kernel[:, 0].double()
    offset = torch.arange(kernels.shape[-1], dtype=torch.float64) - kernels.shape[-1] // 2
    spread = (kernels * (offset[:, None] ** 2 + offset**2)).sum((1, 2))
    mean = (9**3 - 3**3) / (3 * 6) / 12
    assert mean < spread.mean() < mean + 0.5
    directions = (kernels * offset[:, None] * offset).sum((1, 2))
    assert abs((directions > 0).double().mean() - 0.5) < 0.1


def test_kernels_from_a_file_and_from_a_recipe_are_the_same(tmp_path, generator):
    rows = [[1.0, 2, 0], [0, 3, 1], [5, 0, 0]]
    np.save(tmp_path / "kernel.npy", np.array(rows))
    x = torch.randn(1, 1, 8, 9, generator=generator)
    made = [
        make_corruption({"name": "blur", "kernel": kernel}, (1, 8, 9)).draw(1, generator).forward(x)
        for kernel in (rows, str(tmp_path / "kernel.npy"))
    ]
    assert torch.equal(*made)
    expected = ndimage.convolve(x[0, 0].numpy(), np.array(rows) / 12, mode="mirror")
    np.testing.assert_allclose(made[0][0, 0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "gaussian-blur", "size": 8}, "size 8 must be odd; take 9"),
        ({"name": "gaussian-blur", "std": 0}, "std: .*greater than 0"),
        ({"name": "gaussian-blur", "size": 65}, "too wide for images of 32 x 32"),
        ({"name": "motion-blur", "length": 90}, "too wide for images of 32 x 32"),
        ({"name": "motion-blur", "length": [9, 3]}, "the lower first"),
        ({"name": "motion-blur", "length": -1}, "must be positive"),
        ({"name": "blur", "kernel": [[1, 2]]}, "odd numbers of rows and columns"),
        ({"name": "blur", "kernel": [[1, 2, 3], [1]]}, "rows of equal length"),
        ({"name": "blur", "kernel": [[1, -2, 1]]}, "cannot be normalised"),
        ({"name": "blur", "kernel": [[0]]}, "only zeros"),
        ({"name": "blur", "kernel": "nowhere/kernel.npy"}, "nowhere/kernel.npy: No such file"),
    ],
)
def test_impossible_blurs_are_refused_in_one_line(spec, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_corruption(spec, (3, 32, 32))
    assert "\n" not in str(caught.value)
