"""Data that were undersampled at the scanner: lines, points, and a real scan."""

import h5py
import numpy as np
import pytest
import torch

from mrigen.cli.main import run
from mrigen.data.mri_manifest import MRIManifest
from mrigen.data.mri_store import MeasurementStore
from mrigen.errors import UsageError
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption

from .scans import arguments, dense, header, write_scan

OWN = {"acceleration": None, "acs_lines": None}


@pytest.fixture
def lines(simulate, tmp_path):
    """Two volumes with 8 ACS lines and other lines, each volume its own mask, as fastMRI's test files."""
    raw = simulate(tmp_path / "full", matrix=(32, 33))
    (tmp_path / "raw").mkdir()
    masks = []
    for seed, path in enumerate(sorted(raw.glob("*.h5"))):
        mask = np.random.default_rng(seed).random(33) < 0.2
        mask[13:21] = True
        masks.append(mask)
        with h5py.File(path) as file:
            kspace, xml = file["kspace"][()] * mask, file["ismrmrd_header"][()]
        write_scan(tmp_path / "raw" / path.name, kspace, mask=mask.astype(np.float32), ismrmrd_header=xml)
    return tmp_path / "raw", masks


def test_the_scanners_lines_are_taken(lines, prep, tmp_path):
    raw, masks = lines
    folder = prep(raw, **OWN, virtual_coils=0)
    for mask, name in zip(masks, ("simulated_0000.h5", "simulated_0001.h5"), strict=True):
        arrays, kspace = dense(folder, name)
        np.testing.assert_array_equal(arrays["mask"], np.broadcast_to(mask, (3, 1, 33)))
        with h5py.File(raw / name) as file:
            expected = file["kspace"][()] / arrays["scale"][:, None, None, None]
        np.testing.assert_allclose(kspace, expected, rtol=1e-6)
        assert arrays["acquired"].all()
    manifest = MRIManifest.load(folder)
    assert not manifest.fresh_masks
    assert manifest.mask["name"] == "measured"
    assert manifest.mask["acs_lines"] == 8
    accelerations = [33 / mask.sum() for mask in masks]
    assert manifest.mask["acceleration"] == pytest.approx(np.mean(accelerations), abs=1e-3)
    assert [v.slices[0].acceleration for v in manifest.volumes] == pytest.approx(accelerations, abs=1e-3)
    assert all(s.noise is None for v in manifest.volumes for s in v.slices)
    assert not (tmp_path / "store-reference").exists()


def test_fewer_lines_may_count_as_fully_sampled(lines, prep, tmp_path, capsys):
    """The maps come from them alone, and the further corruption keeps no others."""
    manifests = {n: MRIManifest.load(prep(lines[0], **{**OWN, "acs_lines": n}, out=f"s{n}")) for n in (6, 8)}
    assert [m.mask["acs_lines"] for m in manifests.values()] == [6, 8]
    first, second = (dense(tmp_path / f"s{n}", "simulated_0000.h5")[0]["maps"] for n in (6, 8))
    assert abs(first - second).max() > 1e-3
    prep(lines[0], **{**OWN, "acs_lines": 20}, out="more", code=1)
    assert "--acs-lines 20: the mask has 8 fully sampled lines" in capsys.readouterr().out.replace("\n", " ")


def test_only_the_further_corruption_is_drawn(lines, prep, generator):
    store = MeasurementStore(prep(lines[0], **OWN))
    corruption = store.corruption()
    operator = corruption.draw(12, generator)
    known = store.maps_and_masks(list(range(len(store))))[1]
    assert all((known == mask).all((1, 2, 3)).any() for mask in operator.mask)
    further = corruption.corrupt_further(operator, generator).mask
    assert (further <= operator.mask).all()
    assert (further.sum((1, 2, 3)) < operator.mask.sum((1, 2, 3))).all()
    assert further[..., 13:21].all()
    with pytest.raises(UsageError, match="undersampled at the scanner"):
        MRICorruption(store, corruption.mask_distribution).draw(1, generator)


def test_an_unmeasured_line_of_the_mask_is_not_called_measured(prep, tmp_path, lines):
    """fastMRI masks may name lines of the zero-padded edges."""
    raw, masks = lines
    for path in sorted(raw.glob("*.h5")):
        with h5py.File(path, "r+") as file:
            file["mask"][:2] = 1
            file["kspace"][..., :2] = 0
    folder = prep(raw, **OWN)
    for mask, name in zip(masks, ("simulated_0000.h5", "simulated_0001.h5"), strict=True):
        stored = dense(folder, name)[0]["mask"]
        assert not stored[..., :2].any()
        np.testing.assert_array_equal(stored[..., 2:], np.broadcast_to(mask[2:], (3, 1, 31)))


