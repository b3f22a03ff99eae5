"""Multi-coil MRI against sigpy, closed forms and golden numbers."""

import numpy as np
import pytest
import torch
from gpu import needs_gpu

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.operators import MultiCoilMRI
from mrigen.tensors import randn_like


@pytest.fixture
def scan(data):
    case = np.load(data / "golden" / "ambient_loss.npz")
    return {name: torch.from_numpy(case[name]) for name in case.files}


def test_parity_with_sigpy():
    import sigpy.mri

    rng = np.random.default_rng(0)
    maps = (rng.standard_normal((5, 18, 21)) + 1j * rng.standard_normal((5, 18, 21))).astype(np.complex64)
    x = (rng.standard_normal((18, 21)) + 1j * rng.standard_normal((18, 21))).astype(np.complex64)
    mask = rng.random(21) < 0.4
    weights = np.broadcast_to(mask, (18, 21)).astype(np.float32)
    theirs = sigpy.mri.linop.Sense(maps, weights=weights)
    ours = MultiCoilMRI(torch.from_numpy(maps)[None], torch.from_numpy(mask)[None, None, None])
    image = torch.from_numpy(x)[None, None]

    def close(a, b):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)

    close(ours.forward(image)[0].numpy(), theirs(x))
    y = theirs(x)
    close(ours.adjoint(torch.from_numpy(y)[None])[0, 0].numpy(), theirs.H(y))
    close(ours.normal(image)[0, 0].numpy(), theirs.N(x))


def test_normal_operator_of_the_released_code(scan):
    """The uncentred transform with checkerboarded maps equals the centred normal operator."""
    operator = MultiCoilMRI(scan["maps"][None], scan["mask"].bool()[None, None, None])
    ours = operator.normal(scan["image"][None, None])[0, 0]
    torch.testing.assert_close(
        ours, scan["normal_A"], rtol=0, atol=1e-5 * float(scan["normal_A"].abs().max())
    )


def test_full_mask_and_unit_maps_measure_everything(generator):
    maps = torch.randn(2, 3, 8, 7, dtype=torch.complex128, generator=generator)
    maps /= maps.abs().square().sum(1, keepdim=True).sqrt()
    operator = MultiCoilMRI(maps, torch.ones(1, 1, 1, 7, dtype=torch.bool))
    x = randn_like(operator.zero_image(), generator)
    torch.testing.assert_close(operator.normal(x), x)


