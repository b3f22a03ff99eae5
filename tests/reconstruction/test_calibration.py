"""Posterior samples whose spread is calibrated by k-space that was put aside."""

import math
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.masks.base import centred, sampled_centre
from mrigen.reconstruction.calibration import Calibration, Deviations, put_aside, without
from mrigen.reconstruction.sources import Batch
from mrigen.reconstruction.uncertainty import Reliability, Uncertainty, overlaid

ACS = ("--acs-lines", 8)


def normal(count, seed=0):
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drawn(factor, noise, seed, radius=1.0):
    """Errors that are ``factor`` times as large as the variance says, and noise."""
    variance = 0.5 + normal(40_000, seed + 10).square()
    error = (factor * variance.sqrt() * normal(40_000, seed) + noise * normal(40_000, seed + 20)).abs()
    return Deviations(error, variance, torch.full_like(error, noise**2), torch.full_like(error, radius))


@pytest.mark.parametrize(("factor", "noise"), [(0.5, 0.0), (1.0, 0.5), (3.0, 0.5)])
def test_factor_of_normal_errors_is_their_scale(factor, noise):
    calibration = Calibration.of(drawn(factor, noise, 1), drawn(factor, noise, 2), 1)
    assert calibration.factors == pytest.approx((factor,), rel=0.04)
    assert calibration.quantile == pytest.approx(1.645, rel=0.02)
    assert calibration.coverage == pytest.approx(0.9, abs=0.01)
    assert (calibration.uncalibrated < 0.85) == (factor > 1)


def test_share_inside_is_at_least_the_level_for_few_components():
    """The rank ⌈(n + 1) 0.9⌉: with 19 components the 18th, of errors 1, ..., 19 with variance 4."""
    error = torch.arange(1.0, 20.0).double()
    one = Deviations(error, torch.full_like(error, 4.0), torch.zeros_like(error), error)
    assert one.quantile(torch.tensor(3.0)) == pytest.approx(18 / 6, rel=1e-6)
    assert one.factor() == pytest.approx((130 / 4) ** 0.5, rel=1e-6)


def test_errors_no_larger_than_noise_need_no_spread():
    one = drawn(1.0, 0.0, 1)
    assert replace(one, noise=torch.full_like(one.noise, 1e3)).factor() == 0


def test_tails_widen_the_intervals_and_not_the_deviation():
    """Student's t with three degrees of freedom, of variance 3: its 95 % quantile is 2.353."""
    tails = normal(3 * 40_000, 5).view(3, -1).square().mean(0).rsqrt()
    error = (normal(40_000, 6) * tails).abs()
    one = Deviations(error, torch.ones_like(error), torch.zeros_like(error), error)
    assert one.factor() == pytest.approx(3**0.5, rel=0.15)
    assert one.factor() * one.quantile(torch.tensor(one.factor())) == pytest.approx(2.353, rel=0.03)


def test_bands_of_frequencies_have_factors_of_their_own():
    """Twice the spread within four periods per image, half of it beyond: no one factor is right."""
    parts = [[drawn(2.0, 0.1, seed, 3.0), drawn(0.5, 0.1, seed + 5, 9.0)] for seed in (1, 2)]
    fit, check = (Deviations.joined(part) for part in parts)
    calibration = Calibration.of(fit, check, 1)
    assert calibration.edges == (4.0,)
    assert calibration.factors == pytest.approx((2.0, 0.5), rel=0.04)
    assert calibration.coverage == pytest.approx(0.9, abs=0.01)
    for radius, factor in ((3.0, 2.0), (9.0, 0.5)):
        part = check.chosen(check.radius == radius)
        assert part.coverage(torch.tensor(factor), calibration.quantile) == pytest.approx(0.9, abs=0.015)
        assert abs(part.coverage(torch.tensor(1.25), calibration.quantile) - 0.9) > 0.05


