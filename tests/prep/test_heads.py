"""Painted label maps: what a sequence shows, partial volumes, heads that stay apart, and bad input."""

import json
import math

import h5py
import nibabel
import numpy as np
import pytest
import torch
from label_maps import NUMBERS, labels, write_heads

from mrigen.cli.main import run
from mrigen.data.mri_manifest import MRIManifest
from mrigen.prep.simulate import label_map
from mrigen.prep.simulate.grids import Grid
from mrigen.prep.simulate.label_map import LabelMap
from mrigen.prep.simulate.tissues import CONTRASTS, PRIORS, TISSUES, LabelTable, Sequence, Tissue, sequence_of

SMALL = ["--slices", "3", "--matrix", "16", "16", "--coils", "2", "--jobs", "1"]


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    return write_heads(tmp_path_factory.mktemp("anatomies") / "heads", 4)


def acquired(out, *options, volumes=2):
    assert run(["simulate", "--out", str(out), "--volumes", str(volumes), *SMALL, *map(str, options)]) == 0
    return out


def kspace(path):
    with h5py.File(path) as file:
        return file["kspace"][()]


def test_signal_is_that_of_spin_and_gradient_echoes():
    tissue = Tissue(0.8, 1000, 80)
    spin = Sequence(1500, 40, 90).signal(tissue)
    assert spin == pytest.approx(0.8 * (1 - math.exp(-1.5)) * math.exp(-0.5), rel=1e-12)
    ernst = math.degrees(math.acos(math.exp(-20 / 1000)))
    signals = [Sequence(20, 0, ernst + step).signal(tissue) for step in (-1, 0, 1)]
    assert signals[1] == max(signals)
    assert signals[1] == pytest.approx(0.8 * math.tanh(20 / 2000) ** 0.5, rel=1e-9)


def test_contrasts_have_the_order_of_their_tissues():
    order = ("cerebrospinal fluid", "grey matter", "white matter")
    for volume in range(20):
        t1, t2 = (
            [sequence_of(name, 0, volume).signal(TISSUES[tissue]) for tissue in order]
            for name in ("t1", "t2")
        )
        assert t1[0] < t1[1] < t1[2]
        assert t2[0] > t2[1] > t2[2]
        for name, (low, high) in PRIORS.items():
            assert low.tr <= sequence_of(name, 0, volume).tr <= high.tr


def test_both_sides_are_one_tissue_and_unknown_numbers_are_random():
    numbers = (0, 2, 41, 3, 42, 7000, 7001)
    head = LabelMap(np.zeros((2, 2, 2), np.uint8), numbers, np.ones(3))
    assert head.unknown == [7000, 7001]
    for contrast in CONTRASTS:
        found = head.intensities(contrast, 0, 5)
        assert found[0] == found[-1] == 0
        assert found[1] == found[2] != found[3] == found[4]
        assert found[5] != found[6]
        assert found.real.max() == pytest.approx(1)
    volumes = [head.intensities("random", 0, volume).tobytes() for volume in range(5)]
    assert len(set(volumes)) == 5


def test_a_voxel_has_the_mean_of_its_volume(monkeypatch):
    """A plane between air and tissue at x = 20.5 mm, pixels of 7 mm: the fraction on its right side."""
    for name in ("WARP_MM", "BIAS"):
        monkeypatch.setattr(label_map, name, {1: 0.0, 2: 0.0, 3: 0.0})
    index = np.zeros((60, 60, 60), np.uint8)
    index[21:] = 1
    head = LabelMap(index, (0, 9999), np.ones(3), LabelTable({9999: Tissue(1.0, 1000, 100, 0.0)}))
    axis = 7.0 * (np.arange(4) - 2)
    grid = Grid(np.zeros(1), axis, axis, 7.0, 3.0, 3.0)
    for offset in (0.0, 0.8, 2.3):
        centre = np.array([30 + offset, 30.0, 30.0])
        found = head.image(grid, np.eye(3), centre, torch.Generator().manual_seed(0), ("t1", 0, 0))
        right = np.clip((axis + centre[0] + 3.5 - 20.5) / 7, 0, 1)
        np.testing.assert_allclose(found, np.broadcast_to(right, (1, 4, 4)), atol=0.11)
        assert 0.05 < right[right < 1].max() < 0.98


def test_bias_and_texture_are_smooth_and_mild():
    head = LabelMap(np.ones((40, 40, 40), np.uint8), (0, 2), np.full(3, 5.0))
    axis = 4.0 * (np.arange(24) - 12)
    grid = Grid(np.array([-10.0, 0.0, 10.0]), axis, axis, 4.0, 3.0, 10.0)
    image = head.image(grid, np.eye(3), np.full(3, 97.5), torch.Generator().manual_seed(1), ("t1", 0, 0))
    assert 0.3 < image.min() < image.max() < 3
    assert 0.01 < np.std(np.log(image)) < 0.6
    assert np.abs(np.diff(np.log(image), axis=2)).max() < 0.3


