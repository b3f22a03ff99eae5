"""What the store holds, in closed form."""

import h5py
import numpy as np
import pytest
import torch

from mrigen.data.mri_manifest import MRIManifest
from mrigen.data.mri_store import MeasurementStore
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.errors import UsageError
from mrigen.metrics.reference import ReferenceStore
from mrigen.operators import MultiCoilMRI
from mrigen.operators.masks.base import centred
from mrigen.prep.kspace import steps

from .scans import centred_fft, centred_ifft, dense, header, noise, write_scan

PLAIN = {"noise_whitening": None, "no_noise_whitening": True, "virtual_coils": 0, "keep_oversampling": True}


def disc(height, width, radius=0.6):
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return (y**2 + x**2 < radius**2) * np.exp(1j * (1 + 2 * x - y * x))


def test_without_transforms_the_measured_lines_are_the_scanners(simulate, prep, tmp_path):
    """samples = k / scale bit for bit on the mask, with the scale's closed form."""
    raw = simulate(tmp_path / "raw", matrix=(32, 29), padded_lines=2)
    store = prep(raw, **PLAIN)
    for name in ("simulated_0000.h5", "simulated_0001.h5"):
        arrays, kspace = dense(store, name)
        with h5py.File(raw / name) as file:
            source = file["kspace"][()]
        scale = arrays["scale"][:, None, None, None]
        components = source.view(np.float32).reshape(*source.shape, 2) / scale[..., None]
        expected = components.view(np.complex64)[..., 0]
        np.testing.assert_array_equal(kspace, expected * arrays["mask"][:, None])
        acs = source * centred(29, 4).numpy()
        rss = np.sqrt((np.abs(centred_ifft(acs)) ** 2).sum(1))
        np.testing.assert_allclose(arrays["scale"], np.quantile(rss, 0.99, axis=(1, 2)), rtol=1e-5)
        assert arrays["acquired"].tolist() == [[2 <= i < 27 for i in range(29)]] * 3
        assert (arrays["mask"].sum((1, 2)) == 25 // 4).all()
        assert not (arrays["mask"][:, 0] & ~arrays["acquired"]).any()
        assert arrays["mask"][:, 0, centred(29, 4).numpy()].all()


@pytest.mark.parametrize("width", [30, 33])
def test_the_store_reads_back_what_was_written(simulate, prep, tmp_path, width):
    raw = simulate(tmp_path / "raw", matrix=(32, width))
    folder = prep(raw, fixed_further=True)
    store = MeasurementStore(folder)
    assert len(store) == 6
    assert store.shape == (4, 32, width)
    streamed = MeasurementStore(folder, cache_bytes=0)
    for source in (store, streamed):
        batch = source.measurements([1, 4], fixed_further=True)
        for row, (name, index) in enumerate([("simulated_0000.h5", 1), ("simulated_0001.h5", 1)]):
            arrays, kspace = dense(folder, name)
            np.testing.assert_array_equal(batch.y[row].numpy(), kspace[index])
            np.testing.assert_array_equal(batch.operator.maps[row].numpy(), arrays["maps"][index])
            np.testing.assert_array_equal(batch.operator.mask[row, 0].numpy(), arrays["mask"][index])
            np.testing.assert_array_equal(batch.further.mask[row, 0].numpy(), arrays["further"][index])
    norm = store.maps_and_masks(list(range(6)))[0].abs().square().sum(1)
    torch.testing.assert_close(norm, torch.ones_like(norm), rtol=0, atol=1e-5)


def test_the_manifest_says_how(simulate, prep, tmp_path):
    raw = simulate(tmp_path / "raw")
    folder = prep(raw, slices="1:", seed=5, split="train=0.5,val=0.5")
    manifest = MRIManifest.load(folder)
    assert manifest.kind == "measurements"
    assert manifest.mask == {"name": "exact-random", "acceleration": 4.0, "acs_lines": 4}
    assert manifest.fresh_masks
    assert manifest.clean_data_leak is None
    assert manifest.parameters["seed"] == 5
    assert manifest.parameters["split"] == {"train": 0.5, "val": 0.5}
    assert {v.split for v in manifest.volumes} == {"train", "val"}
    for volume in manifest.volumes:
        arrays, _ = dense(folder, volume.file)
        assert volume.header["acquisition"] == "AXT1"
        assert volume.header["encoded_matrix"] == [32, 30, 1]
        assert [s.slice for s in volume.slices] == [1, 2]
        assert [s.lines for s in volume.slices] == arrays["mask"].sum((1, 2)).tolist() == [7, 7]
        assert [s.scale for s in volume.slices] == pytest.approx(arrays["scale"].tolist())
        assert all(s.acceleration == pytest.approx(30 / 7, abs=1e-4) for s in volume.slices)
        assert all(0 < s.mismatch < 0.2 for s in volume.slices)
        assert volume.acs_lines == 4


def test_the_corruption_of_a_store_draws_fresh_masks(simulate, prep, tmp_path, generator):
    store = MeasurementStore(prep(simulate(tmp_path / "raw")))
    corruption = store.corruption()
    assert not corruption.ambient_obstacle
    operator = corruption.draw(20, generator)
    assert (operator.mask.sum((1, 2, 3)) == 7).all()
    further = corruption.corrupt_further(operator, generator)
    assert (further.mask.sum((1, 2, 3)) == 7 - 2).all()


def test_references_are_the_coil_combined_full_images(simulate, prep, tmp_path):
    """x = Σ conj(S_c) Fᴴ k_c / scale with the store's own maps and scale, in a folder of its own."""
    raw = simulate(tmp_path / "raw")
    folder = prep(raw, **PLAIN)
    references = ReferenceStore(tmp_path / "store-reference")
    assert len(references) == 6
    assert references.image_shape == (1, 32, 30)
    arrays, _ = dense(folder, "simulated_0001.h5")
    with h5py.File(raw / "simulated_0001.h5") as file:
        images = centred_ifft(file["kspace"][()])
    expected = (arrays["maps"].conj() * images).sum(1) / arrays["scale"][:, None, None]
    found = references.images([3, 5])[:, 0].numpy()
    np.testing.assert_allclose(found, expected[[0, 2]], rtol=1e-4, atol=1e-5)
    with h5py.File(folder / "simulated_0001.h5") as file:
        assert set(file) == {"samples", "mask", "acquired", "maps", "scale", "record"}


def test_training_cannot_open_references_nor_evaluation_measurements(simulate, prep, tmp_path):
    from mrigen.errors import UsageError

    folder = prep(simulate(tmp_path / "raw"), references=tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="reference images"):
        MeasurementStore(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="holds measurements"):
        ReferenceStore(folder)
    prep(tmp_path / "raw", out="without", no_references=True)
    assert not (tmp_path / "without-reference").exists()


@pytest.mark.parametrize("width", [30, 33])
@pytest.mark.parametrize("crop", [(24, 26), (0, 25), (25, 0)])
def test_crops_are_crops_of_the_image(prep, tmp_path, width, crop):
    """One coil, maps of ones: the reference is the cropped image, the samples its transform."""
    kspace = centred_fft(np.stack([disc(32, width), 2 * disc(32, width, 0.4)])).astype(np.complex64)
    write_scan(tmp_path / "scan.h5", kspace[:, None])
    folder = prep(tmp_path / "scan.h5", crop=crop, **PLAIN)
    arrays, samples = dense(folder, "scan.h5")
    height, cut = crop[0] or 32, crop[1] or width
    top, left = 16 - height // 2, width // 2 - cut // 2
    image = centred_ifft(kspace)[:, top : top + height, left : left + cut] / arrays["scale"][:, None, None]
    reference = ReferenceStore(f"{folder}-reference").images([0, 1])[:, 0].numpy()
    np.testing.assert_allclose(reference, image, atol=2e-6 * np.abs(image).max())
    expected = centred_fft(image) * arrays["mask"]
    np.testing.assert_allclose(samples[:, 0], expected, atol=2e-6 * np.abs(expected).max())
    assert (arrays["maps"] == 1).all()
    assert arrays["acquired"].all()


def test_readout_oversampling_is_removed_by_the_header(simulate, prep, tmp_path):
    raw = simulate(tmp_path / "raw", oversampling=2)
    removed = MRIManifest.load(prep(raw))
    kept = MRIManifest.load(prep(raw, out="kept", keep_oversampling=True))
    cropped = MRIManifest.load(prep(raw, out="cropped", crop=(32, 0)))
    assert [m.volumes[0].shape for m in (removed, kept, cropped)] == [(4, 32, 30), (4, 64, 30), (4, 32, 30)]
    for name in ("simulated_0000.h5", "simulated_0001.h5"):
        one, other = dense(tmp_path / "store", name)[1], dense(tmp_path / "cropped", name)[1]
        np.testing.assert_array_equal(one, other)


def test_padded_edges_stay_unmeasured_after_a_crop(prep, tmp_path):
    random = np.random.default_rng(0)
    kspace = centred_fft(disc(32, 48) + 0.05 * noise(random, 3, 32, 48)).astype(np.complex64)
    kspace[..., :6] = kspace[..., -6:] = 0
    write_scan(tmp_path / "scan.h5", kspace, ismrmrd_header=header(32, 48, padded=6))
    folder = prep(tmp_path / "scan.h5", crop=(0, 40))
    arrays, _ = dense(folder, "scan.h5")
    band = [abs(j - 20) / 40 <= 18 / 48 and (j - 20) / 40 <= 17 / 48 for j in range(40)]
    assert arrays["acquired"].tolist() == [band] * 3
    assert not (arrays["mask"][:, 0] & ~np.array(band)).any()


def test_whitening_undoes_any_mixing_of_the_coils(simulate, prep, tmp_path):
    """Whitened data of mixed and unmixed coils differ by a unitary matrix: scale and |Aᴴ k| are the same."""
    raw = simulate(tmp_path / "raw", volumes=1, slices=6, matrix=(48, 40), snr=30)
    with h5py.File(raw / "simulated_0000.h5") as file:
        kspace = file["kspace"][()]
    random = np.random.default_rng(1)
    mixing = np.eye(4) + 0.3 * noise(random, 4, 4)
    (tmp_path / "mixed").mkdir()
    mixed = np.einsum("vc,schw->svhw", mixing, kspace).astype(np.complex64)
    write_scan(tmp_path / "mixed" / "simulated_0000.h5", mixed)
    options = {"virtual_coils": 0, "acs_lines": 8}
    prep(raw, **options)
    prep(tmp_path / "mixed", out="mixed-store", **options)
    one, other = (MeasurementStore(tmp_path / name).measurements([0, 5]) for name in ("store", "mixed-store"))
    assert torch.equal(one.operator.mask, other.operator.mask)
    images = [b.operator.adjoint(b.y).abs() for b in (one, other)]
    torch.testing.assert_close(*images, rtol=0, atol=5e-3 * images[0].max().item())
    scales = [dense(tmp_path / name, "simulated_0000.h5")[0]["scale"] for name in ("store", "mixed-store")]
    np.testing.assert_allclose(*scales, rtol=1e-4)


@pytest.mark.parametrize("padded", [0, 8])
def test_the_noise_level_of_the_samples_is_reported(prep, tmp_path, padded):
    """A k-space of noise alone around an object: the manifest's σ is that of the stored samples."""
    random = np.random.default_rng(2)
    signal = np.zeros((6, 64, 48), np.complex64)
    signal[:, 30:34, 22:26] = 100
    kspace = 3 * noise(random, 6, 64, 48) + signal
    if padded:
        kspace[..., :padded] = kspace[..., -padded:] = 0
    write_scan(tmp_path / "scan.h5", kspace, ismrmrd_header=header(64, 48, padded=padded))
    folder = prep(tmp_path / "scan.h5", acceleration=2)
    arrays, samples = dense(folder, "scan.h5")
    for index, statistics in enumerate(MRIManifest.load(folder).volumes[0].slices):
        outer = arrays["mask"][index, 0] & (np.abs(np.arange(48) - 24) > 6)
        values = samples[index, 0][:, outer]
        spread = np.sqrt((np.abs(values) ** 2).mean() / 2)
        assert statistics.noise == pytest.approx(spread, rel=0.15)
        assert statistics.noise * statistics.scale == pytest.approx(np.sqrt(48 / (48 - 2 * padded)), rel=1e-3)


def test_training_is_given_the_noise_of_each_slice(simulate, prep, tmp_path):
    """σ of the manifest beside every measurement, and as the law that ambient-tweedie goes by."""
    store = MeasurementStore(prep(simulate(tmp_path / "raw", snr=10)))
    written = torch.tensor([s.noise for v in store.manifest.volumes for s in v.slices])
    assert len(set(written.tolist())) > 1
    torch.testing.assert_close(store.measurements([4, 0, 2]).sigma, written[[4, 0, 2]])
    objective = OBJECTIVES.build({"name": "ambient-tweedie"}, corruption=store.corruption())
    assert objective.floor == pytest.approx(float(written.min()))
    drawn = objective.corruption.noise.draw(500, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == set(written.tolist())
    assert store.described()["sigma"] == {"low": float(written.min()), "high": float(written.max())}
    OBJECTIVES.build({"name": "ambient"}, corruption=store.corruption())


def test_unknown_noise_is_refused_with_the_command_that_measures_it(simulate, prep, tmp_path):
    store = MeasurementStore(prep(simulate(tmp_path / "raw"), no_noise_whitening=True))
    assert not store.measurements([0]).sigma.any()
    assert "sigma" not in store.described()
    with pytest.raises(UsageError, match="prepare them again with mrigen prep-fastmri --noise-whitening"):
        OBJECTIVES.build({"name": "ambient-tweedie"}, corruption=store.corruption())


def test_compression_keeps_the_energy_of_redundant_coils(simulate, prep, tmp_path):
    """Eight coils that are mixtures of three: three virtual coils hold everything."""
    raw = simulate(tmp_path / "raw", coils=3, snr="inf", volumes=1)
    with h5py.File(raw / "simulated_0000.h5") as file:
        kspace = file["kspace"][()]
    mixing = np.linalg.qr(noise(np.random.default_rng(3), 8, 3))[0]
    (tmp_path / "eight").mkdir()
    eight = np.einsum("vc,schw->svhw", mixing, kspace).astype(np.complex64)
    write_scan(tmp_path / "eight" / "scan.h5", eight)
    folder = prep(tmp_path / "eight", virtual_coils=3, no_noise_whitening=True)
    arrays, samples = dense(folder, "scan.h5")
    measured = kspace * arrays["mask"][:, None]
    energy = (np.abs(measured) ** 2).sum((1, 2, 3)) / arrays["scale"] ** 2
    np.testing.assert_allclose((np.abs(samples) ** 2).sum((1, 2, 3)), energy, rtol=1e-4)


def test_the_mismatch_is_zero_for_data_of_the_model_and_known_otherwise(generator):
    """k = M F S x gives 0; an added part orthogonal to the range of A gives its share of the norm."""
    maps = torch.randn(2, 4, 12, 10, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    operator = MultiCoilMRI(maps, torch.ones(1, 1, 1, 10, dtype=torch.bool))
    x = torch.randn(2, 1, 12, 10, dtype=torch.complex64, generator=generator)
    model = operator.forward(x)
    assert steps.mismatch(model, operator).max() < 1e-5
    other = torch.randn(model.shape, dtype=torch.complex64, generator=generator)
    other = other - operator.forward(operator.adjoint(other))
    mixed = model + 0.1 * other
    share = 0.1 * other.flatten(1).norm(dim=1) / mixed.flatten(1).norm(dim=1)
    torch.testing.assert_close(steps.mismatch(mixed, operator), share, rtol=1e-3, atol=0)


def test_maps_from_full_data_are_a_reported_leak(simulate, prep, tmp_path, capsys):
    raw = simulate(tmp_path / "raw", snr="inf", matrix=(48, 40))
    folder = prep(raw, maps_from="full", no_noise_whitening=True)
    out = capsys.readouterr().out
    assert "clean-data leak" in out
    assert "full" in MRIManifest.load(folder).clean_data_leak
    honest = MRIManifest.load(prep(raw, out="acs", no_noise_whitening=True))
    leaking = [s.mismatch for v in MRIManifest.load(folder).volumes for s in v.slices]
    assert np.median(leaking) < np.median([s.mismatch for v in honest.volumes for s in v.slices])


def test_maps_of_noiseless_data_fit_the_whole_kspace(simulate, prep, tmp_path):
    """Maps from the ACS lines explain the lines that were never measured."""
    raw = simulate(tmp_path / "raw", snr="inf", matrix=(64, 60), slices=2)
    prep(raw, no_noise_whitening=True, acs_lines=10, kernel_width=5, virtual_coils=0)
    arrays, _ = dense(tmp_path / "store", "simulated_0000.h5")
    with h5py.File(raw / "simulated_0000.h5") as file:
        images = centred_ifft(file["kspace"][()])
    combined = (arrays["maps"].conj() * images).sum(1, keepdims=True)
    left = np.linalg.norm(images - arrays["maps"] * combined) / np.linalg.norm(images)
    assert left < 0.03


def test_equispaced_masks_carry_a_warning(simulate, prep, tmp_path, capsys):
    prep(simulate(tmp_path / "raw"), mask="equispaced")
    assert "ambient training will refuse" in capsys.readouterr().out


def test_the_phase_of_the_acs_moves_into_the_maps(simulate, prep, tmp_path):
    """k-space of the model and magnitudes are the same; images lack a phase that the maps carry."""
    raw = simulate(tmp_path / "raw", matrix=(32, 32))
    plain, turned = (prep(raw, out=name, phase=name) for name in ("coil", "acs"))
    a, b = MeasurementStore(plain), MeasurementStore(turned)
    indices = list(range(len(a)))
    before, after = a.measurements(indices), b.measurements(indices)
    assert torch.equal(before.y, after.y)
    torch.testing.assert_close(after.operator.maps.abs(), before.operator.maps.abs())
    x, rotated = (ReferenceStore(f"{folder}-reference").images(indices) for folder in (plain, turned))
    torch.testing.assert_close(rotated.abs(), x.abs())
    torch.testing.assert_close(
        after.operator.forward(rotated), before.operator.forward(x), atol=1e-5, rtol=1e-4
    )
    real = rotated.real.square().sum() / rotated.abs().square().sum()
    assert real > 0.95 > 2 * (x.real.square().sum() / x.abs().square().sum() - 0.5) + 0.5
    assert b.described()["phase"] == "acs"
    with pytest.raises(UsageError, match="relative to acs, the model's are relative to coil"):
        b.corruption(described=a.described())


def test_low_resolution_phase_is_that_of_the_object():
    """One coil of a constant phase: e^{iφ} exactly, and 1 where nothing was measured."""
    image = torch.ones(1, 1, 8, 8) * torch.exp(torch.tensor(0.7j))
    from mrigen import fourier

    kspace = fourier.fft(image) * centred(8, 4)
    phase = steps.low_resolution_phase(kspace, torch.ones(1, 1, 8, 8, dtype=torch.complex64))
    torch.testing.assert_close(phase, torch.exp(torch.tensor(0.7j)).expand(1, 8, 8))
    assert (steps.low_resolution_phase(0 * kspace, torch.ones_like(kspace)) == 1).all()
