"""k-space to images: units, phase, slices, sizes, samples."""

import json

import h5py
import nibabel
import numpy as np
import phantoms
import pytest
import torch
from fastmri import evaluate
from PIL import Image
from sigpy.mri import birdcage_maps

from mrigen import fourier
from mrigen.cli.main import run
from mrigen.prep import ismrmrd
from mrigen.prep.kspace.options import Options
from mrigen.reconstruction.scans import ScanSource

ACS = ("--kernel-width", 4)


@pytest.fixture
def fastmri(tmp_path):
    """Three fully sampled slices in fastMRI's layout, oversampled twice along the readout."""
    size = phantoms.SIZE
    header = ismrmrd.Header(
        encoded_matrix=(2 * size, size, 1),
        recon_matrix=(size, size, 1),
        encoded_fov=(400.0, 240.0, 5.0),
        recon_fov=(200.0, 240.0, 5.0),
        centre=size // 2,
        maximum=size - 1,
        field_strength=3.0,
        tr_ms=500.0,
        te_ms=10.0,
        ti_ms=0.0,
        flip_angle_deg=70.0,
    )
    padded = np.pad(np.stack([phantoms.image()] * 3), ((0, 0), (size // 2, size // 2), (0, 0)))
    coils = birdcage_maps((4, 2 * size, size))
    k = fourier.fft(torch.from_numpy((padded[:, None] * coils).astype(np.complex64)))
    path = tmp_path / "fast.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = k.numpy()
        file["ismrmrd_header"] = ismrmrd.write(header, {})
    return path


def test_the_image_comes_back_in_the_units_of_the_file(reconstruct, measured):
    """Coil maps know phase and brightness up to those of the first coil and of the coils' sum."""
    arrays, report = reconstruct(measured, "cg-sense:regularization=0.001", *ACS)
    maps = birdcage_maps((phantoms.COILS, phantoms.SIZE, phantoms.SIZE))
    combined = np.sqrt((np.abs(maps) ** 2).sum(0)) * np.exp(1j * np.angle(maps[0]))
    assert report is None
    assert arrays["image"].shape == (2, 1, phantoms.SIZE, phantoms.SIZE)
    for s in range(2):
        truth = (1 + s) * phantoms.image() * combined
        error = np.linalg.norm(arrays["image"][s, 0] - truth) / np.linalg.norm(truth)
        assert error < 0.07


@pytest.mark.parametrize(
    "solver", ["cg-sense:regularization=0.1", "l1-wavelet:iterations=10", "pnp:steps=3", "latent:steps=3"]
)
def test_scale_and_phase_pass_through(reconstruct, measured, teacher, generator, solver, tmp_path):
    """c k gives c x for any complex c where the solver sees scaled data; only the prior has a phase."""
    more = []
    if solver.startswith(("pnp", "latent")):
        more = ["--model", teacher if solver.startswith("pnp") else generator]
    factor = np.complex64(3e-5 if more else 3e-5 * np.exp(0.8j))
    plain, _ = reconstruct(measured, solver, *ACS, *more)
    scaled = tmp_path / "scaled.npy"
    np.save(scaled, np.load(measured) * factor)
    found, _ = reconstruct(scaled, solver, *ACS, *more)
    expected = plain["image"] * factor
    assert np.linalg.norm(found["image"] - expected) < 1e-3 * np.linalg.norm(expected)


def test_a_volume_a_range_and_a_voxel_size(reconstruct, fastmri, tmp_path):
    arrays, report = reconstruct(
        fastmri, "zero-filled", "--slices", "1:3", "--acceleration", 2, "--acs-lines", 8, *ACS
    )
    assert arrays["image"].shape == (2, 1, phantoms.SIZE, phantoms.SIZE)
    assert [s["name"] for s in report["slices"]] == ["slice 1", "slice 2"]
    nifti = nibabel.load(tmp_path / "out" / "magnitude.nii.gz")
    assert nifti.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(nifti.header.get_zooms(), (10.0, 400 / 48, 5.0), rtol=1e-6)
    np.testing.assert_allclose(nifti.get_fdata(), np.abs(arrays["image"][:, 0]).T, rtol=1e-6)


def test_fully_sampled_data_are_reconstructed_as_they_are(reconstruct, tmp_path):
    """Solvers without a model give the image of all lines, and no errors: there is nothing to compare."""
    path = tmp_path / "full.npy"
    k = phantoms.kspace(2)
    np.save(path, k)
    coils = fourier.ifft(torch.from_numpy(k)).numpy()
    truth = np.sqrt((np.abs(coils) ** 2).sum(1))
    for solver in ("rss", "zero-filled", "cg-sense"):
        arrays, report = reconstruct(path, solver, *ACS)
        assert report is None
        found = np.abs(arrays["image"][:, 0])
        assert np.linalg.norm(found - truth) < (1e-5 if solver == "rss" else 0.02) * np.linalg.norm(truth), (
            solver
        )


def test_fully_sampled_data_are_their_own_reference(reconstruct, fastmri):
    _, report = reconstruct(fastmri, "cg-sense", "--acceleration", 2, "--acs-lines", 8, *ACS)
    assert report["mean"]["nrmse"] < report["zero_filled"]["nrmse"]
    assert report["mean"]["psnr"] > report["zero_filled"]["psnr"] > 10
    assert len(report["slices"]) == 3


def test_errors_of_a_volume_are_fastmris(reconstruct, fastmri):
    """Three slices of different brightness, each scaled on its own by the preparation."""
    with h5py.File(fastmri, "r+") as file:
        file["kspace"][...] *= np.float32([1, 3, 9])[:, None, None, None]
        k = file["kspace"][()]
    size = phantoms.SIZE
    coils = fourier.ifft(torch.from_numpy(k)).numpy()[..., size // 2 : size // 2 + size, :]
    target = np.sqrt((np.abs(coils) ** 2).sum(1))
    arrays, report = reconstruct(
        fastmri, "l1-wavelet:iterations=30", "--acceleration", 2, "--acs-lines", 8, *ACS
    )
    found = np.abs(arrays["image"][:, 0])
    (volume,) = report["volumes"]["each"]
    assert (volume["name"], volume["slices"]) == ("fast", 3)
    errors = volume["errors"]
    assert errors["psnr"] == pytest.approx(float(evaluate.psnr(target, found)), rel=1e-3)
    assert errors["ssim"] == pytest.approx(float(evaluate.ssim(target, found)[0]), rel=1e-3)
    assert errors["nmse"] == pytest.approx(float(evaluate.nmse(target, found)), rel=5e-3)
    assert errors["nrmse"] == pytest.approx(errors["nmse"] ** 0.5)
    assert report["volumes"]["mean"]["psnr"] == errors["psnr"] != report["mean"]["psnr"]
    assert volume["zero_filled"]["nmse"] > errors["nmse"]


def test_without_a_header_no_voxel_size_is_claimed(reconstruct, measured, tmp_path):
    reconstruct(measured, "rss", *ACS)
    nifti = nibabel.load(tmp_path / "out" / "magnitude.nii.gz")
    assert nifti.header.get_xyzt_units()[0] == "unknown"


def test_root_sum_of_squares_and_zero_filled(reconstruct, measured):
    k = np.load(measured)
    rss, _ = reconstruct(measured, "rss", *ACS)
    coils = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    np.testing.assert_allclose(rss["image"][:, 0], np.sqrt((np.abs(coils) ** 2).sum(1)), rtol=1e-3, atol=1e-5)


def test_samples_have_mean_and_deviation(reconstruct, measured, teacher):
    arrays, _ = reconstruct(measured, "dds:steps=3", "--model", teacher, "--samples", 3, *ACS)
    samples = arrays["samples"]
    assert samples.shape == (2, 3, 1, phantoms.SIZE, phantoms.SIZE)
    np.testing.assert_allclose(arrays["image"], samples.mean(1), rtol=1e-4, atol=1e-6)
    spread = np.sqrt((np.abs(samples - samples.mean(1, keepdims=True)) ** 2).sum(1) / 2)
    np.testing.assert_allclose(arrays["std"], spread, rtol=1e-3, atol=1e-6)
    assert (arrays["std"] > 0).any()


@pytest.mark.parametrize("full", [False, True])
def test_the_spread_says_what_it_is_worth(reconstruct, fastmri, measured, teacher, tmp_path, capsys, full):
    """In the map's header, the HDF5 file and the report."""
    more = ("--acceleration", 2, "--acs-lines", 8) if full else ()
    path = fastmri if full else measured
    _, report = reconstruct(path, "dds:steps=3", "--model", teacher, "--samples", 2, *more, *ACS)
    with h5py.File(tmp_path / "out" / "reconstruction.h5") as file:
        note = file["std"].attrs["note"]
    descrip = bytes(nibabel.load(tmp_path / "out" / "std.nii.gz").header["descrip"]).decode().rstrip("\0")
    assert descrip
    assert note.startswith(descrip)
    if full:
        assert report["calibration"]["note"] == note
        assert note in report["notes"]
        assert "times the predicted deviation" in note
    else:
        assert "no true image is known" in note


def test_results_do_not_depend_on_the_batch(reconstruct, measured, teacher):
    one, _ = reconstruct(measured, "dds:steps=3", "--model", teacher, "--samples", 3, "--batch", 1, *ACS)
    many, _ = reconstruct(measured, "dds:steps=3", "--model", teacher, "--samples", 3, "--batch", 8, *ACS)
    np.testing.assert_allclose(one["samples"], many["samples"], rtol=1e-3, atol=1e-4)


def test_seeds_change_samples_and_repeat_them(reconstruct, measured, teacher):
    def found(seed):
        return reconstruct(measured, "dds:steps=2", "--model", teacher, "--seed", seed, *ACS)[0]["image"]

    first = found(1)
    assert np.array_equal(first, found(1))
    assert not np.allclose(first, found(2), rtol=1e-3)


def test_pictures_and_figure_are_there(reconstruct, fastmri, tmp_path):
    reconstruct(fastmri, "zero-filled", "--acceleration", 2, "--acs-lines", 8, *ACS)
    for name in ("preview.png", "figure.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            shades = np.asarray(picture.convert("L"))
        assert shades.std() > 20
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["solver"] == "zero-filled"


def test_a_teacher_of_small_images_tiles_a_large_scan(reconstruct, tmp_path):
    small = phantoms.write_model(tmp_path / "small", size=16, objective="standard")
    path = tmp_path / "scan.npy"
    np.save(path, phantoms.kspace() * phantoms.lines())
    arrays, _ = reconstruct(path, "pnp:steps=2", "--model", small, *ACS)
    assert arrays["image"].shape[-1] == phantoms.SIZE


def test_images_have_the_scans_phase_whatever_the_models(reconstruct, fastmri, tmp_path):
    """A model of images relative to the ACS's phase sees those; what is written has the scan's own phase."""
    law = {"name": "exact-random", "acceleration": 2, "acs_lines": 6}
    corruption = {"mask": law, "fresh_masks": True, "phase": "acs"}
    model = phantoms.write_model(tmp_path / "acs", corruption=corruption)
    given = ("--acceleration", 2, "--acs-lines", 8, *ACS)
    plain, _ = reconstruct(fastmri, "zero-filled", *given)
    turned, _ = reconstruct(fastmri, "dds:steps=1", "--model", model, *given)
    assert turned["image"].shape == plain["image"].shape
    inside = np.abs(plain["image"]) > 0.3 * np.abs(plain["image"]).max()
    apart = np.angle(turned["image"] * plain["image"].conj())[inside]
    assert np.abs(apart).mean() < 0.3


@pytest.mark.parametrize("whitened", [False, True])
def test_the_noise_level_is_in_the_units_of_the_measurement(tmp_path, whitened):
    """σ explains how far a scan is from its image and maps, whitened or not."""
    command = ["simulate", "--out", tmp_path, "--volumes", 1, "--slices", 2, "--matrix", 64, 64, "--snr", 10]
    assert run([*map(str, command), "--jobs", "1"]) == 0
    options = Options(acceleration=3, acs_lines=12, noise_whitening=whitened)
    (batch,) = ScanSource(tmp_path / "simulated_0000.h5", options).batches(2)
    data = batch.data
    rest = torch.view_as_real((data.y - data.operator.forward(batch.reference))[data.y != 0])
    assert data.sigma.mean() == pytest.approx(float(rest.std()), rel=0.3)
