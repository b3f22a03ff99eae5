"""Geometry from headers into NIfTI and DICOM, and every format that reconstructions are written in."""

import json

import h5py
import nibabel
import numpy as np
import pytest
from format_files import (
    CENTRE,
    FOV,
    HEIGHT,
    ROTATIONS,
    SLICES,
    THICKNESS,
    WIDTH,
    fastmri,
    header,
    kspace,
    lines,
    mrd,
    npy,
)
from format_files import siemens as siemens_file

from mrigen.cli.main import run
from mrigen.data.slice_geometry import SliceGeometry
from mrigen.prep import ismrmrd as header_xml
from mrigen.prep.readers import inspect
from mrigen.prep.readers.bart import read_cfl

MASK = lines()
K = (kspace() * MASK).astype(np.complex64)
SPACING = (FOV[0] / HEIGHT, FOV[1] / WIDTH)
GAP = 1.5
SOLVE = ["--solver", "zero-filled", "--kernel-width", "4", "--device", "cpu"]
ALL = "h5,nifti,nifti-phase,nifti-complex,dicom,cfl,bids"


def reconstruct(path, out, formats, *more):
    assert run(["reconstruct", str(path), "--out", str(out), *SOLVE, "--format", formats, *more]) == 0


def position(directions, row, column, number, step=THICKNESS + GAP):
    """Where a pixel lies in RAS, by the header's own numbers: its formula, not the library's."""
    read, phase, across = directions
    place = CENTRE + (row - HEIGHT // 2) * SPACING[0] * read + (column - WIDTH // 2) * SPACING[1] * phase
    place = place + number * step * across
    return place * [-1, -1, 1]


@pytest.mark.parametrize("name", ROTATIONS)
def test_eight_orientations_are_right_within_a_tenth_of_a_millimetre(name, tmp_path):
    directions = ROTATIONS[name]
    path = mrd(tmp_path, K, MASK, directions=directions, gap=GAP)
    reconstruct(path, tmp_path / "out", "nifti,h5")
    image = nibabel.load(tmp_path / "out" / "magnitude.nii.gz")
    assert image.shape == (WIDTH, HEIGHT, SLICES)
    for row, column, number in np.ndindex(2, 2, 2):
        voxel = (column * (WIDTH - 1), row * (HEIGHT - 1), number * (SLICES - 1))
        found = nibabel.affines.apply_affine(image.affine, voxel)
        expected = position(directions, voxel[1], voxel[0], voxel[2])
        assert np.abs(found - expected).max() < 0.1
    assert image.header["qform_code"] == image.header["sform_code"] == 1
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
    np.testing.assert_allclose(image.header.get_zooms(), [*SPACING[::-1], THICKNESS + GAP], atol=1e-4)
    geometry = inspect(path).geometry
    assert geometry.gap == pytest.approx(GAP, abs=1e-3)
    codes = nibabel.aff2axcodes(geometry.affine(HEIGHT, WIDTH))
    if np.abs(directions).max(1).min() > 0.9:
        assert "".join(codes) == geometry.axis_codes()


@pytest.mark.filterwarnings("ignore:The DICOM readers")
@pytest.mark.parametrize("name", ["axial", "sagittal", "oblique"])
def test_dicom_and_nifti_agree(name, tmp_path):
    """nibabel's own reading of the enhanced MR file against the NIfTI affine (DICOM is LPS, rows first)."""
    pytest.importorskip("pydicom")
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    path = mrd(tmp_path, K, MASK, directions=ROTATIONS[name], gap=GAP)
    reconstruct(path, tmp_path / "out", "dicom,nifti")
    nifti = nibabel.load(tmp_path / "out" / "magnitude.nii.gz")
    wrapped = wrapper_from_file(tmp_path / "out" / "image.dcm")
    values = wrapped.get_data()  # (rows, columns, frames)
    magnitude = np.asarray(nifti.dataobj).transpose(1, 0, 2)
    np.testing.assert_allclose(values, magnitude, atol=magnitude.max() / 65535)
    lps_to_ras = np.diag([-1, -1, 1, 1])
    for row, column, number in [(0, 0, 0), (HEIGHT - 1, 3, SLICES - 1), (5, WIDTH - 1, 1)]:
        one = lps_to_ras @ wrapped.affine @ [row, column, number, 1]
        other = nifti.affine @ [column, row, number, 1]
        assert np.abs(one - other).max() < 0.1


def test_images_of_siemens_run_against_the_headers_directions(tmp_path):
    """Their k-space has the sign of e^{+2πikx}."""
    directions = ROTATIONS["oblique"]
    geometry = inspect(siemens_file(tmp_path, K, directions=directions)).geometry
    np.testing.assert_allclose(geometry.rows, -directions[0], atol=1e-5)
    np.testing.assert_allclose(geometry.columns, -directions[1], atol=1e-5)
    affine = geometry.affine(HEIGHT, WIDTH)
    step = THICKNESS * np.sign(np.linalg.det(directions[[1, 0, 2]]))
    against = directions * np.array([-1, -1, 1])[:, None]
    expected = position(against, 4, 7, 2, step)
    assert np.abs((affine @ [7, 4, 2, 1])[:3] - expected).max() < 0.1


def test_ismrmrd_files_of_siemens_have_siemens_directions(tmp_path):
    """The converter copies k-space and directions as they are."""
    directions = ROTATIONS["coronal"]
    plain = inspect(mrd(tmp_path, K, directions=directions)).geometry
    text = header_xml.write(header(), {}).replace(b"<systemVendor>mrigen", b"<systemVendor>SIEMENS")
    assert b"SIEMENS" in text
    (tmp_path / "siemens").mkdir()
    found = inspect(mrd(tmp_path / "siemens", K, directions=directions, xml=text)).geometry
    np.testing.assert_allclose(found.rows, -np.array(plain.rows))
    np.testing.assert_allclose(found.columns, -np.array(plain.columns))
    np.testing.assert_allclose(found.normal, plain.normal)
    np.testing.assert_allclose(found.centres, plain.centres)


def test_chosen_slices_keep_their_place(tmp_path):
    path = mrd(tmp_path, K, MASK, directions=ROTATIONS["coronal"], gap=GAP)
    reconstruct(path, tmp_path / "out", "nifti", "--slices", "1:3")
    image = nibabel.load(tmp_path / "out" / "magnitude.nii.gz")
    found = nibabel.affines.apply_affine(image.affine, (3, 4, 0))
    assert np.abs(found - position(ROTATIONS["coronal"], 4, 3, 1)).max() < 0.1
    assert not (tmp_path / "out" / "reconstruction.h5").exists()


def test_uneven_slices_have_no_affine():
    geometry = SliceGeometry(
        rows=(1, 0, 0),
        columns=(0, 1, 0),
        normal=(0, 0, 1),
        spacing=(1, 1),
        centres=((0, 0, 0), (0, 0, 1), (0, 0, 5)),
    )
    assert geometry.affine(8, 8) is None
    assert geometry.chosen([0, 1]).affine(8, 8) is not None


def test_unknown_orientation_is_said(tmp_path, capsys):
    path = fastmri(tmp_path, K, MASK)
    reconstruct(path, tmp_path / "out", "nifti,dicom")
    assert "do not say where the patient lay" in capsys.readouterr().out
    image = nibabel.load(tmp_path / "out" / "magnitude.nii.gz")
    assert image.header["qform_code"] == image.header["sform_code"] == 0
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(tmp_path / "out" / "image.dcm")
    assert data.SOPClassUID.name == "Multi-frame Grayscale Word Secondary Capture Image Storage"
    assert "SharedFunctionalGroupsSequence" not in data


def test_all_formats_hold_the_same_image(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    reconstruct(mrd(tmp_path, K, MASK), tmp_path / "out", ALL, "--seed", "3")
    out = tmp_path / "out"
    with h5py.File(out / "reconstruction.h5") as file:
        truth = file["image"][:, 0]
    peak = np.abs(truth).max()
    volume = truth.transpose(2, 1, 0)
    for name, values in [("magnitude", np.abs(volume)), ("phase", np.angle(volume)), ("complex", volume)]:
        np.testing.assert_allclose(
            np.asarray(nibabel.load(out / f"{name}.nii.gz").dataobj), values, atol=1e-5 * peak
        )
    found = read_cfl(out / "image.cfl")
    assert found.shape == (HEIGHT, WIDTH, *[1] * 11, SLICES, 1, 1)
    np.testing.assert_array_equal(found.squeeze().transpose(2, 0, 1), truth)
    data = pydicom.dcmread(out / "image.dcm")
    slope = float(data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope)
    np.testing.assert_allclose(data.pixel_array * slope, np.abs(truth), atol=slope)
    described = json.loads((out / "bids" / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "mrigen"
    stem = out / "bids" / "sub-01" / "anat" / "sub-01_rec-zerofilled_part-mag_MRI"
    sidecar = json.loads(stem.with_suffix(".json").read_text())
    assert (sidecar["Solver"], sidecar["Seed"], sidecar["ModelSHA256"]) == ("zero-filled", 3, None)
    assert set(sidecar["SoftwareVersions"]) == {"mrigen", "torch", "numpy", "nibabel"}
    values = np.asarray(nibabel.load(f"{stem}.nii.gz").dataobj)
    np.testing.assert_allclose(values, np.abs(volume), atol=1e-5 * peak)


def test_dicom_has_new_uids_and_no_identifiers(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    (tmp_path / "DOE^JANE").mkdir()
    path = mrd(tmp_path / "DOE^JANE", K, MASK)
    path = path.rename(path.with_name("DOE_JANE_1961.mrd"))
    uids = []
    for number in range(2):
        reconstruct(path, tmp_path / str(number), "dicom,bids")
        data = pydicom.dcmread(tmp_path / str(number) / "image.dcm")
        uids.append({data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID})
        assert (data.PatientName, data.PatientID, data.PatientIdentityRemoved) == ("", "", "YES")
        assert data.ImageType[0] == "DERIVED"
        for file in (tmp_path / str(number)).rglob("*"):
            assert "DOE" not in file.name
            if file.suffix in {".dcm", ".json"} and file.name != "metrics.json":
                assert b"DOE" not in file.read_bytes()
    assert not uids[0] & uids[1]


def test_formats_that_cannot_be(tmp_path, capsys, monkeypatch):
    path = npy(tmp_path, K)
    assert run(["reconstruct", str(path), "--out", str(tmp_path / "out"), *SOLVE, "--format", "nrrd"]) == 2
    assert "choose from h5, nifti" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(["reconstruct", str(path), "--out", str(tmp_path / "out"), *SOLVE, "--format", "dicom"]) == 2
    assert "pip install 'mrigen[dicom]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
