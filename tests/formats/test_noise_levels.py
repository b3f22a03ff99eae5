"""Noise levels against the noise that was put in, and against each other."""

import numpy as np
import pytest
import torch
from format_files import COILS, HEIGHT, ROTATIONS, header, kspace, lines, mrd

from mrigen.cli.main import run
from mrigen.coils.noise_level import corner_levels, edge_levels, scan_levels
from mrigen.prep.kspace.noise_level import noise_level
from mrigen.prep.readers import inspect, open_slices
from mrigen.prep.simulate import anatomy
from mrigen.prep.simulate.acquisition import Scanner, Simulation

del HEIGHT, ROTATIONS, header


@pytest.fixture(scope="module")
def clean():
    """A real head without noise, four slices of 96 x 96 in 4 coils."""
    simulation = Simulation(slices=4, matrix=(96, 96), coils=4, snr=float("inf"), anatomy="colin27")
    return torch.cat(list(Scanner.build(simulation, anatomy.load(None)).acquire(0)))


@pytest.mark.parametrize("snr", [5, 10, 30, 100])
def test_corners_are_within_five_percent(clean, snr):
    """Every coil has a noise level of its own; SNR is the largest coil's root mean square over its σ."""
    rms = torch.fft.ifft2(clean, norm="ortho").abs().square()
    rms = rms[rms > 0.01 * rms.max()].mean().sqrt()
    true = float(rms) / snr * torch.tensor([1.0, 0.7, 1.4, 2.0], dtype=torch.float64)
    rng = torch.Generator().manual_seed(1)
    noise = 2**0.5 * torch.randn(clean.shape, dtype=clean.dtype, generator=rng)
    noisy = clean + true[:, None, None].to(torch.complex64) * noise
    found = corner_levels(noisy)
    assert (found / true - 1).abs().max() < 0.05
    lines_ = torch.arange(96) % 3 == 0
    found = edge_levels(noisy * lines_, lines_)
    assert (found / true - 1).abs().max() < 0.05


def test_zero_padded_lines_do_not_lower_the_level(clean):
    rng = torch.Generator().manual_seed(2)
    noise = 1e-4 * torch.randn(clean.shape, dtype=clean.dtype, generator=rng)
    acquired = (torch.arange(96) >= 20) & (torch.arange(96) < 90)
    found = corner_levels((clean + noise) * acquired, acquired)
    assert (found / (1e-4 / 2**0.5) - 1).abs().max() < 0.05


def test_noiseless_data_have_no_level():
    assert corner_levels(torch.from_numpy(kspace(0))) is None


def noise_scan(sigma, samples=4000, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(COILS, samples)) + 1j * rng.normal(size=(COILS, samples))
    return (sigma * values).astype(np.complex64)


def test_a_noise_scan_counts_and_a_disagreement_is_said(tmp_path, capsys):
    """Its dwell time is twice the image's, so that the image's noise is √2 of it."""
    level = 0.02
    rng = np.random.default_rng(5)
    k = kspace(0)
    k = k + level * (rng.normal(size=k.shape) + 1j * rng.normal(size=k.shape))
    for name, factor, word in (("good", 1, ""), ("bad", 3, "disagree")):
        (tmp_path / name).mkdir()
        path = mrd(tmp_path / name, k, noise=noise_scan(factor * level / 2**0.5))
        scan = inspect(path)
        np.testing.assert_allclose(scan_levels(torch.from_numpy(scan.noise)), factor * level, rtol=0.05)
        with open_slices(scan) as read:
            found = noise_level(scan, read, [0, 1, 2])
        assert found.source == "noise scan"
        assert (word in found.note) if word else not found.note
    options = ["--solver", "cg-sense", "--acceleration", "2", "--acs-lines", "8", "--kernel-width", "4"]
    assert run(["reconstruct", str(path), "--out", str(tmp_path / "out"), *options]) == 0
    assert "disagree" in capsys.readouterr().out


def test_preparation_whitens_by_the_noise_scan(tmp_path):
    """Undersampled data too, whose corners show no noise: the store says σ = 1 / scale."""
    from mrigen.data.mri_store import MeasurementStore

    path = mrd(tmp_path, (kspace() * lines()).astype(np.complex64), lines(), noise=noise_scan(0.01))
    options = ["--kernel-width", "4", "--virtual-coils", "0", "--jobs", "1"]
    assert run(["prep-fastmri", str(path), "--out", str(tmp_path / "store"), *options]) == 0
    store = MeasurementStore(tmp_path / "store", "train")
    for one in store.manifest.volumes[0].slices:
        assert one.noise == pytest.approx(1 / one.scale, rel=1e-3)
