"""Augmentation: labels say exactly what was done, and without a label nothing was."""

import pytest
import torch

from mrigen.denoiser import to_channels
from mrigen.diffusion.augment import Augmentation, affine
from mrigen.errors import UsageError
from mrigen.operators.corruption import make_corruption


def smooth(positions):
    """A soft, asymmetric shape as a function of positions (..., 2), x and y in pixels from the centre."""
    x, y = positions.unbind(-1)
    return torch.exp(-((x - 3) ** 2 / 30 + (y + 2) ** 2 / 12)) + 0.5 * torch.exp(-((x + 4) ** 2 + y**2) / 14)


def grid(size):
    line = torch.arange(size) - (size - 1) / 2
    return torch.stack([line.expand(size, size), line[:, None].expand(size, size)], -1)


def turn(angle):
    return torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])


def inverse_of_label(label, size, sign):
    """Where the value at a position of the transformed image came from: p ↦ M p + m, from one label.

    EDM's labels w (cos r, sin r) of a stretch by w along r are those of a stretch by −w along r + π:
    ``sign`` chooses.
    """
    flip_x, flip_y, scale, cos, sin, along, across, shift_x, shift_y = label.unbind()
    tilt, strength = torch.atan2(across, along), torch.hypot(along, across)
    stretch = (0.2 * sign * strength).exp2()
    matrix = torch.eye(2) / (0.2 * scale).exp2() @ turn(-torch.atan2(sin, cos + 1))
    matrix = matrix @ turn(-tilt) @ torch.diag(torch.stack([1 / stretch, stretch])) @ turn(tilt)
    mirror = torch.diag(1 - 2 * torch.stack([flip_x, flip_y]))
    shift = torch.stack([shift_x, shift_y]) * 0.125 * size
    return mirror @ matrix, mirror @ matrix @ -shift


def test_labels_tell_the_transform():
    """The transformed image of a smooth function is that function at the labels' positions."""
    size, batch = 32, 64
    images = smooth(grid(size)).expand(batch, 1, size, size)
    generator = torch.Generator().manual_seed(3)
    moved, labels = Augmentation(0.5)(images, generator)
    assert labels.shape == (batch, 9)
    assert (labels[:, 2:] != 0).any(0).all()
    checked = 0
    for image, label in zip(moved[:, 0], labels, strict=True):
        errors, shown = [], 0.0
        for sign in (1, -1):
            matrix, shift = inverse_of_label(label, size, sign)
            source = grid(size) @ matrix.mT + shift
            inside = source.abs().amax(-1) < size / 2 - 1  # beyond the edge the image is mirrored
            errors.append((image - smooth(source))[inside].abs().max())
            shown = float(inside.float().mean())
        if shown > 0.5:
            checked += 1
            assert min(errors) < 0.04  # the filter is centred to within 0.05 pixels
    assert checked > 40


def test_label_zero_is_the_image_itself(generator):
    images = torch.randn(400, 2, 8, 8, generator=generator)
    moved, labels = Augmentation(0.15)(images, generator)
    untouched = (labels == 0).all(1)
    assert torch.equal(moved[untouched], images[untouched])
    assert not any(torch.equal(a, b) for a, b in zip(moved[~untouched], images[~untouched], strict=True))
    share = 0.5 * (1 - 0.075) * 0.85**4
    assert float(untouched.float().mean()) == pytest.approx(share, abs=0.08)


def test_without_further_transforms_only_the_mirror_along_x_remains(generator):
    images = torch.randn(200, 1, 6, 4, generator=generator)
    moved, labels = Augmentation(0.0)(images, generator)
    flipped = labels[:, 0] == 1
    assert 60 < int(flipped.sum()) < 140
    assert not labels[:, 1:].any()
    assert torch.equal(moved[flipped], images[flipped].flip(-1))
    assert torch.equal(moved[~flipped], images[~flipped])


def test_constant_images_stay_constant(generator):
    """Neither brightness nor the frame leaks: the mean over transforms of a constant is the constant."""
    images = torch.full((64, 3, 8, 8), 0.7)
    moved, _ = Augmentation(1.0)(images, generator)
    torch.testing.assert_close(moved, images)


def test_resampling_undoes_itself(generator):
    images = torch.randn(2, 3, 9, 7, generator=generator)
    identity = torch.eye(3).expand(2, 3, 3)
    torch.testing.assert_close(affine(images, identity), images, atol=1e-5, rtol=0)


def test_whole_pixels_are_shifted_exactly(generator):
    images = torch.randn(1, 1, 16, 16, generator=generator)
    """Also beyond the edge, about which the image is mirrored."""
    shift = torch.eye(3)[None].clone()
    shift[0, 0, 2] = -3  # the value three pixels to the left
    expected = torch.nn.functional.pad(images, (3, 0, 0, 0), mode="reflect")[..., :-3]
    torch.testing.assert_close(affine(images, shift), expected, atol=1e-5, rtol=0)


def test_real_and_imaginary_parts_move_together(generator):
    images = torch.randn(8, 1, 8, 8, dtype=torch.complex64, generator=generator)
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    moved, labels = Augmentation(0.5)(images, seeds[0])
    channels, same = Augmentation(0.5)(to_channels(images), seeds[1])
    assert torch.equal(labels, same)
    assert torch.equal(to_channels(moved), channels)


@pytest.mark.parametrize("operator", [{"name": "inpainting"}, {"name": "gaussian-blur", "size": 3}])
def test_mirrored_measurements_are_those_of_mirrored_images(operator, generator):
    """y and A of the mirrored image belong together: A' x' = y'."""
    corruption = make_corruption(operator, (2, 6, 5))
    x = torch.randn(32, 2, 6, 5, generator=generator)
    batch = corruption.measure(x, generator)
    mirrored = Augmentation(1.0).mirror(batch, generator)
    flips = mirrored.augment[:, :2].bool()
    for axis, which in ((-1, flips[:, 0]), (-2, flips[:, 1])):
        x = torch.where(which.view(-1, 1, 1, 1), x.flip(axis), x)
    assert flips.any(0).all()
    assert not flips.all(0).any()
    torch.testing.assert_close(mirrored.operator.forward(x), mirrored.y)
    assert not mirrored.augment[:, 2:].any()


def test_tiny_images_are_refused(generator):
    with pytest.raises(UsageError, match="too small to be augmented"):
        Augmentation(1.0)(torch.zeros(4, 2, 1, 1), generator)
