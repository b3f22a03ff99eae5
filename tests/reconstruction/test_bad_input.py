"""Every mistake has one line that names the file, the fault and the remedy."""

import re

import h5py
import numpy as np
import phantoms
import pytest

from mrigen import fourier

GOOD = phantoms.kspace()[0]
LINES = phantoms.lines()
ACS = ("--kernel-width", 4)


def uncentred():
    return np.fft.ifftshift(GOOD, axes=(-2, -1)) * np.fft.ifftshift(LINES)


def shifted():
    return np.roll(GOOD, 6, axis=-1) * np.roll(LINES, 6)


def holes():
    broken = GOOD * LINES
    broken[1, 3, 12] = np.nan
    return broken


FAULTS = {
    "uncentred": (uncentred, r"peaks at \(0, 0\) and not at the centre \(12, 12\).*fftshift"),
    "shifted": (shifted, r"peaks at \(12, 18\) and not at the centre"),
    "nan": (holes, "1 points of k-space are NaN or infinite"),
    "no ACS": (lambda: GOOD * (np.arange(24) % 3 == 0), "calibration region|fully sampled centre"),
    "no DC": (lambda: GOOD * (np.arange(24) != 12), "no fully sampled centre|not at the centre"),
    "coils last": (lambda: np.zeros((230, 180, 8), np.complex64), "coils seem to come last.*moveaxis"),
    "too many coils": (lambda: np.zeros((200, 64, 64), np.complex64), "more than 128"),
    "real": (lambda: np.abs(GOOD), "not complex k-space"),
    "one axis": (lambda: GOOD[0, 0], r"must be \(coils, H, W\)"),
    "zero": (lambda: np.zeros_like(GOOD), "k-space is zero"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_arrays(reconstruct, tmp_path, fault):
    make, expected = FAULTS[fault]
    path = tmp_path / "scan.npy"
    np.save(path, make())
    line = reconstruct(path, "zero-filled", *ACS, fails=True)
    assert str(path) in line
    assert re.search(expected, line), line


def test_files_that_are_no_arrays(reconstruct, tmp_path):
    path = tmp_path / "scan.npy"
    path.write_bytes(b"not numpy")
    assert "not a readable numpy file" in reconstruct(path, "rss", fails=True)
    assert "no such file" in reconstruct(tmp_path / "nothing.h5", "rss", fails=True)
    np.savez(tmp_path / "two.npz", a=GOOD, b=GOOD)
    assert "call the array `kspace`" in reconstruct(tmp_path / "two.npz", "rss", fails=True)


@pytest.mark.parametrize(
    ("measured", "said"), [("fewer", "hold data that the mask"), ("more", "are zero that")]
)
def test_mask_and_data_disagree(reconstruct, tmp_path, measured, said):
    path = tmp_path / "scan.h5"
    mask = LINES.copy()
    mask[3 if measured == "fewer" else 4] ^= True
    with h5py.File(path, "w") as file:
        file["kspace"] = (GOOD * LINES)[None]
        file["mask"] = mask.astype(np.float32)
    assert said in reconstruct(path, "rss", *ACS, fails=True)


def test_a_padded_edge_may_be_called_measured(reconstruct, tmp_path):
    """fastMRI's masks do so."""
    path = tmp_path / "scan.h5"
    k = GOOD * LINES
    k[..., :4] = 0
    with h5py.File(path, "w") as file:
        file["kspace"] = k[None]
        file["mask"] = LINES.astype(np.float32)
    reconstruct(path, "rss", *ACS)


def test_undersampled_data_keep_their_mask(reconstruct, tmp_path):
    path = tmp_path / "scan.npy"
    np.save(path, GOOD * LINES)
    assert "keeps its own mask" in reconstruct(path, "rss", "--acceleration", 4, *ACS, fails=True)


def test_a_folder_of_scans_is_named(reconstruct, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "ab":
        np.save(folder / f"{name}.npy", GOOD)
    assert "holds scans (a.npy, b.npy); give one of these files" in reconstruct(folder, "rss", fails=True)


def test_models_that_do_not_fit(reconstruct, tmp_path, teacher, generator):
    path = tmp_path / "scan.npy"
    np.save(path, GOOD * LINES)
    small = phantoms.write_model(tmp_path / "small", role="generator", size=16)
    large = phantoms.write_model(tmp_path / "large", size=32, objective="standard")
    tile = phantoms.write_model(tmp_path / "tile", size=16)
    grey = phantoms.write_model(tmp_path / "grey", complex_valued=False, objective="standard")
    cases = [
        ("pnp", [], "needs a generator or a teacher; give its model folder"),
        ("latent", ["--model", teacher], "is a teacher, and solver latent needs a generator"),
        ("dps", ["--model", generator], "is a generator, and solver dps needs a teacher"),
        ("pnp", ["--model", large], "cannot be tiled"),
        ("latent", ["--model", small], "a generator has one size"),
        ("pnp", ["--model", tile], "a tile has no mask and another scale"),
        ("pnp", ["--model", grey], "a model of real images cannot be the prior of complex"),
        ("pnp", ["--model", tmp_path], "not a model folder"),
        ("latnet", [], "did you mean 'latent'"),
        ("pnp:stepps=3", [], "stepps: unknown key"),
        ("rss", ["--operator", "identity"], "are for pictures"),
        ("rss", ["--slices", "7"], "1 slices"),
    ]
    for solver, more, expected in cases:
        line = reconstruct(path, solver, *more, *ACS, fails=True)
        assert expected in line, line


def test_a_diverging_solver_says_so(reconstruct, tmp_path, teacher):
    path = tmp_path / "scan.npy"
    np.save(path, GOOD * LINES)
    line = reconstruct(path, "langevin:step_size=1e30,levels=3,inner=2", "--model", teacher, *ACS, fails=True)
    assert "the solver diverged" in line


def test_the_transform_is_the_projects_own():
    """The phantom's k-space is centred as the project's is."""
    energy = np.abs(GOOD).sum(0)
    assert np.unravel_index(energy.argmax(), energy.shape) == (12, 12)
    assert fourier.PLANE == (-2, -1)