def test_every_band_has_enough_components():
    few = Deviations(*(torch.arange(1.0, 350.0).double() for _ in range(4)))
    assert few.edges() == ()
    many = Deviations(*(torch.arange(1.0, 2000.0).double() for _ in range(4)))
    inside = torch.bucketize(many.radius, torch.tensor(many.edges()).double(), right=True)
    assert len(many.edges()) > 1
    assert int(inside.bincount().min()) >= 200


def test_calibrated_samples_have_the_factor_of_their_frequency():
    """Cosines of three and six periods per image, in samples that differ by their amplitudes alone."""
    x = torch.arange(16) * 2 * torch.pi / 16
    waves = torch.stack([(3 * x).cos().expand(16, 16), (6 * x).cos().expand(16, 16)])
    amplitudes = normal(8).view(4, 2).float()
    images = (5 + torch.einsum("sk,khw->shw", amplitudes, waves)).to(torch.complex64)[None, :, None]
    calibration = Calibration((4.0,), (3.0, 0.5), 1.645, 1, 0.9, 0.9, 1)
    found = calibration.calibrated(images)
    wanted = (amplitudes - amplitudes.mean(0)) * torch.tensor([3.0, 0.5]) * 1.25**0.5
    deviation = (found - images.mean(1, keepdim=True))[0, :, 0].real
    scale = waves.square().sum((1, 2))
    torch.testing.assert_close(torch.einsum("shw,khw->sk", deviation, waves) / scale, wanted)
    torch.testing.assert_close(found.mean(1), images.mean(1))


def test_deviations_across_the_phase_stay():
    """Samples about 1 + i: what is along it is tripled, what is across it is not; √(1 + 1/S) is for both."""
    amounts = normal(8).view(4, 2).float()
    amounts -= amounts.mean(0)
    images = (1 + 1j) * (1 + amounts[:, 0] + 1j * amounts[:, 1])
    images = images.view(1, 4, 1, 1, 1).expand(1, 4, 1, 6, 6)
    calibrated = Calibration((), (3.0,), 1.645, 1, 0.9, 0.9, 1).calibrated(images) / (1 + 1j) - 1
    wanted = 1.25**0.5 * torch.complex(3 * amounts[:, 0], amounts[:, 1])
    torch.testing.assert_close(calibrated[0, :, 0, 3, 3], wanted)


def test_the_spread_across_the_phase_counts_as_noise():
    """Samples 1 ± 0.1 i: no brightness at all, and 0.1² 2 (1 + 1/2) more of variance at DC than noise."""
    one = slice_of(torch.ones(1, 1, 1, 9, dtype=torch.bool))
    truth = one.data.operator.zero_image() + 1
    aside = torch.zeros(1, 1, 1, 9, dtype=torch.bool)
    aside[..., 4] = True
    still = Deviations.of(one, torch.cat([truth, truth]), aside)
    moving = Deviations.of(one, torch.cat([truth * (1 + 0.1j), truth * (1 - 0.1j)]), aside)
    assert moving.variance.max() < 1e-9
    power = MultiCoilMRI(one.data.operator.maps, aside)(truth).abs().square().sum()
    added = (moving.noise - still.noise).sum()
    assert float(added) == pytest.approx(float(0.1**2 * 2 * 1.5 * power), rel=1e-4)


