"""Every reader: the same volume from every format, choices, what is left out, what is refused."""

import h5py
import numpy as np
import pytest
import torch
from format_files import CHOOSE, COILS, HEIGHT, SLICES, WIDTH, WRITERS, fastmri, header, kspace, lines, mrd
from format_files import siemens as siemens_file

from mrigen import fourier
from mrigen.cli.main import run
from mrigen.errors import UsageError
from mrigen.prep import ismrmrd as header_xml
from mrigen.prep.readers import READERS, find_reader, inspect, open_slices
from mrigen.prep.readers.bart import read_cfl, write_cfl

K, MASK = kspace(), lines()
SOLVE = ["--solver", "cg-sense", "--kernel-width", "4", "--device", "cpu"]


def name_of(kind):
    return {"npy": "numpy", "matlab 7.3": "matlab"}.get(kind, kind)


def rows(path, slices=range(SLICES), **more):
    scan = inspect(path, **more)
    with open_slices(scan, **more) as read:
        return scan, read(list(slices)).numpy()


def test_every_reader_has_a_writer_here():
    assert {name_of(k) for k in WRITERS} | {"fastmri-breast"} == set(READERS.names())


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_volume_from_every_format(kind, tmp_path):
    path = WRITERS[kind](tmp_path, K)
    assert find_reader(path) == name_of(kind)
    scan, found = rows(path, choose=CHOOSE.get(kind, ""))
    assert (scan.slices, scan.coils, scan.height, scan.width) == (SLICES, COILS, HEIGHT, WIDTH)
    assert scan.mask is None
    np.testing.assert_allclose(found, K, atol=2e-6 * np.abs(K).max())


@pytest.mark.parametrize("kind", sorted(WRITERS.keys() - {"fastmri-prostate"}))
def test_what_was_measured_is_known_in_every_format(kind, tmp_path):
    path = WRITERS[kind](tmp_path, (K * MASK).astype(np.complex64), MASK)
    scan, found = rows(path, choose=CHOOSE.get(kind, ""))
    assert np.array_equal(np.broadcast_to(scan.mask, (HEIGHT, WIDTH)), np.broadcast_to(MASK, (HEIGHT, WIDTH)))
    np.testing.assert_allclose(found, K * MASK, atol=2e-6 * np.abs(K).max())


def test_the_content_counts_and_not_the_name(tmp_path):
    for kind in ("fastmri", "mrd", "matlab", "siemens"):
        folder = tmp_path / kind
        folder.mkdir()
        path = WRITERS[kind](folder, K)
        assert find_reader(path.rename(folder / "renamed.bin")) == kind


@pytest.fixture(scope="module")
def reconstructions(tmp_path_factory):
    """The volume's reconstruction from seven formats."""
    found = {}
    for kind in ("fastmri", "numpy", "npy", "bart", "matlab", "matlab 7.3", "mrd", "siemens"):
        folder = tmp_path_factory.mktemp("formats")
        path = WRITERS[kind](folder, (K * MASK).astype(np.complex64), MASK)
        assert run(["reconstruct", str(path), "--out", str(folder / "out"), *SOLVE]) == 0
        with h5py.File(folder / "out" / "reconstruction.h5") as file:
            found[kind] = file["image"][()]
    return found


@pytest.mark.parametrize("kind", ["numpy", "npy", "bart", "matlab", "matlab 7.3", "mrd", "siemens"])
def test_the_same_reconstruction_from_every_format(kind, reconstructions):
    """Whatever the format, to 1e-6 of the largest value."""
    one, other = reconstructions["fastmri"], reconstructions[kind]
    assert one.shape == (SLICES, 1, HEIGHT, WIDTH)
    assert np.abs(one).max() > 0.1
    np.testing.assert_allclose(other, one, atol=1e-6 * np.abs(one).max())


@pytest.fixture(scope="module")
def scales(tmp_path_factory):
    """What the slices were divided by, in stores of the volume from every format."""
    found = {}
    options = ["--acceleration", "2", "--acs-lines", "8", "--kernel-width", "4", "--jobs", "1"]
    for kind, writer in WRITERS.items():
        folder = tmp_path_factory.mktemp("prep")
        path, store = writer(folder, K), folder / "store"
        more = ["--no-noise-whitening", "--choose", CHOOSE.get(kind, "")]
        assert run(["prep-fastmri", str(path), "--out", str(store), *options, *more]) == 0
        with h5py.File(store / f"{path.stem}.h5") as file:
            found[kind] = file["scale"][()]
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_prep_takes_every_format(kind, scales):
    """Masks depend on the names, but the ACS and so the scale do not."""
    np.testing.assert_allclose(scales[kind], scales["fastmri"], rtol=1e-5)


