"""The scaling table against arithmetic by hand."""

import json
import sys

import pytest
from benchmarks import scaling
from benchmarks.scaling import INPUTS, Network, preparation, training

GIVEN = {name: value for name, (value, _) in INPUTS.items()}
NETWORK = Network(parameters=25e6, forward=1e12)


def test_training_is_images_over_speed_until_something_else_saturates():
    given = {**GIVEN, "teacher-speed": 2.0}
    eight = training(given, NETWORK, 8, "teacher", batch=8, length=1.6e6)
    assert eight["days"] == pytest.approx(1.6e6 / 16 / 86400)
    assert eight["cost"] == pytest.approx(1.6e6 / 2 / 3600 * 2.5)
    assert eight["bound"] == "GPUs"
    idle = training(given, NETWORK, 64, "teacher", batch=8, length=1.6e6)
    assert (idle["used"], idle["days"], idle["bound"]) == (8, eight["days"], "batch: 56 GPUs idle")
    many = training(given, NETWORK, 64, "teacher", batch=64, length=64)
    assert many["days"] * 86400 == pytest.approx(0.5 + 8 * 25e6 / 25e9)
    slow = training({**given, "disk-gigabytes": 0.1}, NETWORK, 64, "teacher", batch=64, length=64)
    assert slow["bound"] == "disk"
    assert slow["days"] * 86400 == pytest.approx(64 * 4.1e6 / 0.1e9 + 8 * 25e6 / 25e9)


def test_speed_follows_from_operations():
    """18 TFLOP/s over eleven passes of 1 TFLOP; a student reads no slices."""
    row = training(GIVEN, NETWORK, 1, "student", batch=24, length=1e6)
    assert row["images/s"] == pytest.approx(18 / 11)


def test_preparation_is_bound_by_cores_and_then_by_the_disk():
    few, many = preparation(GIVEN, 1), preparation(GIVEN, 64)
    assert few["days"] == pytest.approx(1.6e6 * 0.3 / 16 / 86400)
    assert few["bound"] == "cores"
    assert many["days"] == pytest.approx(1.6e6 * 30.3e6 / 5e9 / 86400)
    assert many["bound"] == "disk"


def test_the_command_prints_what_it_was_given(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "counted_network", lambda name: NETWORK)
    numbers = tmp_path / "numbers.json"
    monkeypatch.setattr(
        sys,
        "argv",
        ["scaling", "--gpus", "2", "--slices", "1e6", "--student-speed", "3", "--json", str(numbers)],
    )
    scaling.main()
    assert "store 4.1 TB" in capsys.readouterr().out
    rows = json.loads(numbers.read_text())["rows"]
    assert {row["gpus"] for row in rows} == {2}
    assert [row["images/s"] for row in rows if row["stage"] == "student"] == pytest.approx([6, 6])
