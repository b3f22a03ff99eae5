"""``mrigen info`` of everything that mrigen reads, and magnitude images as sets."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from format_files import CHOOSE, COILS, HEIGHT, SLICES, WIDTH, WRITERS, kspace, lines, mrd, npy
from PIL import Image

from mrigen.cli.main import run
from mrigen.data.images import write_images
from mrigen.data.pixels import ImageError
from mrigen.data.stores import open_store
from mrigen.prep.images.sources import open_set

MASK = lines()
K = kspace(0.01)


@pytest.fixture
def info(capsys):
    def call(path, *more, code=0):
        capsys.readouterr()
        assert run(["info", str(path), "--json", *more]) == code
        said = capsys.readouterr()
        return json.loads(said.out) if code == 0 else said.err

    return call


@pytest.mark.parametrize("kind", sorted(WRITERS.keys() - {"fastmri-prostate"}))
def test_raw_kspace_of_every_format(kind, info, tmp_path):
    full = info(WRITERS[kind](tmp_path, K))
    assert (full["slices"], full["coils"], full["matrix"]) == (SLICES, COILS, [HEIGHT, WIDTH])
    assert full["sampling"] == "fully sampled"
    assert full["noise_sigma"] == pytest.approx(0.01 / 2**0.5, rel=0.3)
    if CHOOSE.get(kind):
        assert full["choices"] == {"echo": 2}
    folder = tmp_path / "under"
    folder.mkdir()
    under = info(WRITERS[kind](folder, (K * MASK).astype(np.complex64), MASK))
    assert under["sampling"] == "lines, every 3."
    assert under["acceleration"] == pytest.approx(WIDTH / MASK.sum(), abs=1e-3)
    assert under["acs_lines"] == centre_run()
    known = "unknown" not in under["orientation"]
    assert known == (kind in {"mrd", "siemens"})


def centre_run():
    first = last = WIDTH // 2
    while MASK[first - 1]:
        first -= 1
    while MASK[last + 1]:
        last += 1
    return last - first + 1


def test_prostate(info, tmp_path):
    found = info(WRITERS["fastmri-prostate"](tmp_path, K))
    assert found["format"] == "fastMRI prostate HDF5"
    assert "3 averages were averaged" in found["notes"]


def test_snr_and_geometry(info, tmp_path):
    found = info(mrd(tmp_path, K))
    image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(K[1], (-2, -1)), norm="ortho"), (-2, -1))
    bright = np.sqrt((np.abs(image) ** 2).sum(0))
    expected = (
        bright[bright >= np.sort(bright.ravel())[int(0.9 * bright.size) - 1]].mean() / found["noise_sigma"]
    )
    assert found["snr"] == pytest.approx(expected, rel=1e-2)
    assert found["voxel_mm"] == [7.0, 7.0, 6.5]
    assert (found["slice_thickness_mm"], found["slice_gap_mm"]) == (5.0, 1.5)
    assert found["orientation"].startswith("axial")


def test_points_and_partial_echoes(info, tmp_path):
    points = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.4
    points[HEIGHT // 2 - 5 : HEIGHT // 2 + 5, WIDTH // 2 - 5 : WIDTH // 2 + 5] = True
    found = info(npy(tmp_path, (K * points).astype(np.complex64)))
    assert found["sampling"] == "points in two directions"
    assert min(found["acs"]) >= 10
    assert found["acceleration"] == pytest.approx(points.size / points.sum(), abs=1e-3)
    echo = K.copy()
    echo[:, :, :6] = 0
    assert "partial echo" in info(npy(tmp_path, echo))["sampling"]


def test_the_terminal_and_the_png(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = npy(tmp_path, K)
    assert run(["info", str(path)]) == 0
    picture = [line for line in capsys.readouterr().out.splitlines() if "@" in line]
    assert 4 <= len(picture) <= 40
    assert max(map(len, picture)) == 38
    assert run(["info", str(path), "--png", str(tmp_path / "look.png")]) == 0
    assert "@" not in capsys.readouterr().out
    page = np.asarray(Image.open(tmp_path / "look.png"))
    assert page.shape == (HEIGHT, WIDTH)
    assert page.max() == 255
    assert page[:3, :3].max() < 60


def test_stores_models_and_their_damage(info, tmp_path):
    raw = WRITERS["fastmri"](tmp_path, K)
    store = tmp_path / "store"
    options = ["--acceleration", "2", "--acs-lines", "8", "--kernel-width", "4", "--jobs", "1"]
    assert run(["prep-fastmri", str(raw), "--out", str(store), *options]) == 0
    found = info(store)
    assert (found["what"], found["images"], found["checksums"]) == ("store", SLICES, "sound")
    assert found["acceleration"] == pytest.approx(
        open_store(store).manifest.volumes[0].slices[0].acceleration, rel=0.01
    )
    found = info(tmp_path / "store-reference")
    assert (found["kind"], found["images"], found["splits"]) == ("reference", SLICES, ["train"])
    file = store / "scan.h5"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)
    assert run(["info", str(store)]) == 1


def test_model_folders(info, tmp_path):
    import safetensors.torch as weights

    from mrigen.channels import ChannelLayout
    from mrigen.checkpoints.description import ModelDescription
    from mrigen.model import Model

    del weights
    description = ModelDescription(
        network={"name": "song-unet", "resolution": 8, "in_channels": 1, "out_channels": 1, "model_channels":
        8,
                 "channel_mult": (1,), "num_blocks": 1, "attn_resolutions": ()},
        preconditioner={"name": "edm"},
        conventions=ChannelLayout(image="real", image_channels=1, mask_channels=0, ones_channel=False),
        image_shape=(1, 8, 8),
    )  # fmt: skip
    Model.random_init(description).save(tmp_path / "model")
    found = info(tmp_path / "model")
    assert (found["what"], found["image_shape"], found["checksums"]) == (
        "model folder, a teacher",
        [1, 8, 8],
        "sound",
    )


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_sets_of_pictures(kind, info, tmp_path):
    folder = tmp_path / "set"
    for name in ("train/a/0.png", "train/b/1.png", "test/a/2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 5, 3), 7, np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("x")
    path = folder
    if kind != "folder":
        archive = shutil.make_archive(str(tmp_path / "set"), {"zip": "zip", "tar.gz": "gztar"}[kind], folder)
        path = Path(archive)
    found = info(path)
    assert found["what"] == f"{'folder' if kind == 'folder' else 'archive'} of 3 pictures"
    assert (found["matrix"], found["channels"], found["splits"]) == ([6, 5], 3, {"train": 2, "test": 1})
    assert (found["folders"], found["other_files"]) == (3, 1)


@pytest.mark.parametrize("ending", ["npz", "npy", "h5"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.complex64])
def test_arrays_of_images(ending, kind, info, tmp_path):
    pixels = (np.arange(3 * 64).reshape(3, 1, 8, 8) % 2).astype(kind) * (2 if kind is np.float32 else 1)
    pixels = pixels - 1 if kind is np.float32 else pixels
    path = tmp_path / f"x.{ending}"
    if ending == "h5":
        write_images(path, [0, 1, 2], [torch.from_numpy(pixels)])
    else:
        np.savez(path, images=pixels) if ending == "npz" else np.save(path, pixels)
    if ending != "h5" and kind is np.complex64:  # arrays of complex numbers are k-space
        assert info(path)["what"] == "raw k-space"
        return
    found = info(path)
    assert (found["images"], found["matrix"], found["channels"]) == (3, [8, 8], 1)
    assert found["what"] == ("complex images" if kind is np.complex64 else "images in [-1, 1]")


def test_what_nothing_can_be_done_with(info, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "no format that mrigen knows" in info(tmp_path / "notes.txt", code=2)
    assert "no such file" in info(tmp_path / "gone", code=2)
    WRITERS["mrd"](tmp_path, K)
    assert "give one of them (scan.mrd)" in info(tmp_path, code=2)


def head(number=0):
    rng = np.random.default_rng(number)
    return (1000 * rng.random((12, 10, 4))).astype(np.int16)  # x, y, z


def test_nifti_and_bids_as_image_sets(info, tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text("{}")
    nibabel.save(nibabel.Nifti1Image(head(), np.diag([2, 3, 4, 1])), anat / "sub-01_T1w.nii.gz")
    nibabel.save(nibabel.Nifti1Image(head(1), np.eye(4)), anat / "sub-01_part-phase_T1w.nii.gz")
    found = open_set(str(tmp_path))
    assert [item.name for item in found.items][:1] == ["sub-01/anat/sub-01_T1w/0000"]
    assert len(found) == 4
    picture = found.picture(2)
    values = np.asarray(picture.image)
    peak = np.quantile(head(), 0.999)
    np.testing.assert_allclose(values, np.minimum(head()[:, ::-1, 2].T, peak), atol=1e-3)
    assert picture.peak == pytest.approx(peak)
    said = info(tmp_path)
    assert (said["voxel_mm"], said["slices"], said["volumes"]) == ([3.0, 2.0, 4.0], 4, 1)
    assert said["orientation"] == "axes run to R, A, S"
    assert "implicit data crimes" in said["notes"][0]


def write_series(folder, uid="1.2.3"):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir(exist_ok=True, parents=True)
    for number, z in enumerate([6.0, 0.0, 3.0]):  # not in the order of their files
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.SeriesInstanceUID, data.InstanceNumber = uid, number + 1
        data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, z]
        data.PixelSpacing, data.SliceThickness, data.SpacingBetweenSlices = [0.5, 0.75], 2, 3
        data.Rows, data.Columns, data.SamplesPerPixel = 10, 12, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.RescaleSlope, data.RescaleIntercept = 2, 1
        data.PixelData = np.full((10, 12), 10 * int(z) + 1, np.uint16).tobytes()
        data.save_as(folder / f"IM{number}", enforce_file_format=True)


def test_dicom_series_are_sorted_by_position(info, tmp_path):
    write_series(tmp_path / "study")
    found = open_set(str(tmp_path / "study"))
    values = [np.asarray(found.picture(i).image)[0, 0] for i in range(3)]
    assert values[:2] == [3.0, 63.0]
    said = info(tmp_path / "study")
    assert (said["format"], said["slices"], said["voxel_mm"]) == ("DICOM", 3, [0.5, 0.75, 3.0])
    assert said["orientation"] == "axial; columns and rows run to L, P"


def test_prepared_magnitude_images_carry_the_warning(tmp_path, capsys):
    write_series(tmp_path / "study")
    options = ["--size", "8", "--jobs", "1", "--operator", "identity", "--noise", "0.1"]
    done = run(["prep-images", str(tmp_path / "study"), "--out", str(tmp_path / "store"), *options])
    said = capsys.readouterr()
    assert done == 0, said.err
    assert "implicit data crimes" in " ".join(said.out.split())
    assert len(open_store(tmp_path / "store", None)) == 3


def test_other_files_of_a_series_are_counted(tmp_path):
    """Cut off before the pixels, or no image at all."""
    write_series(tmp_path / "study")
    one = tmp_path / "study" / "IM1"
    one.write_bytes(one.read_bytes()[:400])
    (tmp_path / "study" / "notes.txt").write_text("x")
    found = open_set(str(tmp_path / "study"))
    assert (len(found), found.ignored) == (2, 2)


def test_values_that_are_no_magnitudes(info, tmp_path):
    data = head().astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data - 500, np.eye(4)), tmp_path / "negative.nii")
    with pytest.warns(UserWarning, match="negative values, which become black"):
        assert np.asarray(open_set(str(tmp_path / "negative.nii")).picture(0).image).min() == 0
    data[3, 4, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "nan.nii")
    found = open_set(str(tmp_path / "nan.nii"))
    found.picture(1)
    with pytest.raises(ImageError, match="NaN"):
        found.picture(2)
    assert run(["info", str(tmp_path / "nan.nii")]) == 0
    colour = np.zeros((4, 5, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "colour.nii")
    assert "is in colour" in info(tmp_path / "colour.nii", code=2)


def test_a_missing_pydicom_is_named(info, tmp_path, monkeypatch):
    import sys

    write_series(tmp_path / "study")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "pip install 'mrigen[dicom]'" in info(tmp_path / "study" / "IM0", code=2)
