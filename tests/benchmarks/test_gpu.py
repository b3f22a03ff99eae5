"""The benchmark of GPUs, without one: rows are kept whatever becomes of the others."""

import argparse
import json

import pytest
from benchmarks import gpu


def test_a_row_that_fails_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    """One row is measured, another has no time left."""
    monkeypatch.setattr(gpu, "LIMITS", {"espirit": 0.1})
    out = tmp_path / "gpu.json"
    given = argparse.Namespace(
        minutes=2, device="cpu", smoke=True, rows=["normal", "espirit"], patience=4.0, json=out
    )
    gpu.run(given)
    saved = json.loads(out.read_text(encoding="utf-8"))
    assert saved["about"]["torch"]
    normal, espirit = saved["rows"]["normal"], saved["rows"]["espirit"]
    assert normal["error"] is None
    assert {row["mask"] for row in normal["numbers"]} == {"lines", "points"}
    programs = [row for row in normal["numbers"] if "difference" in row]
    assert len(programs) >= 2 * 2
    assert all(row["difference"] < 1e-5 for row in programs)
    assert espirit["error"]
    assert "normal: done" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sample", "repeat", "convolution", "memory", "reconstruct"])
def test_rows_are_measured_at_their_smallest(name, tmp_path):
    rows = list(gpu.ROWS[name](gpu.Case("cpu", smoke=True, folder=tmp_path))())
    if name == "repeat":
        assert [row["equal_bits"] for row in rows] == [True, True]
    elif name == "convolution":
        assert rows[0]["milliseconds"]["gradient"] > 0
        assert rows[1]["difference"] == 0
    elif name == "memory":
        assert rows[0]["counted"]
        assert rows[0]["micro_batch"] > 1000
        assert rows[1]["chosen_batch"] == 2
    elif name == "reconstruct":
        assert 2 * rows[0]["evaluations"] == rows[1]["evaluations"] > 0
    else:
        assert rows[0]["images_per_second"] > 0
        assert min(rows[2].values()) > 0
        assert rows[1]["difference"] < 1e-5
        assert rows[-1]["images"] == 8


def test_what_was_never_measured_comes_first():
    """Rows without a number in the table of one GPU, and then the others."""
    assert list(gpu.ROWS)[:5] == ["sample", "photos-teacher", "brain-distillation", "memory", "repeat"]