def test_heads_and_contrasts_take_turns(heads, tmp_path):
    two = ["--contrast", "t2", "--contrast", "pd"]
    raw = acquired(tmp_path / "raw", "--anatomy", heads, "--heads", "1-3", *two, volumes=7)
    names = [f"head_{1 + i % 3}_{i:04d}.h5" for i in range(7)]
    assert sorted(path.name for path in raw.glob("*.h5")) == sorted(names)
    for i, name in enumerate(names):
        with h5py.File(raw / name) as file:
            assert file.attrs["acquisition"] == ("AXT2", "AXPD", "AXT2")[i // 3]
            assert file.attrs["patient_id"] == f"head_{1 + i % 3}"
    few = acquired(tmp_path / "few", "--anatomy", heads / "head_1.npz", "--anatomy", heads / "head_2.npz",
                   "--anatomy", heads / "head_3.npz", "--contrast", "t2", volumes=2)  # fmt: skip
    assert np.array_equal(kspace(few / names[1]), kspace(raw / names[1]))


def test_a_split_never_parts_a_head(heads, tmp_path, prep):
    raw = acquired(tmp_path / "raw", "--anatomy", heads, volumes=12)
    store = prep(raw, split="train=0.5,test=0.5", calib_readout=12, acs_lines=3)
    volumes = MRIManifest.load(store).volumes
    parts = {}
    for volume in volumes:
        assert volume.file.startswith(f"{volume.head}_")
        parts.setdefault(volume.head, set()).add(volume.split)
    assert sorted(parts) == ["head_1", "head_2", "head_3", "head_4"]
    assert all(len(found) == 1 for found in parts.values())
    assert set.union(*parts.values()) == {"train", "test"}
    assert {v.header["acquisition"] for v in volumes} == {"AXT1"}


def test_nifti_is_turned_to_our_axes(tmp_path):
    """The same map as npz, and as NIfTI stored from right to left and from top to bottom."""
    (tmp_path / "a").mkdir()
    plain = write_heads(tmp_path / "plain", 1) / "head_1.npz"
    flipped = NUMBERS[labels(1)][::-1, :, ::-1].transpose(2, 0, 1)
    affine = np.zeros((4, 4))
    affine[0, 1], affine[1, 2], affine[2, 0], affine[3, 3] = -5, 5, -5, 1
    nibabel.save(nibabel.Nifti1Image(flipped, affine), tmp_path / "a" / "head_1.nii.gz")
    one, other = (
        acquired(tmp_path / out, "--anatomy", path, volumes=1) / "head_1_0000.h5"
        for out, path in (("one", plain), ("other", tmp_path / "a"))
    )
    assert np.array_equal(kspace(one), kspace(other))


def test_own_numbers(tmp_path, capsys):
    """Numbers that nobody knows: painted at random and said once, or as the table says."""
    path, table = tmp_path / "mine.npz", tmp_path / "table.json"
    np.savez(path, labels=labels(1).astype(np.int32) + 20000 * (labels(1) > 0), voxel_mm=np.full(3, 5.0))
    acquired(tmp_path / "random", "--anatomy", path)
    said = capsys.readouterr().err
    assert said.count("20001, 20002, 20003, 20004, 20005, 20006, 20007") == 1
    names = ["white matter"] * 2 + ["grey matter"] * 2 + ["cerebrospinal fluid", "cortical bone", "skin"]
    table.write_text(json.dumps({str(20001 + i): name for i, name in enumerate(names)}))
    named = acquired(tmp_path / "named", "--anatomy", path, "--labels", table)
    assert "label numbers" not in capsys.readouterr().err
    known = acquired(tmp_path / "known", "--anatomy", write_heads(tmp_path / "heads", 1))
    assert np.array_equal(kspace(named / "mine_0000.h5"), kspace(known / "head_1_0000.h5"))


def bad_map(path, **arrays):
    np.savez(path / "bad.npz", **arrays)
    return ["--anatomy", path / "bad.npz"]


def nifti(path, values):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path / "bad.nii")
    return ["--anatomy", path / "bad.nii"]


def table(path, heads, text):
    (path / "table.json").write_text(text)
    return ["--anatomy", heads, "--labels", path / "table.json"]


CUBE = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
BAD = {
    "floats": (lambda p, _: bad_map(p, labels=CUBE / 3), "array of integers"),
    "flat": (lambda p, _: bad_map(p, labels=CUBE[0]), "three-dimensional"),
    "air": (lambda p, _: bad_map(p, labels=0 * CUBE), "all labels are air"),
    "short table": (lambda p, _: bad_map(p, labels=CUBE, label_values=np.arange(3)), "label_values"),
    "many": (lambda p, _: bad_map(p, labels=np.arange(512).reshape(8, 8, 8)), "512 different labels"),
    "intensities": (lambda p, _: nifti(p, 600 + CUBE), "--labels TABLE.json"),
    "not integers": (lambda p, _: nifti(p, CUBE / np.float32(3)), "no integers"),
    "movie": (lambda p, _: nifti(p, np.ones((2, 2, 2, 2), np.int16)), "shape (2, 2, 2, 2)"),
    "selection": (lambda _, h: ["--anatomy", h, "--heads", "1-9"], "--heads 1-9"),
    "words": (lambda _, h: ["--anatomy", h, "--heads", "all"], "--heads all"),
    "no anatomy": (lambda _, __: ["--heads", "1-2"], "--anatomy"),
    "twice": (lambda _, h: ["--anatomy", h, "--anatomy", h / "head_1.npz"], "two heads of the name head_1"),
    "contrast": (lambda _, h: ["--anatomy", h, "--contrast", "t3"], "t1, t2, pd, random"),
    "no map": (lambda _, __: ["--contrast", "t1"], "is for label maps"),
    "no table": (lambda p, h: ["--anatomy", h, "--labels", p / "none.json"], "no such file"),
    "unknown tissue": (lambda p, h: table(p, h, '{"9": "bran"}'), "unknown tissue 'bran'"),
    "no number": (lambda p, h: table(p, h, '{"x": "skin"}'), "no label number"),
    "no time": (lambda p, h: table(p, h, '{"9": {"density": 1, "t1": 0, "t2": 5}}'), "label 9"),
    "list": (lambda p, h: table(p, h, "[]"), "not an object"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_heads_are_one_line(heads, tmp_path, capsys, kind):
    options, message = BAD[kind]
    given = [str(word) for word in options(tmp_path, heads)]
    assert run(["simulate", "--out", str(tmp_path / "raw"), *SMALL, *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "raw").exists()