def test_a_folder_of_several_formats_becomes_one_store(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, kind in enumerate(("fastmri", "mrd", "bart", "matlab", "npy", "siemens")):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = WRITERS[kind](folder, K)
        for file in folder.iterdir():
            file.rename(raw / f"{kind}{file.suffix}")
        assert path.suffix
    options = ["--acceleration", "2", "--acs-lines", "8", "--kernel-width", "4", "--jobs", "1"]
    assert (
        run(["prep-fastmri", str(raw), "--out", str(tmp_path / "store"), "--no-noise-whitening", *options])
        == 0
    )
    scales = {}
    for path in (tmp_path / "store").glob("*.h5"):
        with h5py.File(path) as file:
            scales[path.stem] = file["scale"][()]
    assert set(scales) == {"fastmri", "mrd", "bart", "matlab", "npy", "siemens"}
    # masks depend on the names, but the ACS and so the scale do not
    for scale in scales.values():
        np.testing.assert_allclose(scale, scales["fastmri"], rtol=1e-5)


def test_choices_must_be_made(tmp_path):
    path = WRITERS["skm-tea"](tmp_path, K)
    with pytest.raises(UsageError, match="holds 2 echos: choose with --choose echo=0"):
        inspect(path)
    _, second = rows(path, choose="echo=1")
    np.testing.assert_allclose(second, 0.5 * K, atol=2e-6 * np.abs(K).max())
    both, stacked = rows(path, range(2 * SLICES), choose="echo=all")
    assert both.slices == 2 * SLICES
    np.testing.assert_allclose(stacked[SLICES:], 0.5 * K, atol=2e-6 * np.abs(K).max())
    with pytest.raises(UsageError, match="there are 2"):
        inspect(path, choose="echo=2")
    with pytest.raises(UsageError, match="the file has echo"):
        inspect(path, choose="contrast=0")
    with pytest.raises(UsageError, match="write it as"):
        inspect(path, choose="echo")


def test_frames_of_matlab(tmp_path):
    """CMRxRecon's (kx, ky, coils, slices, frames), stored the other way round."""
    path = WRITERS["matlab 7.3"](tmp_path, np.stack([K, 2 * K]))
    with pytest.raises(UsageError, match="2 frames"):
        inspect(path)
    _, found = rows(path, choose="frame=1")
    np.testing.assert_allclose(found, 2 * K, atol=2e-6 * np.abs(K).max())


def test_single_coil_of_cmrxrecon(tmp_path):
    path = WRITERS["matlab 7.3"](tmp_path, K[:, 0], name="kspace_single_full")
    scan, found = rows(path)
    assert (scan.slices, scan.coils) == (SLICES, 1)
    np.testing.assert_allclose(found[:, 0], K[:, 0], atol=2e-6 * np.abs(K).max())


def test_bart_dimensions(tmp_path):
    """READ of 1 makes PHS1 and PHS2 the plane; averages are averaged; maps are not k-space."""
    plane = K[0].transpose(1, 2, 0)[None]
    write_cfl(tmp_path / "plane.cfl", plane)
    assert read_cfl(tmp_path / "plane.cfl").shape == (1, HEIGHT, WIDTH, COILS, *[1] * 12)
    _, found = rows(tmp_path / "plane.cfl", [0])
    np.testing.assert_array_equal(found[0], K[0])
    averaged = np.zeros((HEIGHT, WIDTH, 1, COILS, *[1] * 10, 3), np.complex64)
    for average, part in enumerate((MASK, ~MASK, MASK)):
        averaged[..., 0, :, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, average] = (K[1] * part).transpose(1, 2, 0)
    write_cfl(tmp_path / "averages.cfl", averaged)
    scan, found = rows(tmp_path / "averages.cfl", [0])
    np.testing.assert_allclose(found[0], K[1], atol=1e-6 * np.abs(K).max())
    assert scan.notes == ("3 averages were averaged",)
    write_cfl(tmp_path / "maps.cfl", np.ones((8, 8, 1, 4, 2)))
    with pytest.raises(UsageError, match="2 sets of maps"):
        inspect(tmp_path / "maps.cfl")
    (tmp_path / "maps.hdr").write_text("# Dimensions\n8 8 1 4 3\n")
    with pytest.raises(UsageError, match="copy both files again"):
        inspect(tmp_path / "maps.cfl")


def volume(*, undersampled):
    """k-space of a volume (coils, partitions, readout, phase encodes), and the images of its slices."""
    images = fourier.ifft(torch.from_numpy(K)).numpy()  # (partitions, coils, H, W)
    k = fourier.fft(torch.from_numpy(images.transpose(1, 0, 2, 3).copy()), (-3, -2, -1)).numpy()
    if undersampled:
        k[:, 0, :, ::3] = 0
        k[:, 2, :, 1::5] = 0
    return k, images


@pytest.mark.parametrize("undersampled", [False, True])
def test_three_dimensional_bart(undersampled, tmp_path):
    """Slices along the partitions, or along the readout where lines of single partitions are missing."""
    k, images = volume(undersampled=undersampled)
    write_cfl(tmp_path / "volume.cfl", k.transpose(2, 3, 1, 0))
    scan, found = rows(tmp_path / "volume.cfl", range(HEIGHT if undersampled else SLICES))
    if not undersampled:
        np.testing.assert_allclose(found, K, atol=3e-6 * np.abs(K).max())
        return
    assert (scan.slices, scan.height, scan.width) == (HEIGHT, WIDTH, SLICES)
    hybrid = fourier.fft(torch.from_numpy(images.transpose(2, 1, 3, 0).copy())).numpy()
    expected = np.where((k[0, :, 0] != 0).T, hybrid, 0)
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(hybrid).max())
    assert np.array_equal(scan.mask, (k[0, :, 0] != 0).T)


