"""Variation between slices and between frames: the bolus, the chosen weight, and the benchmark as a whole."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from benchmarks import through_plane

import mrigen as mg
from mrigen.cli.main import run

SETTINGS = "--frames --tune 1 --weights 0 1 --passes 1 3 --solvers zero-filled"
SERIES = "--volumes 2 --slices 4 --matrix 32 32 --coils 2 --slice-range 0.5 0.53 --jobs 1"


def test_a_bolus_brightens_its_regions_after_they_begin_and_at_most_twofold():
    kspace = mg.fft(torch.ones(50, 2, 32, 32, dtype=torch.complex64))
    image = mg.ifft(through_plane.bolus(kspace))
    assert image.imag.abs().max() < 1e-5
    gain = image.real[:, 0]
    assert torch.allclose(gain, image.real[:, 1], atol=1e-5)
    for down, right, begin in through_plane.REGIONS:
        row, column = 16 + round(32 * down), 16 + round(32 * right)
        others = [(d, r) for d, r, _ in through_plane.REGIONS if (d, r) != (down, right)]
        near = sum(math.exp(-((d - down) ** 2 + (r - right) ** 2) / (2 * 0.08**2)) for d, r in others)
        curve = gain[:, row, column]
        assert torch.allclose(curve[: int(50 * begin)], torch.tensor(1.0), atol=2 * near + 1e-5)
        assert int(curve.argmax()) == pytest.approx(50 * (begin + through_plane.RISE), abs=1)
        assert 1.9 < float(curve.max()) < 2 + 2 * near
    assert torch.allclose(gain[0], torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(gain[:, 0, 0], torch.tensor(1.0), atol=1e-3)


def test_the_first_volumes_choose_the_setting_nearest_to_one_and_are_left_out():
    volume = {"nrmse": 0.2, "seconds": 1.0}
    rows = {
        (0.0, 1): [{"through_plane": 1.3, **volume}, {"through_plane": 1.0, **volume}],
        (0.5, 1): [{"through_plane": 0.9, **volume}, {"through_plane": 1.2, **volume}],
    }
    none, half = through_plane.summarised(rows, 1).values()
    assert (none["chosen"], half["chosen"]) == (False, True)
    assert (half["tuning"], half["through_plane"], half["volumes"]) == (0.9, 1.2, 1)
    all_of_them = through_plane.summarised(rows, 0)
    assert all_of_them[0.5, 1]["through_plane"] == pytest.approx(1.05)
    assert (all_of_them[0.5, 1]["least"], all_of_them[0.5, 1]["most"]) == (0.9, 1.2)
    assert "chosen" not in all_of_them[0.5, 1]
    with pytest.raises(ValueError, match="one more must be left"):
        through_plane.summarised(rows, 2)


def test_frames_are_undersampled_differently_and_neighbours_calm_them(monkeypatch, tmp_path, capsys):
    folder, kept = tmp_path / "scans", tmp_path / "a.json"
    assert run(["simulate", "--out", str(folder), *SERIES.split()]) == 0
    monkeypatch.setattr(sys, "argv", ["through_plane", str(folder), *SETTINGS.split(), "--json", str(kept)])
    through_plane.main()
    rows = json.loads(kept.read_text())
    assert [(row["weight"], row["passes"], row["volumes"]) for row in rows] == [
        (0, 1, 1),
        (1, 1, 1),
        (1, 3, 1),
    ]
    variations = [row["through_plane"] for row in rows]
    assert variations == sorted(variations, reverse=True)
    assert len(set(variations)) == 3
    nearest = min(rows, key=lambda row: abs(row["tuning"] - 1))
    assert [row["chosen"] for row in rows] == [row is nearest for row in rows]
    assert f"| {nearest['weight']:g} | {nearest['passes']}, chosen |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["through_plane", str(folder), "--passes", "2", "--weights", "1", "0"])
    with pytest.raises(SystemExit):
        through_plane.main()
    assert "the last of --weights" in capsys.readouterr().err
    prep = through_plane.Options(acceleration=4, acs_lines=4, kernel_width=3, virtual_coils=0)
    source, (batch,) = next(through_plane.series_of(folder, 1, prep))
    lines = (batch.data.y != 0).any(1).any(1)
    assert lines.sum(1).tolist() == [8] * len(source)
    assert len(np.unique(lines.numpy(), axis=0)) == len(source)
