"""Benchmarks refuse mistakes before their work."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "benchmarks"
PROGRAMS = sorted(path.stem for path in ROOT.glob("*.py") if '"--json", type=' in path.read_text())


@pytest.fixture
def refused(monkeypatch, capsys):
    """What a benchmark says of its arguments on its way out."""

    def run(name, *arguments):
        module = importlib.import_module(f"benchmarks.{name}")
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            getattr(module, "one_line", lambda main: main())(module.main)
        said = capsys.readouterr()
        assert not said.out
        return said.err + (ended.value.code if isinstance(ended.value.code, str) else "")

    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_file_that_cannot_be_written(refused, tmp_path, name):
    first = [tmp_path] if name == "real_scan" else []
    assert f"there is no folder {tmp_path / 'none'}" in refused(
        name, *first, "--json", tmp_path / "none" / "a.json"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accelerations", 4, "--acs-lines", 4, 3], "2 numbers for 1 accelerations"),
        (["--acs-lines", 4], "1 numbers for 2 accelerations"),
        (["--accelerations", 12], "3 at R = 12 must be at least --kernel-width, 3, and at most the 2.66667"),
        (["--acs-lines", 2, 3], "2 at R = 4 must be at least"),
        (["--only", "DSD"], "--only 'DSD': choose from ambient one-step"),
        (["--only", "DDS"], "--only 'DDS': needs --teacher"),
        (["--samples", 1], "no whole number from 2 on"),
        (["--accelerations", 0], "no number above 0"),
        (["--teacher", "nowhere"], "there is no nowhere"),
    ],
)
def test_reconstruction(refused, arguments, message):
    assert message in re.sub(r"\s+", " ", refused("reconstruction", *arguments))


def test_one_acceleration_needs_no_other_argument():
    import argparse

    from benchmarks.reconstruction import checked

    given = {"matrix": 32, "kernel_width": 3, "acs_lines": None, "only": None}
    for accelerations, lines in (([4.0], [4]), ([4.0, 8.0], [4, 3]), ([2.0], [4])):
        options = argparse.Namespace(accelerations=accelerations, **given)
        assert checked(argparse.ArgumentParser(), options).acs_lines == lines


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ablations", ["--vary", "distill.lsos=1"], "lsos: unknown key"),
        ("heads", ["--heads", "colin", "--l1", "l2-wavelet"], "l2-wavelet"),
        ("heads", ["--heads", "colin", "--set", "distill.lsos=1"], "lsos: unknown key"),
        ("distillation_steps", ["--recipe", "toy/digits-inpaint", "--steps", 0], "no whole number from 1 on"),
        ("posterior", ["--sigma", "-1"], "no number above 0"),
        ("self_supervised", ["--scenario", "single-operator"], "invalid choice: 'single-operator'"),
        ("self_supervised", ["--heads", "colin", "--set", "distill.lsos=1"], "lsos: unknown key"),
        ("fine_tuning", ["--heads", "colin", "--model", "nowhere"], "there is no nowhere"),
        ("memorisation", ["--missing", "1"], "1 is no fraction of the pixels below 1"),
        ("memorisation", ["--share", "0"], "nothing is left to train on"),
        ("sample_size", ["--counts", "100", "500", "--fitted", "200"], "fewer than two of --counts"),
        ("sampling", ["--counts", "many"], "no whole number from 1 on"),
    ],
)
def test_others(refused, tmp_path, monkeypatch, name, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(name, *arguments)
    assert list(tmp_path.iterdir()) == []