def test_mrd_leaves_out_what_is_no_image(tmp_path):
    import ismrmrd

    def more(dataset, acquisition):
        for flag in ("NAVIGATION_DATA", "PHASECORR_DATA", "RTFEEDBACK_DATA", "DUMMYSCAN_DATA"):
            one = acquisition(np.full((COILS, HEIGHT), 1e3), 5, 1)
            one.set_flag(getattr(ismrmrd, f"ACQ_IS_{flag}"))
            dataset.append_acquisition(one)
        other = acquisition(np.full((COILS, HEIGHT), 1e3), 5, 1)
        other.encoding_space_ref = 1
        dataset.append_acquisition(other)

    scan, found = rows(mrd(tmp_path, K, more=more))
    np.testing.assert_allclose(found, K, atol=1e-6)
    said = " ".join(scan.notes)
    for word in ("navigation", "phase correction", "feedback", "dummy", "encoding spaces"):
        assert word in said


def test_mrd_averages_contrasts_and_reversed_lines(tmp_path):
    import ismrmrd

    def more(dataset, acquisition):
        for line in range(WIDTH):
            second = acquisition(K[0, :, :, line] + 2, line, 0)
            second.idx.average = 1
            dataset.append_acquisition(second)
            later = acquisition(K[0, :, ::-1, line], line, 0, contrast=1)
            later.set_flag(ismrmrd.ACQ_IS_REVERSE)
            dataset.append_acquisition(later)

    path = mrd(tmp_path, K[:1], more=more)
    with pytest.raises(UsageError, match="2 contrasts"):
        inspect(path)
    _, found = rows(path, [0], choose="contrast=0")
    np.testing.assert_allclose(found[0], K[0] + 1, atol=1e-5)
    scan, found = rows(path, [0], choose="contrast=1")
    np.testing.assert_allclose(found[0], K[0], atol=1e-6)
    assert any("not corrected" in note for note in scan.notes)


