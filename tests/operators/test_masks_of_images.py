"""Missing pixels and single-coil Fourier masks: what is measured, and how often."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import sigpy.linop
import torch
from scipy.spatial import cKDTree

from mrigen.errors import UsageError
from mrigen.operators.corruption import make_corruption
from mrigen.operators.masks.base import centred
from mrigen.operators.masks.points import throw
from mrigen.tensors import randn_like


@pytest.mark.parametrize("per_channel", [False, True])
def test_pixels_are_missing_with_probability_p(per_channel, generator):
    corruption = make_corruption(
        {"name": "inpainting", "missing": 0.8, "further_missing": 0.1, "per_channel": per_channel},
        (3, 40, 30),
    )
    operator = corruption.draw(20, generator)
    share = operator.mask.double().mean()
    assert abs(share - 0.2) < 5 * (0.16 / operator.mask.numel()) ** 0.5
    further = corruption.corrupt_further(operator, generator)
    kept = further.mask[operator.mask].double().mean()
    assert abs(kept - 0.9) < 5 * (0.09 / operator.mask.sum()) ** 0.5
    y = operator.forward(torch.ones(20, 3, 40, 30))
    same = bool((y[:, :1] == y).all())
    assert same != per_channel


def test_white_images_of_masked_ones_have_noise_everywhere(generator):
    """Missing pixels get noise of the same σ, measured ones keep theirs."""
    operator = make_corruption({"name": "inpainting"}, (1, 60, 60)).draw(2, generator)
    sigma = torch.tensor([0.3, 0.6])
    zero = torch.zeros(2, 1, 60, 60)
    y = operator.noise(zero, sigma, generator)
    image, level = operator.whitened_image(y, sigma, generator)
    assert torch.equal(level, sigma)
    assert torch.equal(image[operator.mask], y[operator.mask])
    assert ((image.flatten(1).std(1) / sigma - 1).abs() < 0.06).all()


@pytest.mark.parametrize("name", ["missing-box", "kept-patch"])
def test_boxes_have_their_size_and_lie_anywhere(name, generator):
    operator = make_corruption({"name": name, "size": [3, 5]}, (2, 8, 11)).draw(4000, generator)
    box = operator.mask if name == "kept-patch" else ~operator.mask
    assert set(box.sum((1, 2, 3)).tolist()) == {15}
    assert set(box.any(3).sum((1, 2)).tolist()) == {3}
    assert set(box.any(2).sum((1, 2)).tolist()) == {5}
    first = box.any(3)[:, 0].float().argmax(1)
    law = torch.full((6,), 1 / 6)
    if name == "missing-box":
        pairs = places_apart((3, 5), (8, 11))
        law = torch.bincount(torch.tensor([one[0] for one, _ in pairs])) / len(pairs)
    torch.testing.assert_close(torch.bincount(first) / 4000, law, atol=0.03, rtol=0)


def places_apart(size, image):
    """All ordered pairs of places (row, column) at which boxes lie in the image without overlapping."""
    places = list(product(*(range(length - side + 1) for side, length in zip(size, image, strict=True))))
    return [
        (a, b)
        for a in places
        for b in places
        if any(abs(i - j) >= side for i, j, side in zip(a, b, size, strict=True))
    ]


def test_a_box_in_the_centre_is_there(generator):
    mask = (
        make_corruption({"name": "missing-box", "size": 2, "position": "centre"}, (1, 6, 8))
        .draw(1, generator)
        .mask
    )
    assert (~mask).nonzero().tolist() == [[0, 0, r, c] for r in (2, 3) for c in (3, 4)]


@pytest.mark.parametrize(
    ("size", "image"), [([2, 2], [4, 4]), ([2, 3], [5, 6]), ([1, 2], [2, 5]), ([3, 2], [4, 4])]
)
def test_the_missing_box_and_the_further_one_are_exchangeable(size, image, generator):
    """All ordered pairs are equally likely, so that given both either is the missing one half of the time."""
    draws = 60_000
    corruption = make_corruption({"name": "missing-box", "size": size}, (1, *image))
    operator = corruption.draw(draws, generator)
    hidden = operator.mask & ~corruption.corrupt_further(operator, generator).mask
    pairs = torch.stack([first_pixel(~operator.mask), first_pixel(hidden)], 1)
    expected = places_apart(size, image)
    found, counts = torch.unique(pairs.flatten(1), dim=0, return_counts=True)
    assert {tuple(row) for row in found.tolist()} == {(*a, *b) for a, b in expected}
    mean = draws / len(expected)
    assert (counts - mean).abs().max() < 5 * mean**0.5


@pytest.mark.parametrize(("size", "image"), [([2, 2], [4, 4]), ([2, 3], [5, 6])])
def test_half_of_what_both_boxes_hide_was_measured(size, image, generator):
    """E[AᵀA | Ã] is ½ in the two boxes and 1 elsewhere, for every Ã."""
    corruption = make_corruption({"name": "missing-box", "size": size}, (1, *image))
    assert corruption.ambient_obstacle == ""
    operator = corruption.draw(60_000, generator)
    further = corruption.corrupt_further(operator, generator).mask
    assert (operator.mask[further]).all()
    masks, group, counts = torch.unique(further.flatten(1), dim=0, return_inverse=True, return_counts=True)
    measured = torch.zeros(masks.shape).index_add_(0, group, operator.mask.flatten(1).float())
    share = measured / counts[:, None]
    assert len(masks) == len(places_apart(size, image)) / 2
    assert (share[masks] == 1).all()
    assert ((share - 0.5).abs()[~masks] < (2.5 / counts**0.5)[:, None].expand(masks.shape)[~masks]).all()


def first_pixel(box):
    """Row and column (B, 2) at which boxes (B, 1, H, W) begin."""
    return torch.stack([box.any(3)[:, 0].float().argmax(1), box.any(2)[:, 0].float().argmax(1)], 1)


def test_a_box_of_an_older_store_without_a_partner_is_refused(generator):
    corruption = make_corruption({"name": "missing-box", "size": 4}, (1, 8, 8))
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 2:6, 2:6] = False
    with pytest.raises(UsageError, match="no room for a second one beside it; prepare the data again"):
        corruption.corrupt_further(replace(corruption.draw(1, generator), mask=mask), generator)


@pytest.mark.parametrize("image", ["real", "complex"])
@pytest.mark.parametrize("name", ["fourier-lines", "fourier-points", "fourier-poisson"])
def test_single_coil_masks_are_sigpys(name, image, generator):
    """M F x by sigpy's linops; the adjoint of real images is the real part of Fᴴ M y."""
    spec = {"name": name, "image": image}
    spec |= {} if name == "fourier-lines" else {"acceleration": 3, "centre": 4}
    operator = make_corruption(spec, (1, 24, 25)).draw(2, generator)
    x = randn_like(operator.zero_image(), generator)
    y = operator.forward(x)
    other = randn_like(y, generator)
    for i in range(2):
        mask = operator.mask[i, 0].numpy()
        theirs = sigpy.linop.Multiply((24, 25), mask) * sigpy.linop.FFT((24, 25))
        np.testing.assert_allclose(y[i, 0].numpy(), theirs(x[i, 0].numpy()), atol=1e-5)
        back = theirs.H(other[i, 0].numpy())
        expected = back.real if image == "real" else back
        np.testing.assert_allclose(operator.adjoint(other)[i, 0].numpy(), expected, atol=1e-5)