def test_nothing_is_visible_where_no_coil_sees(generator):
    maps = randn_like(torch.zeros(1, 3, 4, 4, dtype=torch.complex64), generator)
    maps[0, :, 0, 1], maps[0, :2, 2, 3] = 0, 0  # no coil, and one
    x = randn_like(torch.zeros(2, 1, 4, 4, dtype=torch.complex64), generator)
    expected = x.clone()
    expected[:, 0, 0, 1] = 0
    assert torch.equal(
        MultiCoilMRI(maps, torch.ones(1, 1, 1, 4, dtype=torch.bool)).within_support(x), expected
    )


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_norm_bound_of_smooth_maps(scale, generator):
    """Σ|S|² = scale², a quarter of the lines with the centre: between the true norm and 1.5 times it."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 10), torch.linspace(-1, 1, 12), indexing="ij")
    centres = [(-1.5, 0.0), (1.5, 0.5), (0.0, -1.5), (0.3, 1.5)]
    size = torch.stack([(-((rows - r) ** 2 + (columns - c) ** 2) / 2).exp() for r, c in centres])
    maps = torch.polar(size, torch.arange(4.0)[:, None, None] * rows).to(torch.complex128)
    maps = scale * maps / maps.abs().square().sum(0).sqrt()
    mask = torch.zeros(2, 1, 1, 12, dtype=torch.bool)
    mask[..., 5:8] = True
    operator = MultiCoilMRI(maps[None], mask)
    v = randn_like(operator.zero_image(), generator).expand(2, -1, -1, -1)
    for _ in range(500):
        v = operator.normal(v)
        largest = v.flatten(1).norm(dim=1)
        v = v / largest[:, None, None, None]
    bound = operator.norm_bound()
    torch.testing.assert_close(bound, torch.full((2,), scale**2, dtype=torch.float64))
    assert (bound >= largest * (1 - 1e-6)).all()
    assert (bound <= 1.5 * largest).all()


def test_adjoint_ignores_what_the_operator_does_not_measure(generator):
    operator = MultiCoilMRI.example()
    y = randn_like(operator.forward(operator.zero_image()), generator)
    torch.testing.assert_close(operator.adjoint(y), operator.adjoint(y * operator.mask))


@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 12, 9)])
def test_line_and_point_masks_agree(shape, generator):
    """A line mask written out over the readout gives the same operator."""
    lines = MultiCoilMRI.example()
    same = lines.with_mask(lines.mask.expand(2, *shape))
    x = randn_like(lines.zero_image(), generator)
    torch.testing.assert_close(lines.normal(x), same.normal(x))


@pytest.mark.parametrize("width", [8, 9])
def test_fourier_transform_of_a_plane_wave(width):
    """The centred transform of exp(2πi f (n - n//2)/N) is a single point at f from the centre."""
    n = torch.arange(width, dtype=torch.float64) - width // 2
    for frequency in (-2, 0, 3):
        wave = torch.exp(2j * torch.pi * frequency * n / width).expand(4, width)
        k = fourier.fft(wave, (-1,))
        expected = torch.zeros(4, width, dtype=torch.complex128)
        expected[:, width // 2 + frequency] = width**0.5
        torch.testing.assert_close(k, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [(6, 5), (7, 8)])
def test_fourier_transform_is_unitary_and_inverts(size, generator):
    x = torch.randn(size, dtype=torch.complex128, generator=generator)
    k = fourier.fft(x)
    torch.testing.assert_close(fourier.ifft(k), x)
    torch.testing.assert_close(k.abs().square().sum(), x.abs().square().sum())


@pytest.mark.parametrize("width", [8, 9])
def test_projection_needs_no_shift_of_the_image(width, generator):
    x = torch.randn(3, 4, width, dtype=torch.complex128, generator=generator)
    mask = torch.rand(3, 1, width, generator=generator) < 0.5
    seen = fourier.response(mask, (-1,), torch.float64)
    torch.testing.assert_close(
        fourier.project(x, seen, (-1,)), fourier.ifft(fourier.fft(x, (-1,)) * mask, (-1,))
    )


@pytest.mark.parametrize(
    ("maps", "mask"), [((8, 8), (1, 1, 1, 8)), ((1, 3, 8, 8), (2, 8)), ((1, 3, 8, 8), (1, 1, 1, 7))]
)
def test_shapes_that_do_not_fit_are_refused(maps, mask):
    with pytest.raises(UsageError, match="must be"):
        MultiCoilMRI(torch.zeros(maps, dtype=torch.complex64), torch.ones(mask, dtype=torch.bool))


@needs_gpu
@pytest.mark.parametrize("height", [1, 18])
def test_normal_operator_on_a_gpu(generator, height):
    """Lines and points: the product and its gradient are those of the CPU."""
    maps = torch.randn(2, 5, 18, 21, dtype=torch.complex64, generator=generator)
    operator = MultiCoilMRI(maps, torch.rand(2, 1, height, 21, generator=generator) < 0.4)
    found = []
    for device in ("cpu", "cuda"):
        there = operator.to(device=device)
        x = randn_like(operator.zero_image(), torch.Generator().manual_seed(4)).to(device).requires_grad_()
        product = there.normal(x)
        gradient = torch.autograd.grad(product.abs().square().sum(), x)[0]
        found.append([product.detach().cpu(), gradient.cpu()])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