def test_where_brightness_may_be_wrong():
    """Samples 1 ± d in three regions: mean 1, deviation √2 d; the window ends at 1, its tenth is 0.1."""
    spread = torch.tensor([0.0, 0.05, 0.2]).repeat_interleave(5).expand(1, 1, 5, 15)
    images = torch.stack([1 + spread, 1 - spread], 1).to(torch.complex64)
    found = Uncertainty.of(images, images, 2.0)
    torch.testing.assert_close(found.magnitude, torch.ones(1, 1, 5, 15))
    centre = slice(2, 15, 5)  # pixels whose neighbours are alike
    torch.testing.assert_close(found.upper[0, 0, 2, centre] - 1, 2 * 2**0.5 * torch.tensor([0.0, 0.05, 0.2]))
    torch.testing.assert_close(found.upper[0, 0, 2, 5] - 1, 2 * (2 * 0.05**2 * 2 / 3) ** 0.5 * torch.ones(()))
    wanted = [0.0, *(math.erfc(0.1 / (2**0.5 * 2**0.5 * d)) for d in (0.05, 0.2))]
    assert found.exceedance[0, 0, 2, centre].tolist() == pytest.approx(wanted, rel=1e-4)
    truth = torch.ones(1, 1, 5, 15)
    truth[..., 3, 1] = 1.11
    assert found.wrong(truth)[0, 0].nonzero().tolist() == [[3, 1]]


def test_reliability_counts_what_was_predicted_and_observed():
    """Normal errors of the predicted deviation: shares are as predicted, and 90 % lie inside."""
    deviation = torch.linspace(0.01, 0.2, 200).expand(1, 1, 200, 200)
    images = torch.stack([1 + deviation / 2**0.5, 1 - deviation / 2**0.5], 1).to(torch.complex64)
    whole = Reliability()
    truth = 1 + deviation * normal(40_000, 3).view(1, 1, 200, 200)
    whole.add(Uncertainty.of(images, images, 1.6448536), truth)
    row = whole.row()
    assert row["coverage_image"] == pytest.approx(0.9, abs=0.01)
    assert sum(one["pixels"] for one in row["exceedance"]) == 40_000
    for one in row["exceedance"]:
        assert one["observed"] == pytest.approx(one["predicted"], abs=0.02)


def test_colours_say_how_likely():
    images = torch.ones(1, 1, 1, 4, dtype=torch.complex64)
    chances = torch.tensor([0.0, 0.05, 0.2, 0.5])[None, None, None]
    shown = ((overlaid(images, chances, 2.0) + 1) * 127.5)[0, :, 0].T.round()
    assert shown[0].tolist() == [128, 128, 128]
    for pixel, colour in zip(shown[1:], ((255, 221, 51), (255, 136, 17), (221, 0, 34)), strict=True):
        assert pixel.tolist() == [round(0.35 * 128 + 0.65 * part) for part in colour]


def slice_of(mask):
    maps = MultiCoilMRI.example().maps[:1]
    operator = MultiCoilMRI(maps, mask)
    y = operator.forward(operator.zero_image() + 1)
    return Batch([0], Measurements(y, operator, torch.tensor([0.1])), torch.ones(1))


