"""Posterior samples whose spread is calibrated by k-space that was put aside."""

import h5py
import numpy as np
import pytest
import torch

from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.masks.base import centred, sampled_centre
from mrigen.reconstruction.calibration import Calibration, Deviations, put_aside, without
from mrigen.reconstruction.sources import Batch

ACS = ("--acs-lines", 8)


def normal(count, seed=0):
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drawn(factor, noise, seed):
    """Errors that are ``factor`` times as large as the variance says, and noise."""
    variance = 0.5 + normal(40_000, seed + 10).square()
    error = (factor * variance.sqrt() * normal(40_000, seed) + noise * normal(40_000, seed + 20)).abs()
    return Deviations(error, variance, torch.full_like(error, noise**2))


@pytest.mark.parametrize(("factor", "noise"), [(0.5, 0.0), (1.0, 0.5), (3.0, 0.5)])
def test_factor_of_normal_errors_is_their_scale(factor, noise):
    calibration = Calibration.of(drawn(factor, noise, 1), drawn(factor, noise, 2), 1)
    assert calibration.factor == pytest.approx(factor, rel=0.04)
    assert calibration.coverage == pytest.approx(0.9, abs=0.01)
    assert (calibration.uncalibrated < 0.85) == (factor > 1)


def test_share_inside_is_at_least_the_level_for_few_components():
    """The rank ⌈(n + 1) 0.9⌉: with 19 components the 18th, of errors 1, ..., 19 with variance 1."""
    error = torch.arange(1.0, 20.0).double()
    found = Deviations(error, torch.ones_like(error), torch.zeros_like(error)).factor()
    assert found == pytest.approx(18 / 1.6448536, rel=1e-6)


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
    fit, check = put_aside(one, 0)
    assert fit.any()
    assert check.any()
    assert not (fit & check).any()
    assert bool((mask | ~(fit | check)).all())
    block = sampled_centre(mask[0, 0])
    rows, columns = (centred(side, block if side > 1 else 1) for side in shape[-2:])
    assert not ((fit | check)[0, 0][rows][:, columns]).any()
    shown = without(one, (fit, check))
    assert torch.equal(shown.data.operator.mask, mask & ~(fit | check))
    assert (shown.data.y * (fit | check) == 0).all()
    assert torch.equal(shown.data.y * shown.data.operator.mask, one.data.y * shown.data.operator.mask)


def test_no_line_of_an_even_centre_is_put_aside():
    """Four lines around DC, from (W - 4 + 1) // 2 on, and two others: these are the ones."""
    mask = torch.zeros(1, 1, 1, 9, dtype=torch.bool)
    mask[..., [0, 3, 4, 5, 6, 8]] = True
    halves = [put_aside(slice_of(mask), key) for key in range(20)]
    assert {tuple((fit | check).flatten().nonzero().flatten().tolist()) for fit, check in halves} == {(0, 8)}


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
    np.testing.assert_allclose(arrays["std"], about["factor"] * plain["std"], rtol=1e-4, atol=1e-7)
    magnitudes = np.abs(arrays["samples"])
    half = 1.6448536 * about["factor"] * np.sqrt(1.25) * magnitudes.std(1, ddof=1)
    np.testing.assert_allclose(arrays["upper"], magnitudes.mean(1) + half, rtol=1e-3, atol=1e-5)
    assert (arrays["lower"] <= arrays["upper"]).all()
    assert about["points"] > 0
    assert "put aside" in about["note"]


def test_calibration_needs_samples(reconstruct, measured, teacher):
    line = reconstruct(measured, "mmps:steps=3", "--model", teacher, "--calibrate", *ACS, fails=True)
    assert "--samples 4 or more" in line
