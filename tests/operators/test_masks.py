"""Mask distributions: budgets, further corruption, admissibility."""

import pytest
import torch

from mrigen.errors import UsageError
from mrigen.operators.masks import MASKS
from mrigen.operators.masks.base import centred, random_subset

DRAWABLE = ["exact-random", "random", "equispaced", "magic"]


def everything(count, width):
    return torch.ones(count, width, dtype=torch.bool)


@pytest.mark.parametrize(
    ("acceleration", "lines", "dropped"), [(2, 160, 54), (4, 80, 16), (6, 53, 8), (8, 40, 5)]
)
def test_the_budgets_of_ambient_mri(acceleration, lines, dropped, generator):
    """W = 320 with 20 ACS lines: lines and dropped lines of the released models."""
    law = MASKS.build({"name": "exact-random", "acceleration": acceleration, "acs_lines": 20})
    mask = law.draw(everything(50, 320), generator)[:, None, None]
    further = law.corrupt_further(mask, generator)
    assert set(mask.sum((1, 2, 3)).tolist()) == {lines}
    assert set((mask & ~further).sum((1, 2, 3)).tolist()) == {dropped}
    assert not (further & ~mask).any()
    acs = centred(320, 20)
    assert mask[..., acs].all()
    assert further[..., acs].all()


def test_every_other_line_is_equally_likely(generator):
    law = MASKS.build({"name": "exact-random", "acceleration": 4, "acs_lines": 4})
    masks = law.draw(everything(20_000, 32), generator)
    frequency = masks.float().mean(0)[~centred(32, 4)]
    expected = 4 / 28
    assert (frequency - expected).abs().max() < 5 * (expected * (1 - expected) / 20_000) ** 0.5


def test_theorem_4_1_holds_for_random_lines_and_fails_for_equispaced(generator):
    """Given the further mask, can a missing line still have been measured?"""
    probability = {}
    for name, count in (("exact-random", 40_000), ("equispaced", 2000)):
        law = MASKS.build({"name": name, "acceleration": 4, "acs_lines": 2, "further_drop": 1})
        mask = law.draw(everything(count, 12), generator)[:, None, None]
        further = law.corrupt_further(mask, generator)[:, 0, 0]
        codes, inverse = torch.unique(further, dim=0, return_inverse=True)
        measured = torch.zeros(len(codes), 12).index_add_(0, inverse, mask[:, 0, 0].float())
        counts = torch.bincount(inverse)
        probability[name] = (measured / counts[:, None])[counts > 200].min().item()
        assert bool(law.ambient_obstacle) == (name == "equispaced")
    assert probability["exact-random"] > 0.05
    assert probability["equispaced"] == 0


def test_an_acceleration_of_1_measures_every_acquired_line(generator):
    acquired = everything(20, 32)
    acquired[:, :5] = False
    law = MASKS.build({"name": "exact-random", "acceleration": 1, "acs_lines": 4})
    assert torch.equal(law.draw(acquired, generator), acquired)


@pytest.mark.parametrize("name", DRAWABLE)
@pytest.mark.parametrize("width", [320, 187])
def test_masks_keep_to_the_acquired_lines_and_the_centre(name, width, generator):
    law = MASKS.build({"name": name, "acceleration": 4, "center_fraction": 0.08})
    acquired = everything(20, width)
    acquired[:, :9] = False
    mask = law.draw(acquired, generator)
    assert not (mask & ~acquired).any()
    centre = centred(width, round(0.08 * width))
    assert mask[:, centre].all()
    assert mask[:, width // 2].all()
    share = mask.sum(1) / acquired.sum(1)
    assert 0.15 < share.float().mean() < 0.35


@pytest.mark.parametrize("name", ["random", "equispaced", "magic"])
def test_same_lines_as_fastmri(name):
    from fastmri.data import subsample

    function = {
        "random": subsample.RandomMaskFunc,
        "equispaced": subsample.EquispacedMaskFractionFunc,
        "magic": subsample.MagicMaskFunc,
    }[name]
    law = MASKS.build({"name": name, "acceleration": 4, "center_fraction": 0.08})
    ours = law.draw(everything(3, 320), torch.Generator().manual_seed(5))
    seeds = torch.randint(2**31 - 1, (3,), generator=torch.Generator().manual_seed(5)).tolist()
    for mask, seed in zip(ours, seeds, strict=True):
        theirs, centre = function([0.08], [4])((1, 320, 2), seed=seed)
        assert torch.equal(mask, theirs.reshape(-1) > 0)
        assert centre == law.params.centre(320)


def test_fastmri_pairs_are_the_default_centre():
    for acceleration, fraction in ((4, 0.08), (8, 0.04)):
        assert MASKS.build({"name": "random", "acceleration": acceleration}).params.centre(320) == round(
            320 * fraction
        )


def test_same_seed_same_mask():
    law = MASKS.build({"name": "exact-random", "acceleration": 4, "acs_lines": 8})
    draws = [law.draw(everything(4, 64), torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_points_of_a_two_dimensional_mask_are_dropped_outside_a_square_centre(generator):
    law = MASKS.build({"name": "measured", "acceleration": 8, "acs_lines": 6})
    mask = torch.rand(3, 1, 40, 30, generator=generator) < 0.2
    square = centred(40, 6)[:, None] & centred(30, 6)
    mask |= square
    further = law.corrupt_further(mask, generator)
    assert not (further & ~mask).any()
    assert further[..., square].all()
    measured = mask.sum((1, 2, 3))
    expected = [int(m) - int(int(m) * 8 / 9) for m in measured]
    assert (measured - further.sum((1, 2, 3))).tolist() == expected


def test_further_with_nothing_to_drop_keeps_the_mask(generator):
    law = MASKS.build({"name": "random", "acceleration": 4, "acs_lines": 8})
    mask = centred(32, 8).view(1, 1, 1, 32)
    assert torch.equal(law.corrupt_further(mask, generator), mask)


def test_random_subset_is_uniform(generator):
    rows = everything(30_000, 5)
    rows[:, 0] = False
    chosen = random_subset(rows, torch.full((30_000,), 2), generator)
    assert set(chosen.sum(1).tolist()) == {2}
    torch.testing.assert_close(chosen.float().mean(0)[1:], torch.full((4,), 0.5), atol=0.015, rtol=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "exact-random", "acceleration": 4, "acs_lines": 8}, "too few for 8 ACS lines"),
        ({"name": "exact-random", "acceleration": 4, "acs_lines": 7}, "drops"),
        ({"name": "magic", "acceleration": 4.5, "acs_lines": 2}, "whole acceleration"),
    ],
)
def test_impossible_budgets_are_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        MASKS.build(spec).check(torch.ones(32, dtype=torch.bool))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "exact-randon"}, "did you mean 'exact-random'"),
        ({"name": "random", "acceleration": 0.5}, "acceleration"),
        ({"name": "random", "acs_lines": 4, "center_fraction": 0.1}, "not both"),
        ({"name": "random", "lines": 4}, "lines: unknown key"),
    ],
)
def test_wrong_specifications_are_named(spec, message):
    with pytest.raises(UsageError, match=message):
        MASKS.build(spec)
