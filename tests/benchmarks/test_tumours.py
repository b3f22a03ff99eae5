"""Slices of tumours behind blocks, on drawn slices: who is trained on what, and files that are refused."""

import json
import sys

import numpy as np
import pytest
from benchmarks import tumours
from PIL import Image

from mrigen.errors import UsageError
from mrigen.model import Model

FEW, OTHERS, SAGITTAL = 40, 12, 3


def slices(path, few=FEW):
    """Slices whose brightness is their number; the last ones of the class are not axial."""
    names = [f"Training/{tumours.TUMOUR}/{i}.jpg" for i in range(few + SAGITTAL)]
    names += [f"Training/no_tumor/{i}.jpg" for i in range(OTHERS)]
    plane = ["axial"] * few + ["sagittal"] * SAGITTAL + ["axial"] * OTHERS
    images = np.arange(len(names), dtype=np.uint8)[:, None, None] * np.ones((1, 32, 32), np.uint8)
    np.savez(path, images=images, source=np.array(names), plane=np.array(plane))
    return path


def test_slices_are_divided_by_their_order(tmp_path):
    """The first of the class are trained on, the last 40 % unseen; other classes are for pretraining."""
    tumours.write_slices(slices(tmp_path / "slices.npz"), 20, tmp_path / "parts")
    values = {
        part.name: sorted(int(np.asarray(Image.open(file))[0, 0]) for file in part.iterdir())
        for part in (tmp_path / "parts").iterdir()
    }
    assert values["few"] == list(range(20))
    assert values["unseen"] == list(range(24, FEW))
    assert values["others"] == list(range(FEW + SAGITTAL, FEW + SAGITTAL + OTHERS))


def test_files_without_slices_are_refused(tmp_path):
    with pytest.raises(UsageError, match="40 axial slices of glioma_tumor do not suffice for --few 30"):
        tumours.write_slices(slices(tmp_path / "slices.npz"), 30, tmp_path / "parts")
    np.savez(tmp_path / "other.npz", images=np.zeros((2, 4, 4)))
    with pytest.raises(UsageError, match=r"other\.npz lacks plane, source"):
        tumours.write_slices(tmp_path / "other.npz", 30, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_rows_of_all_models(monkeypatch, tmp_path, capsys):
    """Every row, a figure; fine-tuned models start from the pretrained one and know its checksum."""
    file = slices(tmp_path / "slices.npz")
    words = ["tumours", "--smoke", "--slices", str(file), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", [*words, "--figure", str(tmp_path / "figure.png")])
    tumours.main()
    rows = [json.loads(line) for line in (tmp_path / "work" / "rows.jsonl").read_text().splitlines()]
    names = [tumours.UNSEEN, tumours.PRETRAINED, tumours.CLEAN, tumours.BLOCKS]
    assert [row["row"] for row in rows] == [*names, tumours.CLEAN_SCRATCH, tumours.SCRATCH]
    assert {row["training"] for row in rows} == {20}
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    pretrained = Model.load(tmp_path / "work" / "others-clean-scratch" / "teacher" / "model")
    for kind in ("clean", "blocks"):
        for start in ("tuned", "scratch"):
            model = Model.load(tmp_path / "work" / f"few-{kind}-{start}" / "teacher" / "model")
            expected = pretrained.fingerprint if start == "tuned" else None
            assert model.description.provenance.get("init") == expected
            assert model.conditions_on_mask == (kind == "blocks")
    assert f"| {tumours.SCRATCH} |" in capsys.readouterr().out
