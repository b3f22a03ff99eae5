"""Acquired lines, retrospective masks, the scanner's own masks."""

from functools import partial

import pytest
import torch

from mrigen.errors import UsageError
from mrigen.operators.masks import MASKS
from mrigen.prep.kspace.sampling import acquired_lines, after_crop, measured, retrospective
from mrigen.seeds import seeded_rng

RANDOM = partial(seeded_rng, 0, "volume")


def between(width, left, right):
    index = torch.arange(width)
    return (index >= left) & (index < right)


def test_zero_edges_and_header_edges_are_not_acquired():
    seen = between(20, 2, 19)
    assert torch.equal(acquired_lines(seen, None), seen)
    assert torch.equal(acquired_lines(seen, (4, 20)), between(20, 4, 19))


def test_a_gap_is_an_undersampled_file_without_a_mask():
    seen = between(20, 2, 19)
    seen[5] = seen[8] = False
    with pytest.raises(UsageError, match=r"2 lines of kspace \(the first is 5\)"):
        acquired_lines(seen, None)


def test_no_data_and_no_dc():
    with pytest.raises(UsageError, match="zero"):
        acquired_lines(between(20, 0, 0), None)
    with pytest.raises(UsageError, match="DC"):
        acquired_lines(between(20, 11, 20), None)


@pytest.mark.parametrize(("before", "after"), [(40, 32), (41, 32), (40, 31), (41, 31), (33, 33)])
def test_a_crop_keeps_the_acquired_frequencies(before, after):
    """A line of the cropped image is acquired when its frequency lies within the acquired band."""
    acquired = between(before, 5, before - 3)
    low, high = (5 - before // 2) / before, (before - 4 - before // 2) / before
    expected = torch.tensor([low <= (j - after // 2) / after <= high for j in range(after)])
    assert torch.equal(after_crop(acquired, after), expected)


@pytest.mark.parametrize("before", [40, 41])
def test_a_crop_of_fully_acquired_lines_is_fully_acquired(before):
    everything = torch.ones(before, dtype=torch.bool)
    assert all(after_crop(everything, after).all() for after in range(8, before + 1))


@pytest.mark.parametrize("width", [40, 41])
def test_masks_depend_on_seed_volume_and_slice_alone(width):
    law = MASKS.build({"name": "exact-random", "acceleration": 4, "acs_lines": 4})
    acquired = between(width, 2, width - 3)
    some = retrospective(law, acquired, 32, [3, 5], RANDOM, further=True)
    all_ = retrospective(law, acquired, 32, [1, 3, 4, 5], RANDOM, further=True)
    assert torch.equal(some.masks, all_.masks[[1, 3]])
    assert torch.equal(some.further, all_.further[[1, 3]])
    assert not torch.equal(all_.masks[0], all_.masks[1])
    other = retrospective(law, acquired, 32, [3, 5], partial(seeded_rng, 0, "other"), further=False)
    assert not torch.equal(other.masks, some.masks)
    assert some.masks.shape == (2, 1, width)
    assert (some.masks.sum((1, 2)) == int(acquired.sum()) // 4).all()
    assert (some.masks <= acquired).all()
    assert (some.further <= some.masks).all()
    assert (some.further.sum((1, 2)) < some.masks.sum((1, 2))).all()
    assert some.further[..., some.acs[1]].all()
    assert some.acs_lines == 4
    assert some.acs_mask.shape == (1, width)
    assert some.acs_mask.sum() == 4
    assert some.acs_mask[0, width // 2]


@pytest.mark.parametrize(("width", "lines"), [(20, 6), (20, 5), (21, 6), (21, 5)])
def test_the_centre_of_the_scanners_lines_is_found(width, lines):
    first = (width - lines + 1) // 2
    mask = between(width, first, first + lines)
    mask[1] = True
    found = measured(
        mask.expand(2, 1, -1), torch.ones(width, dtype=torch.bool), [0, 7], RANDOM, further=False
    )
    assert found.acs == (slice(None), slice(first, first + lines))
    assert torch.equal(found.masks, mask.expand(2, 1, -1))


def test_the_centre_of_the_scanners_points_is_found():
    mask = torch.zeros(30, 21, dtype=torch.bool)
    mask[11:20, 7:16] = True  # more than the 8 x 8 block around (15, 10)
    mask[0, 0] = True
    found = measured(mask[None], torch.ones(21, dtype=torch.bool), [0], RANDOM, further=True)
    assert found.acs == (slice(11, 19), slice(7, 15))
    assert found.acs_mask.sum() == 64
    assert found.acs_mask[15, 10]
    assert found.further[0][found.acs].all()


def test_masks_without_a_centre_or_without_gaps_are_refused():
    everything = torch.ones(20, dtype=torch.bool)
    with pytest.raises(UsageError, match="centre"):
        measured(between(20, 0, 5)[None, None], everything, [0], RANDOM, further=False)
    with pytest.raises(UsageError, match="leaves nothing out"):
        measured(everything[None, None], everything, [0], RANDOM, further=False)
