"""Known degradations of the metric ladder, and which numbers rise with them."""

import torch
from benchmarks import metric_ladder
from benchmarks.metric_ladder import LADDERS, Rung

from mrigen import seeds
from mrigen.fourier import fft

SIDE, COUNT = 32, 40


def rung():
    training = torch.full((COUNT, 1, SIDE, SIDE), 7 + 0j)
    return Rung(seeds.seeded_rng(0, "ladder"), training)


def images():
    random = torch.Generator().manual_seed(0)
    return torch.randn(COUNT, 1, SIDE, SIDE, dtype=torch.complex64, generator=random)


def test_the_first_rung_of_a_ladder_changes_nothing_but_the_order():
    before = images()
    order = before[:, 0, 0, 0].real.argsort()
    for name, (degrade, strengths) in LADDERS.items():
        if name != "noise on blur":
            after = degrade(before, strengths[0], rung())
            after = after[after[:, 0, 0, 0].real.argsort()]
            torch.testing.assert_close(after, before[order], atol=1e-5, rtol=0)


def test_noise_has_its_deviation_in_every_real_component():
    noise = metric_ladder.noise(torch.zeros(COUNT, 1, SIDE, SIDE) + 0j, 0.1, rung())
    for part in (noise.real, noise.imag):
        assert abs(float(part.std()) - 0.1) < 0.002
    stronger = metric_ladder.noise(torch.zeros(COUNT, 1, SIDE, SIDE) + 0j, 0.2, rung())
    torch.testing.assert_close(stronger, 2 * noise)


def test_blur_multiplies_the_spectrum_by_a_gaussian_and_keeps_the_mean():
    before = images()
    after = metric_ladder.blur(torch.nn.functional.pad(before[..., 12:20, 12:20], (12,) * 4), 1.0, rung())
    torch.testing.assert_close(after.sum(), before[..., 12:20, 12:20].sum(), atol=1e-3, rtol=0)
    point = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.complex64)
    point[..., 16, 16] = 1
    assert abs(float(metric_ladder.blur(point, 1.0, rung())[0, 0, 16, 16].real) * 2 * torch.pi - 1) < 0.01


def test_lines_of_a_stronger_acceleration_are_among_those_of_a_weaker_one():
    before = images()
    kept = [(fft(metric_ladder.aliasing(before, r, rung())).abs() > 1e-4).all(-2)[:, 0] for r in (2.0, 4.0)]
    assert (kept[0].sum(1) == 16).all()
    assert (kept[1].sum(1) == 8).all()
    assert (kept[0] | ~kept[1]).all()
    assert kept[1][:, 14:18].all()


def test_squares_modes_and_copies_are_as_large_as_they_say():
    before = images()
    squares = metric_ladder.missing(before, 0.25, rung())
    assert ((squares == 0).sum((1, 2, 3)) == 64).all()
    modes = metric_ladder.dropped(before, 0.1, rung())
    assert len(modes) == COUNT
    assert len(modes.real.flatten(1).unique(dim=0)) == 4
    copies = metric_ladder.copied(before, 0.25, rung())
    assert int((copies == 7).all(-1).all(-1).sum()) == 10


def test_the_table_counts_runs_in_which_every_rung_is_above_the_one_before():
    runs = [
        {"n": 24, "seed": seed, "ladders": {"blur": {"fd": numbers}, "noise": {"fd": [1.0, 2.0]}}}
        for seed, numbers in enumerate([[1.0, 2.0], [2.0, 2.0]])
    ]
    assert metric_ladder.table(runs).splitlines()[-1] == "| fd | 1 | 2 | 1 of 2 |"
