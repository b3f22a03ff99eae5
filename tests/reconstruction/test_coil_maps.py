"""Own coil maps: from files and stores, for scans and stores."""

import re

import h5py
import numpy as np
import phantoms
import pytest
from sigpy.mri import birdcage_maps

from mrigen.cli.main import run

SHAPE = (phantoms.COILS, phantoms.SIZE, phantoms.SIZE)
MAPS = birdcage_maps(SHAPE).astype(np.complex64)
COMBINED = np.sqrt((np.abs(MAPS) ** 2).sum(0))
SOLVER = "cg-sense:regularization=1e-5,discrepancy=null"


@pytest.fixture
def scan(tmp_path):
    """Three undersampled slices."""
    path = tmp_path / "scan.npy"
    np.save(path, phantoms.kspace(3) * phantoms.lines())
    return path


def saved(path, maps):
    if path.suffix == ".npy":
        np.save(path, maps)
    else:
        with h5py.File(path, "w") as file:
            file["maps"] = maps
    return path


@pytest.mark.parametrize("name", ["maps.npy", "maps.h5"])
def test_true_maps_give_the_true_image_with_its_phase(reconstruct, scan, tmp_path, name):
    """Maps of any brightness: they are normalised, so that the image is that of ESPIRiT's convention."""
    maps = saved(tmp_path / name, 7 * MAPS)
    arrays, _ = reconstruct(scan, SOLVER, "--maps", maps)
    for s in range(3):
        truth = (1 + s) * phantoms.image() * COMBINED
        error = np.linalg.norm(arrays["image"][s, 0] - truth) / np.linalg.norm(truth)
        assert error < 0.02


def test_maps_belong_to_slices(reconstruct, scan, tmp_path):
    """Maps of all slices or of the chosen ones; a phase on a slice's maps shows which was taken."""
    turns = np.exp(1j * np.arange(3))[:, None, None, None].astype(np.complex64)
    each = saved(tmp_path / "each.npy", MAPS * turns)
    same = saved(tmp_path / "same.npy", MAPS)
    chosen = saved(tmp_path / "chosen.npy", (MAPS * turns)[1:])
    plain, _ = reconstruct(scan, SOLVER, "--maps", same, "--slices", "1:3")
    for maps in (each, chosen):
        found, _ = reconstruct(scan, SOLVER, "--maps", maps, "--slices", "1:3")
        np.testing.assert_allclose(found["image"], plain["image"] * turns[1:].conj(), atol=1e-4)


def test_maps_of_the_whole_field_of_view_are_cropped_with_the_image(reconstruct, tmp_path):
    """A readout crop of fully sampled data: maps of either size give one image."""
    path = tmp_path / "full.npy"
    np.save(path, phantoms.kspace())
    options = ["--acceleration", 2, "--acs-lines", 8, "--crop", 20, 0]
    first = phantoms.SIZE // 2 - 10
    images = [
        reconstruct(path, SOLVER, "--maps", saved(tmp_path / "maps.npy", maps), *options)[0]["image"]
        for maps in (MAPS, MAPS[:, first : first + 20])
    ]
    assert images[0].shape[-2:] == (20, phantoms.SIZE)
    np.testing.assert_array_equal(*images)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two prepared slices of one volume."""
    folder = tmp_path_factory.mktemp("prepared")
    raw = ["simulate", "--out", folder / "raw", "--volumes", 1, "--slices", 2, "--matrix", 32, 32]
    assert run([str(a) for a in [*raw, "--jobs", 1]]) == 0
    prepared = ["prep-fastmri", folder / "raw", "--out", folder / "store", "--acceleration", 2]
    more = ["--acs-lines", 8, "--split", "test=1", "--virtual-coils", 0, "--jobs", 1]
    assert run([str(a) for a in [*prepared, *more]]) == 0
    return folder / "store"


def test_a_store_lends_its_maps(reconstruct, store, tmp_path):
    """To itself, which changes nothing; and as an array turned by a phase, which turns the images.

    The regularisation keeps the rounding of the maps, which are normalised again, from growing.
    """
    solver = "cg-sense:regularization=1e-2,discrepancy=null"
    own, _ = reconstruct(store, solver)
    lent, _ = reconstruct(store, solver, "--maps", store)
    np.testing.assert_allclose(lent["image"], own["image"], atol=1e-4 * np.abs(own["image"]).max())
    with h5py.File(next(store.rglob("*.h5"))) as file:
        turned = saved(tmp_path / "maps.h5", file["maps"][()] * np.complex64(1j))
    found, _ = reconstruct(store, solver, "--maps", turned)
    np.testing.assert_allclose(found["image"], own["image"] / 1j, atol=1e-4 * np.abs(own["image"]).max())


FAULTS = {
    "coils": (MAPS[:3], r"are 3x24x24 \(coils, H, W\), and the scan needs 4x24x24"),
    "size": (MAPS[..., 1:], "are 4x24x23"),
    "slices": (np.stack([MAPS] * 2), "of 2 slices, and 3 of the scan's 3"),
    "real": (np.abs(MAPS), "float32, not complex"),
    "axes": (MAPS[0], r"shape \(24, 24\)"),
    "nan": (MAPS * np.nan, "NaN or infinity"),
    "zero": (0 * MAPS, "zero everywhere"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["maps.npy", "maps.h5"])
def test_faulty_maps(reconstruct, scan, tmp_path, fault, name):
    maps, expected = FAULTS[fault]
    path = saved(tmp_path / name, maps)
    line = reconstruct(scan, "cg-sense", "--maps", path, fails=True)
    assert str(path) in line
    assert re.search(expected, line), line


def test_files_without_maps(reconstruct, scan, tmp_path):
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = MAPS
        file["maps"] = h5py.ExternalLink("elsewhere.h5", "maps")
    cases = {
        "missing.npy": "no such file",
        "broken.npy": "not a readable numpy file",
        "broken.h5": "not a readable HDF5 file",
        "other.h5": "has no dataset maps",
        ".": "is not a store of k-space",
    }
    for name, expected in cases.items():
        assert expected in reconstruct(scan, "cg-sense", "--maps", tmp_path / name, fails=True)


def test_options_that_maps_replace(reconstruct, scan, tmp_path):
    maps = saved(tmp_path / "maps.npy", MAPS)
    for option, value in (("--kernel-width", 4), ("--espirit-crop", 0.5), ("--virtual-coils", 2)):
        line = reconstruct(scan, "cg-sense", "--maps", maps, option, value, fails=True)
        assert option in line
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"nothing")
    assert "no coils; leave out --maps" in reconstruct(picture, "latent", "--maps", maps, fails=True)
