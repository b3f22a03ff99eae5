"""The scripts of ``data_prep/`` on tiny stand-ins for the data sets."""

import importlib
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

import mrigen
from data_prep.script import run_script

from .pictures import png, python3_batch, random_pictures, write_folder, write_tar, write_zip
from .scans import centred_fft, header, noise, write_scan

SCRIPTS = {p.stem for p in Path("data_prep").glob("*.py")} - {"__init__", "script"}
needs_readers = pytest.mark.skipif(
    find_spec("mrigen.prep.readers") is None, reason="needs the readers of other formats"
)


def prepare(name, source, out, *more):
    """Run a script and open what it wrote."""
    module = importlib.import_module(f"data_prep.{name}")
    assert run_script(module.__doc__, module.command, [str(source), str(out), "--jobs", "1", *more]) == 0
    return mrigen.open_store(out)


def kspace(slices, coils, height, width):
    """k-space of a smooth object in smooth coils, with a little noise."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (height, width)), indexing="ij")
    body = (x**2 + y**2 < 0.5) * (1 + 0.3 * np.cos(6 * x))
    angles = 2 * np.pi * np.arange(coils) / coils
    maps = np.stack([np.exp(-((x - np.cos(a)) ** 2) - (y - np.sin(a)) ** 2 + 1j * a) for a in angles])
    brightness = 1 + np.arange(slices)[:, None, None, None]
    measured = centred_fft(brightness * body * maps)
    return (measured + 0.01 * noise(np.random.default_rng(0), *measured.shape)).astype(np.complex64)


def test_every_data_set_has_a_script_that_says_where_it_comes_from():
    assert {
        *("fastmri_brain", "fastmri_knee", "m4raw", "calgary_campinas", "cmrxrecon", "skm_tea"),
        *("celeba", "ffhq", "afhqv2", "cifar10"),
    } == SCRIPTS
    for name in SCRIPTS:
        text = importlib.import_module(f"data_prep.{name}").__doc__
        assert all(word in text for word in ("Home:", "Selection:", "Disk and time"))


def test_fastmri_brain(tmp_path):
    for name in ("brain_AXT2_200", "brain_AXT2_201", "brain_AXT1_202"):
        write_scan(
            tmp_path / f"file_{name}.h5",
            kspace(4, 5, 800, 320),
            ismrmrd_header=header(800, 320, oversampling=2),
        )
    store = prepare("fastmri_brain", tmp_path, tmp_path / "store")
    assert [(v.source, [s.slice for s in v.slices]) for v in store.manifest.volumes] == [
        ("file_brain_AXT2_200.h5", [2]),
        ("file_brain_AXT2_201.h5", [2]),
    ]
    assert store.manifest.volumes[0].shape == (4, 384, 320)
    assert store.manifest.volumes[0].slices[0].lines == 80


def test_fastmri_knee(tmp_path):
    for name in ("1000001", "1000002", "1000003", "1000004", "1000008", "1000009"):
        write_scan(
            tmp_path / f"file{name}.h5",
            kspace(1, 5, 640, 368),
            ismrmrd_header=header(640, 368, oversampling=2),
        )
    store = prepare("fastmri_knee", tmp_path, tmp_path / "store", "--split", "train")
    assert store.manifest.volumes[0].shape == (4, 320, 320)
    assert store.manifest.mask["center_fraction"] == 0.08


def test_m4raw(tmp_path):
    for name in ("2022061003_T201", "2022061003_T202", "2022061003_FLAIR01"):
        write_scan(tmp_path / f"{name}.h5", kspace(2, 4, 256, 256))
    store = prepare("m4raw", tmp_path, tmp_path / "store")
    assert [v.source for v in store.manifest.volumes] == ["2022061003_T201.h5", "2022061003_T202.h5"]
    assert store.manifest.volumes[0].slices[0].lines == 128


@needs_readers
def test_calgary_campinas(tmp_path):
    full = np.moveaxis(kspace(104, 5, 64, 60), 1, -1)
    pairs = np.stack([full.real, full.imag], -1).reshape(*full.shape[:-1], -1).astype(np.float32)
    for name in ("e14089s3", "e14110s3"):
        write_scan(tmp_path / f"{name}_P53248.7.h5", pairs)
    store = prepare("calgary_campinas", tmp_path, tmp_path / "store", "--split", "train")
    assert len(store) == 8
    assert store.measurements([0]).operator.mask.shape == (1, 1, 64, 60)


@needs_readers
def test_cmrxrecon(tmp_path):
    frames = np.stack([kspace(2, 5, 64, 128)] * 3).transpose(0, 1, 2, 4, 3)
    pairs = np.empty(frames.shape, [("real", "f4"), ("imag", "f4")])
    pairs["real"], pairs["imag"] = frames.real, frames.imag
    for patient in ("P001", "P002"):
        folder = tmp_path / "raw" / patient
        folder.mkdir(parents=True)
        with h5py.File(folder / "cine_sax.mat", "w", userblock_size=512) as file:
            file["kspace_full"] = pairs
        with (folder / "cine_sax.mat").open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    store = prepare("cmrxrecon", tmp_path / "raw", tmp_path / "store", "--split", "train")
    assert [v.source for v in store.manifest.volumes] == ["P001.mat", "P002.mat"]
    assert len(store) == 4


@needs_readers
def test_skm_tea(tmp_path):
    echo = np.moveaxis(kspace(203, 5, 80, 72), 1, -1)
    for name in ("MTR_001", "MTR_002"):
        write_scan(tmp_path / f"{name}.h5", np.stack([echo, 2 * echo], 3), maps=np.ones(1))
    store = prepare("skm_tea", tmp_path, tmp_path / "store", "--split", "train")
    assert len(store) == 6
    assert store.manifest.mask["name"] == "poisson-disc"


def test_faces(tmp_path):
    big = random_pictures(4, 218, 178)
    archive = write_zip(
        tmp_path / "img_align_celeba.zip", {f"{i:06d}.png": png(p) for i, p in enumerate(big)}
    )
    assert prepare("celeba", archive, tmp_path / "celeba").image_shape == (3, 64, 64)
    folder = write_folder(tmp_path / "thumbnails128x128", random_pictures(4, 128, 128))
    store = prepare("ffhq", folder, tmp_path / "ffhq")
    assert len(store) == 4
    assert store.manifest.parameters["noise"] == 0.2


def test_animals_keep_their_parts(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        write_folder(tmp_path / "afhq" / part / "cat", random_pictures(count, 80, 80), prefix=part)
    store = prepare("afhqv2", tmp_path / "afhq", tmp_path / "store")
    assert (len(store), len(mrigen.open_store(tmp_path / "store", "test"))) == (3, 2)


def test_cifar10(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (5, 3072), np.uint8)
    names = ["data_batch_1", "test_batch"]
    members = {f"cifar-10-batches-py/{n}": python3_batch(rows, [0, 1, 2, 3, 9]) for n in names}
    store = prepare("cifar10", write_tar(tmp_path / "cifar-10-python.tar.gz", members), tmp_path / "store")
    assert (len(store), store.classes, store.image_shape) == (5, 10, (3, 32, 32))


def test_an_empty_folder_is_refused(tmp_path, capsys):
    module = importlib.import_module("data_prep.fastmri_brain")
    with pytest.raises(SystemExit):
        run_script(module.__doc__, module.command, [str(tmp_path), str(tmp_path / "store")])
    assert "holds no file_brain_AXT2_*.h5" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