def test_mrd_partial_fourier_and_asymmetric_echoes_stand_where_they_belong(tmp_path):
    """The first lines are missing and the header says where DC is; the first samples too."""
    from dataclasses import replace

    first, cut = 6, 8
    xml = header_xml.write(replace(header(), centre=WIDTH // 2 - first, maximum=WIDTH - first - 1), {})
    partial = mrd(tmp_path, K[..., first:], xml=xml)
    scan, found = rows(partial)
    expected = np.where(np.arange(WIDTH) >= first, K, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert scan.mask is None
    assert scan.header.acquired_lines(WIDTH) == (first, WIDTH)

    def echo(dataset, acquisition):
        for number in range(SLICES):
            for line in range(WIDTH):
                short = acquisition(K[number, :, cut:, line], line, number, center_sample=HEIGHT // 2 - cut)
                dataset.append_acquisition(short)

    (tmp_path / "echo").mkdir()
    scan, found = rows(mrd(tmp_path / "echo", K[:0], more=echo))
    np.testing.assert_allclose(found, np.where(np.arange(HEIGHT)[:, None] >= cut, K, 0), atol=1e-6)
    assert scan.mask.shape == (HEIGHT, WIDTH)
    assert not scan.mask[:cut].any()
    assert scan.mask[cut:].all()


def test_a_radial_file_is_named(tmp_path):
    xml = header_xml.write(header(), {}).replace(b"cartesian", b"radial")
    with pytest.raises(UsageError, match="is radial, and only Cartesian"):
        inspect(mrd(tmp_path, K[:1], xml=xml))
    with h5py.File(tmp_path / "breast.h5", "w") as file:
        file["kspace"] = np.zeros((2, 3, 4, 8, 16), np.float32)
    assert find_reader(tmp_path / "breast.h5") == "fastmri-breast"
    with pytest.raises(UsageError, match="radial stack of stars"):
        inspect(tmp_path / "breast.h5")


def test_siemens_leaves_out_phase_correction(tmp_path):
    scan = inspect(siemens_file(tmp_path, K))
    assert scan.notes == ("1 phase correction lines are left out",)
    assert scan.header.encoded_matrix == (HEIGHT, WIDTH, 1)


@pytest.mark.parametrize("package", ["twixtools"])
def test_a_missing_package_is_named_with_its_command(package, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=r"pip install 'mrigen\[siemens\]'"):
        inspect(siemens_file(tmp_path, K)) if package not in sys.modules else inspect(_siemens(tmp_path))


def _siemens(folder):
    """Bytes that begin as Siemens raw data, made without the package."""
    import struct

    path = folder / "scan.dat"
    path.write_bytes(struct.pack("<IIIIQQ", 0, 1, 1, 1, 10240, 5000) + bytes(16000))
    return path


def test_damaged_files_give_one_line(tmp_path):
    """Cut off in the middle, whatever the format."""
    for kind in sorted(WRITERS):
        folder = tmp_path / kind
        folder.mkdir()
        path = WRITERS[kind](folder, K)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(UsageError) as error:
            rows(path, [0, SLICES - 1], choose=CHOOSE.get(kind, ""))
        assert str(path.with_suffix("")) in str(error.value)
        assert "\n" not in str(error.value)


def test_other_files_are_named_for_what_they_are(tmp_path, capsys):
    for name, content, word in [
        ("scan.pdf", b"%PDF-1.7", "PDF document"),
        ("P12345.7", b"\x00" * 100, "GE P-file"),
        ("scan.raw", b"\x00" * 100, "Philips data"),
        ("scan.xyz", b"hello", "no format that mrigen knows"),
    ]:
        (tmp_path / name).write_bytes(content)
        assert run(["reconstruct", str(tmp_path / name), "--out", str(tmp_path / "out"), *SOLVE]) == 2
        said = capsys.readouterr().err
        assert word in said
        assert "formats that are read" in said


def test_a_format_can_be_forced(tmp_path):
    path = fastmri(tmp_path, K)
    with pytest.raises(UsageError, match="group with `xml` and `data`"):
        inspect(path, "mrd")
    with pytest.raises(UsageError, match="unknown format"):
        inspect(path, "mdr")


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Errors against the fully sampled image, of scans that are undersampled here."""
    import json

    found = {}
    for kind, writer in WRITERS.items():
        folder = tmp_path_factory.mktemp("errors")
        path = writer(folder, K)
        path = (
            path if kind == "bart" else path.rename(path.with_name(f"scan{path.suffix}"))
        )  # masks follow the name
        options = ["--acceleration", "2", "--acs-lines", "8", "--choose", CHOOSE.get(kind, "")]
        assert run(["reconstruct", str(path), "--out", str(folder / "out"), *SOLVE, *options]) == 0
        found[kind] = json.loads((folder / "out" / "metrics.json").read_text())["mean"]["nrmse"]
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_errors_against_the_full_image_in_every_format(kind, errors):
    assert 0 < errors["fastmri"] < 0.5
    assert errors[kind] == pytest.approx(errors["fastmri"], rel=0.02)


def test_coil_maps_of_bart(tmp_path):
    from sigpy.mri import birdcage_maps

    from mrigen.reconstruction.coil_maps import open_maps

    maps = np.stack([birdcage_maps((COILS, HEIGHT, WIDTH))] * 2).astype(np.complex64)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(1, keepdims=True))
    stored = np.zeros((HEIGHT, WIDTH, 1, COILS, *[1] * 9, 2), np.complex64)
    stored[:, :, 0, :, 0, 0, 0, 0, 0, 0, 0, 0, 0] = maps.transpose(2, 3, 1, 0)
    write_cfl(tmp_path / "maps.cfl", stored)
    found = open_maps(tmp_path / "maps.cfl")
    assert found.shape == maps.shape
    np.testing.assert_allclose(found.read([1, 0], (HEIGHT, WIDTH)).numpy(), maps[::-1], atol=1e-6)
    write_cfl(tmp_path / "two.cfl", np.ones((8, 8, 1, 4, 2)))
    with pytest.raises(UsageError, match="ecalib -m 1"):
        open_maps(tmp_path / "two.cfl")


def test_lines_that_not_all_slices_hold_are_left_out(tmp_path):
    def more(dataset, acquisition):
        dataset.append_acquisition(acquisition(K[0, :, :, 1], 1, 0))

    assert not MASK[1]
    scan, found = rows(mrd(tmp_path, K, MASK, more=more))
    assert np.array_equal(scan.mask, MASK)
    np.testing.assert_allclose(found, K * MASK, atol=1e-6)
    assert any("slices hold different lines" in note for note in scan.notes)