def test_lines_follow_the_mask_law(generator):
    spec = {"name": "fourier-lines", "mask": {"name": "exact-random", "acceleration": 4, "acs_lines": 4}}
    corruption = make_corruption(spec, (1, 10, 33))
    operator = corruption.draw(30, generator)
    assert operator.mask.shape == (30, 1, 1, 33)
    assert set(operator.mask.sum(-1).flatten().tolist()) == {8}
    further = corruption.corrupt_further(operator, generator)
    assert further.mask[..., centred(33, 4)].all()
    assert not (further.mask & ~operator.mask).any()


def test_thrown_points_keep_their_distances_and_leave_no_gap(generator):
    """No kept point within the radius of one kept before; every free point within one's radius."""
    rows, columns = np.mgrid[:40, :31]
    radius = 1 + np.hypot(rows - 20, columns - 15) / 5
    free = (rows + columns) % 7 != 0
    order = torch.randperm(40 * 31, generator=generator).numpy()
    kept = np.array(throw(radius, free, order))
    points = np.stack([kept // 31, kept % 31], 1)
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    first, second = np.tril_indices(len(kept), -1)[::-1]
    assert (apart[first, second] >= radius.ravel()[kept[first]]).all()
    assert free.ravel()[kept].all()
    every = np.stack([rows.ravel(), columns.ravel()], 1)
    to_kept = np.hypot(*(every[:, None] - points[None]).transpose(2, 0, 1))
    assert (to_kept < radius.ravel()[kept]).any(1)[free.ravel()].all()


def test_poisson_disc_points_keep_their_distance_and_their_budget(generator):
    """Points of the outer k-space are 2.8 apart or more; as many uniform ones are not."""
    nearest = {}
    for name in ("poisson", "points"):
        spec = {"name": f"fourier-{name}", "acceleration": 8, "centre": 8}
        operator = make_corruption(spec, (1, 64, 64)).draw(4, generator)
        assert set(operator.mask.sum((1, 2, 3)).tolist()) == {512}
        assert operator.mask[..., 28:36, 28:36].all()
        nearest[name] = []
        for mask in operator.mask[:, 0].numpy():
            points = np.argwhere(mask)
            outer = points[np.linalg.norm(points - 32, axis=1) > 26]
            nearest[name].append(cKDTree(points).query(outer, k=2)[0][:, 1].min())
    assert min(nearest["poisson"]) > 2.8
    assert max(nearest["points"]) <= 2


@pytest.mark.parametrize("crop", [True, False])
def test_poisson_disc_patterns_reach_the_corners_if_asked(crop, generator):
    spec = {"name": "fourier-poisson", "acceleration": 3, "centre": 4, "crop_corner": crop}
    mask = make_corruption(spec, (1, 30, 41)).draw(8, generator).mask
    rows, columns = ((torch.arange(n) - n // 2) / (n / 2) for n in (30, 41))
    corners = rows[:, None] ** 2 + columns**2 >= 1
    assert bool(mask[:, 0, corners].any()) != crop


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "inpainting", "missing": 1.0}, "missing: .*less than 1"),
        ({"name": "missing-box", "size": 40}, "40 x 40 pixels must be smaller than the image of 32 x 32"),
        ({"name": "fourier-points", "acceleration": 20}, "too few for a centre of 8 x 8"),
        ({"name": "fourier-poisson", "acceleration": 1.2}, "set crop_corner: false"),
        ({"name": "fourier-lines", "mask": {"name": "exact-randon"}}, "did you mean 'exact-random'"),
        ({"name": "compressed-sensing", "measurements": 3, "further_drop": 4}, "cannot drop 4 of 3 rows"),
        ({"name": "radial", "arms": 2, "further_drop": 3}, "cannot drop 3 of 2 arms"),
    ],
)
def test_impossible_masks_are_refused_in_one_line(spec, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_corruption(spec, (1, 32, 32))
    assert "\n" not in str(caught.value)