def test_a_mask_of_ones_is_a_fully_sampled_scan(simulate, prep, tmp_path):
    raw = simulate(tmp_path / "raw", volumes=1, padded_lines=2)
    with h5py.File(raw / "simulated_0000.h5", "r+") as file:
        file["mask"] = np.array([0, 0, *[1] * 26, 0, 0])
    assert MRIManifest.load(prep(raw)).fresh_masks


def test_the_readout_may_be_cropped_and_the_phase_encode_not(lines, prep, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    raw, masks = lines
    arrays, _ = dense(prep(raw, **OWN, crop=(24, 33)), "simulated_0000.h5")
    assert arrays["maps"].shape == (3, 4, 24, 33)
    np.testing.assert_array_equal(arrays["mask"][0, 0], masks[0])
    prep(raw, **OWN, crop=(24, 20), out="cropped", code=1)
    assert "the phase encode was undersampled at the scanner" in capsys.readouterr().out
    assert not (tmp_path / "cropped").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"acceleration": 4}, "leave out --acceleration"),
        ({"mask": "random"}, "leave out --acceleration"),
        ({"further_drop": 3}, "leave out --acceleration"),
        ({"maps_from": "full"}, "--maps-from acs"),
        ({"references": "r"}, "leave out --references"),
    ],
)
def test_options_for_full_data_are_refused(lines, tmp_path, capsys, option, message):
    command = ["prep-fastmri", str(lines[0]), "--out", str(tmp_path / "store")]
    assert run([*command, *arguments(option)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_full_and_undersampled_files_are_not_mixed(lines, simulate, tmp_path, capsys):
    simulate(tmp_path / "more", matrix=(32, 33), volumes=3)
    full = tmp_path / "more" / "simulated_0002.h5"
    assert run(["prep-fastmri", str(lines[0]), str(full), "--out", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert "some carry a mask (simulated_0000.h5, simulated_0001.h5)" in error
    assert "different folders" in error
    assert not (tmp_path / "store").exists()


def test_the_real_scan(data, prep, tmp_path):
    """Eight coils, Poisson-disc points, fully sampled 24 x 24 centre: store, maps and manifest read back."""
    kspace = np.load(data / "brain8ch" / "kspace.npz")["kspace"]
    points = (kspace != 0).any(0)
    xml = header(230, 180)
    scan = {"mask": points, "ismrmrd_header": xml, "attributes": {"acquisition": "T1"}}
    path = write_scan(tmp_path / "brain.h5", kspace[None], **scan)
    options = {"virtual_coils": 0, "kernel_width": 6, "espirit_crop": 0.95, "fixed_further": True}
    folder = prep(path, **OWN, **options)
    manifest = MRIManifest.load(folder)
    volume = manifest.volumes[0]
    assert volume.shape == (8, 230, 180)
    assert volume.header["acquisition"] == "T1"
    acceleration = pytest.approx(1 / points.mean(), abs=1e-3)
    assert manifest.mask == {"name": "measured", "acceleration": acceleration, "acs_lines": 24}
    assert volume.slices[0].lines == points.sum()
    assert 0.01 < volume.slices[0].mismatch < 0.08

    arrays, stored = dense(folder, "brain.h5")
    np.testing.assert_array_equal(arrays["mask"][0], points)
    np.testing.assert_allclose(stored[0] * arrays["scale"], kspace, rtol=1e-6)
    golden = np.load(data / "golden" / "espirit.npz")["sigpy_maps"].astype(np.float32)
    golden = golden[..., 0] + 1j * golden[..., 1]
    maps = arrays["maps"][0]
    norms = (np.abs(maps) ** 2).sum(0), (np.abs(golden) ** 2).sum(0)
    support = (norms[0] > 0.5) & (norms[1] > 0.5)
    assert ((norms[0] > 0.5) != (norms[1] > 0.5)).mean() < 0.005
    np.testing.assert_allclose(norms[0][support], 1, atol=1e-4)
    overlap = np.abs((maps.conj() * golden).sum(0))[support]
    assert overlap.mean() > 0.9999

    store = MeasurementStore(folder)
    batch = store.measurements([0], fixed_further=True)
    np.testing.assert_array_equal(batch.y[0].numpy(), stored[0])
    dropped = (batch.operator.mask & ~batch.further.mask)[0, 0]
    expected = MASKS.build(manifest.mask).params.dropped(int(points.sum()))
    assert int(dropped.sum()) == pytest.approx(expected, abs=1)
    assert not dropped[103:127, 78:102].any()
    assert not (batch.further.mask & ~batch.operator.mask).any()
    image = batch.operator.adjoint(batch.y)[0, 0].abs()
    assert image.isfinite().all()
    assert 0.2 < torch.quantile(image, 0.99) < 5