@pytest.mark.parametrize("shape", [(1, 1, 1, 9), (1, 1, 12, 9)])
def test_what_is_put_aside_is_measured_outside_the_centre_and_not_shown(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.7
    mask[..., shape[-2] // 2, 4] = True
    one = slice_of(mask)
    fit, check = put_aside(one, 0, 0)
    assert fit.any()
    assert check.any() == (shape[-2] > 1)  # a fifth of a few lines is one
    assert not (fit & check).any()
    assert bool((mask | ~(fit | check)).all())
    block = sampled_centre(mask[0, 0])
    block -= shape[-2] == 1 and block > 3
    rows, columns = (centred(side, block if side > 1 else 1) for side in shape[-2:])
    assert not ((fit | check)[0, 0][rows][:, columns]).any()
    shown = without(one, (fit, check))
    assert torch.equal(shown.data.operator.mask, mask & ~(fit | check))
    assert (shown.data.y * (fit | check) == 0).all()
    assert torch.equal(shown.data.y * shown.data.operator.mask, one.data.y * shown.data.operator.mask)


def test_of_the_centre_only_its_edge_is_put_aside():
    """Four lines around DC, from (W - 4 + 1) // 2 on, and two others: one of these, or the edge."""
    mask = torch.zeros(1, 1, 1, 9, dtype=torch.bool)
    mask[..., [0, 3, 4, 5, 6, 8]] = True
    halves = [put_aside(slice_of(mask), key, 0) for key in range(20)]
    assert {tuple((fit | check).flatten().nonzero().flatten().tolist()) for fit, check in halves} == {
        (0,),
        (6,),
        (8,),
    }


def test_the_only_line_serves_one_half_of_the_slices_to_fit_and_the_other_to_check():
    mask = torch.zeros(1, 1, 1, 9, dtype=torch.bool)
    mask[..., [3, 4, 5, 8]] = True
    for turn in range(4):
        halves = put_aside(slice_of(mask), turn, turn)
        assert halves[turn % 2].flatten().nonzero().flatten().tolist() == [8]
        assert not halves[1 - turn % 2].any()


def test_lines_near_the_centre_are_put_aside_more_often():
    """Of lines at distances 3 and 6 from DC one is drawn first: the nearer one two times out of three."""
    mask = torch.zeros(1, 1, 1, 17, dtype=torch.bool)
    mask[..., [7, 8, 9, 11, 14]] = True
    maps = torch.ones(1, 1, 2, 17, dtype=torch.complex64)
    operator = MultiCoilMRI(maps, mask)
    one = Batch([0], Measurements(operator(operator.zero_image()), operator), torch.ones(1))
    nearer = sum(bool(put_aside(one, key, 0)[0][..., 11]) for key in range(500))
    assert nearer / 500 == pytest.approx(2 / 3, abs=0.08)


def test_deviations_are_of_what_was_put_aside():
    """Samples that are right but for a constant of known size in k-space."""
    one = slice_of(torch.ones(1, 1, 1, 9, dtype=torch.bool))
    truth = one.data.operator.zero_image() + 1
    aside = torch.zeros(1, 1, 1, 9, dtype=torch.bool)
    aside[..., 2] = True
    found = Deviations.of(one, torch.cat([truth, truth, truth, truth]), aside)
    coils, height = one.data.y.shape[1:3]
    assert len(found.error) == 2 * coils * height
    assert found.error.max() < 1e-5
    assert torch.allclose(found.noise, torch.tensor(0.01))


def test_a_calibrated_reconstruction_scales_its_deviation(reconstruct, measured, teacher, tmp_path):
    words = ("mmps:steps=3", "--model", teacher, "--samples", 4, *ACS)
    plain, _ = reconstruct(measured, *words)
    arrays, _ = reconstruct(measured, *words, "--calibrate")
    with h5py.File(tmp_path / "out" / "reconstruction.h5") as file:
        about = dict(file["std"].attrs)
    np.testing.assert_allclose(arrays["samples"], plain["samples"])
    calibration = Calibration(tuple(about["edges"]), tuple(about["factors"]), about["quantile"], 0, 0, 0, 0)
    calibrated = calibration.calibrated(torch.from_numpy(arrays["samples"])).numpy()
    spread = np.sqrt((np.abs(calibrated - calibrated.mean(1, keepdims=True)) ** 2).sum(1) / 3)
    np.testing.assert_allclose(arrays["std"], spread, rtol=1e-3, atol=1e-6)
    wanted = Uncertainty.of(
        torch.from_numpy(arrays["samples"]), torch.from_numpy(calibrated), about["quantile"]
    )
    for name in ("lower", "upper", "exceedance"):
        np.testing.assert_allclose(arrays[name], getattr(wanted, name), rtol=1e-3, atol=1e-5)
    assert ((arrays["exceedance"] >= 0) & (arrays["exceedance"] <= 1)).all()
    with Image.open(tmp_path / "out" / "uncertainty.png") as picture:
        assert picture.width > 500
    assert (arrays["lower"] <= arrays["upper"]).all()
    assert about["points"] > 0
    assert "put aside" in about["note"]


def test_calibration_needs_samples(reconstruct, measured, teacher):
    line = reconstruct(measured, "mmps:steps=3", "--model", teacher, "--calibrate", *ACS, fails=True)
    assert "--samples 4 or more" in line
