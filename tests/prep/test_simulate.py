"""Simulated volumes: fastMRI's layout, the stated noise, and nothing but the seed behind them."""

import h5py
import numpy as np
import pytest
from fastmri.data import SliceDataset

from mrigen.cli.main import run
from mrigen.prep import ismrmrd

from .scans import centred_ifft, digests


def kspace_of(path):
    with h5py.File(path) as file:
        return file["kspace"][()]


def test_fastmri_reads_the_volumes(simulate, tmp_path):
    """The exact layout of fastMRI, oversampled readout and zero-padded edges included."""
    raw = simulate(tmp_path / "raw", matrix=(32, 29), coils=3, oversampling=2, padded_lines=3)
    dataset = SliceDataset(raw, "multicoil")
    assert len(dataset) == 6
    kspace, mask, target, attributes, name, index = dataset[4]
    assert (kspace.shape, kspace.dtype) == ((3, 64, 29), np.complex64)
    assert mask is None
    assert (target.shape, target.dtype) == ((32, 29), np.float32)
    assert (name, index) == ("simulated_0001.h5", 1)
    assert (attributes["padding_left"], attributes["padding_right"]) == (3, 26)
    assert attributes["encoding_size"] == (64, 29, 1)
    assert attributes["recon_size"] == (32, 29, 1)
    assert attributes["acquisition"] == "AXT1"
    assert attributes["patient_id"] == "simulated_0001"
    with h5py.File(raw / name) as file:
        everything = file["reconstruction_rss"][()]
        assert set(file) == {"kspace", "reconstruction_rss", "ismrmrd_header"}
        header = ismrmrd.parse(file["ismrmrd_header"][()])
    assert attributes["max"] == everything.max()
    assert attributes["norm"] == pytest.approx(np.linalg.norm(everything), rel=1e-6)
    assert header.readout_oversampling() == 2
    assert header.acquired_lines(29) == (3, 26)


def test_the_target_is_the_cropped_root_sum_of_squares(simulate, tmp_path):
    raw = simulate(tmp_path / "raw", matrix=(32, 29), coils=3, oversampling=2, padded_lines=2, volumes=1)
    with h5py.File(raw / "simulated_0000.h5") as file:
        kspace, target = file["kspace"][()], file["reconstruction_rss"][()]
    assert (kspace[..., :2] == 0).all()
    assert (kspace[..., -2:] == 0).all()
    assert (kspace[..., 2:-2] != 0).all()
    rss = np.sqrt((np.abs(centred_ifft(kspace)) ** 2).sum(1))
    np.testing.assert_allclose(target, rss[:, 16:48], rtol=1e-4, atol=1e-6 * rss.max())
    outside = np.concatenate([rss[:, :14], rss[:, 50:]], 1)
    assert outside.max() < 0.2 * target.max()


def test_one_coil_gives_the_single_coil_layout(simulate, tmp_path):
    raw = simulate(tmp_path / "raw", coils=1, volumes=1)
    kspace, _, target, *_ = SliceDataset(raw, "singlecoil")[0]
    assert kspace.shape == (32, 30)
    image = np.abs(centred_ifft(kspace))
    np.testing.assert_allclose(target, image, rtol=1e-4, atol=1e-6 * image.max())


def test_the_noise_is_what_snr_says(simulate, tmp_path):
    """Noise is the difference to the same volume without noise; σ · SNR is the RMS over the head."""
    options = {"matrix": (48, 45), "coils": 3, "volumes": 1, "slices": 6}
    noisy = kspace_of(simulate(tmp_path / "noisy", snr=20, **options) / "simulated_0000.h5")
    clean = kspace_of(simulate(tmp_path / "clean", snr="inf", **options) / "simulated_0000.h5")
    noise = (noisy - clean).astype(np.complex128)
    image = np.sqrt((np.abs(centred_ifft(clean)) ** 2).sum(1))
    rms = np.sqrt((image[image > 0.1 * image.max()] ** 2).mean())
    points = noise.size
    for component in (noise.real, noise.imag):
        assert component.std() * 20 == pytest.approx(rms, rel=6 / np.sqrt(2 * points))
    coils = noise.transpose(1, 0, 2, 3).reshape(3, -1)
    correlation = np.abs(np.corrcoef(coils) - np.eye(3))
    assert correlation.max() < 6 / np.sqrt(points / 3)


