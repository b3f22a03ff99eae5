"""The benchmark of GPUs, without one: rows are kept whatever becomes of the others."""

import argparse
import json
import subprocess
import sys
import time

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


@pytest.mark.parametrize(
    "name",
    [
        *("sample", "repeat", "tests", "convolution", "memory", "reconstruct", "espirit"),
        *("photos-teacher", "brain-teacher", "brain-distillation"),
    ],
)
def test_rows_are_measured_at_their_smallest(name, tmp_path, capsys):
    rows = list(gpu.ROWS[name](gpu.Case("cpu", smoke=True, folder=tmp_path))())
    if name == "repeat":
        cases = {(row["kind"], row["deterministic"], row.get("resumed", False)) for row in rows}
        assert len(cases) == len(rows) == 2 * 2 * 2
        assert all(row["equal_bits"] and row["difference"] == 0 for row in rows)
    elif name == "tests":
        assert rows[0]["failures"] == []
        assert rows[0].get("passed", 0) + rows[0].get("skipped", 0) > 10
    elif name == "espirit":
        assert rows[0]["slices_per_second"] > 0
        assert min(row["overlap"] for row in rows if "overlap" in row) > 1 - 1e-6
    elif name.endswith(("teacher", "distillation")):
        (result,) = rows
        programs = [row for row in emitted(capsys.readouterr().out) if "program" in row]
        assert [row["program"] for row in programs] == ["plain", "float32"] == list(result["programs"])
        assert programs[0]["loss_difference"] == 0
        assert programs[1]["loss_difference"] < (1e-4 if "teacher" in name else 1e-2)
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
        assert min(rows[1].values()) > 0
        assert rows[2]["images"] == 8
        assert rows[3]["batches"] == [4, 1]
        assert rows[3]["difference"] < 1e-5
        assert rows[3]["equal_bits"] == (rows[3]["difference"] == 0)
        assert rows[3]["difference_to_eager"] == 0


def emitted(text):
    """Rows that were printed while they were measured."""
    return [json.loads(line.removeprefix(gpu.ROW)) for line in text.splitlines() if line.startswith(gpu.ROW)]


def test_a_row_gets_ready_and_measures_within_one_deadline():
    """Getting ready takes from the time of measuring."""
    script = "import time; print('@ready', flush=True); input(); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(1.5); {script}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running = gpu.Running("slow", process)
    running.listen(lambda: None)
    start = time.monotonic()
    assert running.measured(3.0) == "not done in its time"
    assert 3.0 <= time.monotonic() - start < 4.2


def test_a_machine_without_the_drivers_program_is_measured_all_the_same(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert gpu.driver() is None


def test_what_was_never_measured_comes_first():
    """Rows without a number in the table of one GPU, and then the others."""
    assert list(gpu.ROWS)[:5] == ["sample", "photos-teacher", "brain-distillation", "memory", "repeat"]