def test_volume_i_depends_on_the_seed_and_i_alone(simulate, tmp_path):
    few = digests(simulate(tmp_path / "few", seed=3))
    many = digests(simulate(tmp_path / "many", seed=3, volumes=4, jobs=2))
    other = digests(simulate(tmp_path / "other", seed=4))
    assert few == {name: many[name] for name in few}
    assert len(set(many.values())) == 4
    assert not set(other.values()) & set(many.values())


def test_a_second_run_writes_only_what_is_missing(simulate, tmp_path, capsys):
    raw = simulate(tmp_path / "raw", volumes=3)
    before = digests(raw)
    kept = (raw / "simulated_0000.h5").stat().st_mtime_ns
    (raw / "simulated_0001.h5").unlink()
    left = raw / ".simulated_0002.h5.0a1b2c3d-abcd1234.tmp"
    left.mkdir()
    (left / "part").write_bytes(b"half written")
    capsys.readouterr()
    simulate(raw, volumes=3)
    assert "1 volumes written, 2 skipped" in capsys.readouterr().out
    assert digests(raw) == before
    assert (raw / "simulated_0000.h5").stat().st_mtime_ns == kept


def test_heads_differ_and_stay_inside_the_field_of_view(tmp_path):
    """The bundled head: the border of every slice is air, and volumes are not alike."""
    command = ["simulate", "--out", str(tmp_path), "--matrix", "40", "32", "--slices", "4", "--volumes", "3"]
    assert run([*command, "--jobs", "1", "--snr", "200"]) == 0
    images = []
    for path in sorted(tmp_path.glob("*.h5")):
        with h5py.File(path) as file:
            images.append(file["reconstruction_rss"][()])
    images = np.stack(images)
    head = np.quantile(images, 0.9)
    assert images[:, :, [0, -1], :].max() < 0.2 * head
    assert images[:, :, :, [0, -1]].max() < 0.2 * head
    filled = (images > 0.3 * head).mean((2, 3))
    assert filled.min() > 0.15
    flat = images.reshape(3, -1)
    assert np.corrcoef(flat)[np.triu_indices(3, 1)].max() < 0.98


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr": 0}, "snr"),
        ({"coils": 0}, "coils"),
        ({"matrix": (4, 32)}, "matrix"),
        ({"padded_lines": 14}, "--padded-lines 14"),
        ({"slice_range": (0.8, 0.2)}, "lower first"),
    ],
)
def test_a_wrong_option_is_one_line(head, tmp_path, capsys, options, message):
    from .scans import arguments

    command = ["simulate", "--out", str(tmp_path / "raw"), "--anatomy", str(head), "--matrix", "32", "30"]
    assert run([*command, *arguments(options)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "raw").exists()


def test_other_parameters_are_refused(simulate, head, tmp_path, capsys):
    raw = simulate(tmp_path / "raw", volumes=1)
    before = digests(raw)
    command = ["simulate", "--out", str(raw), "--anatomy", str(head), "--slices", "3", "--matrix", "32", "30"]
    assert run([*command, "--seed", "1"]) == 2
    assert "seed 0 -> 1" in capsys.readouterr().err
    assert digests(raw) == before


def test_a_foreign_file_is_not_overwritten(simulate, head, tmp_path, capsys):
    tmp_path.joinpath("simulated_0000.h5").write_bytes(b"mine")
    assert run(["simulate", "--out", str(tmp_path), "--anatomy", str(head)]) == 2
    assert "in the way" in capsys.readouterr().err
    assert tmp_path.joinpath("simulated_0000.h5").read_bytes() == b"mine"


KINDS = ["missing", "text", "flat", "negative voxel", "zeros", "not finite", "complex"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_anatomy_is_one_line(tmp_path, capsys, kind):
    path = tmp_path / "anatomy.npz"
    volume = np.ones((4, 4, 4))
    match kind:
        case "text":
            path.write_text("no numbers")
        case "flat":
            np.savez(path, volume=volume[0])
        case "negative voxel":
            np.savez(path, volume=volume, voxel_mm=np.array([1, 1, -1]))
        case "zeros":
            np.savez(path, volume=0 * volume)
        case "not finite":
            np.savez(path, volume=volume * np.nan)
        case "complex":
            np.savez(path, volume=volume * 1j)
    assert run(["simulate", "--out", str(tmp_path / "raw"), "--anatomy", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "raw").exists()
