"""Benchmarks as programs, at their smallest: they end, and their tables and files hold numbers."""

import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "tests" / "recipes" / "tiny.yaml")
PIXELS = "evaluate.features=pixels"
DIGITS = (
    "data.images.limit=60",
    "teacher.network.hidden=8",
    "teacher.images=64",
    "teacher.batch=32",
    "distill.images=64",
    "distill.batch=32",
    "distill.selection={every_images: 32, samples: 16}",
    "evaluate.samples=12",
    "evaluate.sampler={name: heun, steps: 3}",
)
NETWORK = {
    "name": "song-unet",
    "model_channels": 8,
    "channel_mult": [1],
    "num_blocks": 1,
    "attn_resolutions": [],
}


def settings(*given):
    return [word for setting in given for word in ("--set", setting)]


def digits(*more):
    return ["--recipe", "toy/digits-inpaint", "--device", "cpu", *settings(*DIGITS), *more]


@pytest.fixture
def program(monkeypatch, tmp_path, capsys):
    """Run a benchmark's ``main``: what it printed, and its JSON."""

    def run(name, *arguments):
        module = importlib.import_module(f"benchmarks.{name}")
        file = tmp_path / "numbers.json"
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), "--json", str(file)])
        module.main()
        return capsys.readouterr().out, json.loads(file.read_text())

    return run


def numbers(tree):
    """All floating-point numbers of a JSON tree."""
    if isinstance(tree, dict | list):
        return [x for part in (tree.values() if isinstance(tree, dict) else tree) for x in numbers(part)]
    return [tree] if isinstance(tree, float) else []


@pytest.fixture(scope="module")
def brain_run(tmp_path_factory):
    """Folder, table and rows of two seeds at R = 2."""
    from benchmarks import brain

    out = tmp_path_factory.mktemp("brain")
    arguments = [
        "--recipe",
        TINY,
        "--accelerations",
        "2",
        "--matrix",
        "16",
        "--l1",
        "l1-wavelet:iterations=2",
    ]
    arguments += [
        "--seeds",
        "0",
        "1",
        "--out",
        str(out),
        "--json",
        str(out / "brain.json"),
        "--device",
        "cpu",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["brain", *arguments, *settings(PIXELS, "evaluate.samples=6")])
        brain.main()
    return out, json.loads((out / "brain.json").read_text())


def test_brain_of_two_seeds(brain_run):
    from benchmarks import brain

    out, rows = brain_run
    early = ", stopped at σ = 0.5"
    names = ["observation", "L1-EDM", f"L1-EDM{early}", "teacher", f"teacher{early}", "student"]
    assert [(row["seed"], row["variation"]) for row in rows] == [(s, name) for s in (0, 1) for name in names]
    first, second = ([row["fd"] for row in rows if row["seed"] == seed] for seed in (0, 1))
    assert all(a > 0 and b > 0 and a != b for a, b in zip(first, second, strict=True))
    text = brain.table(rows, "pixels")
    assert f"| 2 | teacher | {(first[3] + second[3]) / 2:.3f} ± " in text
    assert (out / "seed-1" / "R2" / "base" / "teacher" / "model").is_dir()


def test_reconstruction_of_held_out_slices(program, brain_run, tmp_path):
    base = brain_run[0] / "seed-0" / "R2"
    models = ["--teacher", base / "base" / "teacher" / "model"]
    models += ["--generator", base / "student" / "student" / "model"]
    few = ["--accelerations", 2, "--acs-lines", 4, "--matrix", 16, "--coils", 2, "--slices", 2, "--tuning", 1]
    chosen = ["--only", "ambient one-step", "DDS", "--samples", 2, "--figure", tmp_path / "calibration.png"]
    said, found = program("reconstruction", *models, *few, *chosen)
    rows = found["results"]["2"]
    assert {"zero-filled", "l1-wavelet", "ambient one-step", "DDS", "DDS, mean of 2"} <= set(rows)
    assert all(math.isfinite(row["psnr"]) and row["nrmse"] > 0 for row in rows.values())
    assert "DDS, R = 2" in found["calibration"]
    assert "error over predicted standard deviation" in said
    assert (tmp_path / "calibration.png").stat().st_size > 1000


def test_memory_of_a_reconstruction(program):
    small = ["--size", 32, 128, "--coils", 2, "--slices", 1, "--network", json.dumps(NETWORK)]
    said, (row,) = program("reconstruction_memory", *small, "--solvers", "DDS")
    assert 2**27 < row["peak_bytes"] < 6 * 2**30
    assert "| yes |" in said


def test_ablations(program, tmp_path):
    said, rows = program("ablations", *digits("--out", tmp_path, "--only", "start: student random"))
    names = [row["variation"] for row in rows]
    assert names == ["teacher", "teacher, stopped at σ = 0.5", "start: student random"]
    assert all(row["fd"] > 0 for row in rows)
    assert "| start: student random |" in said


def test_steps_of_students(program, tmp_path):
    drawn = ["--figure", tmp_path / "steps.png", "--steps", 1, 2, "--levels", 2]
    _, rows = program("distillation_steps", *digits("--out", tmp_path, *drawn))
    assert sorted(row["evaluations"] for row in rows) == [1, 2, 3]
    assert all(math.isfinite(row["fd"]) for row in rows)
    assert (tmp_path / "steps.png").stat().st_size > 1000


def test_selection(program, tmp_path):
    drawn = ["--figure", tmp_path / "selection.png", "--resamples", 10]
    said, found = program("selection", *digits("--out", tmp_path, *settings("distill.images=128"), *drawn))
    assert [row["images"] for row in found["generators"]] == [32, 64, 96, 128]
    assert found["regret"] >= 0
    assert "regret" in said
    assert (tmp_path / "selection.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("image_cases", {"pseudo-inverse", "Noise2Self, wavelets", "Tweedie teacher, E[x | y]"}),
        ("restoration", {"ambient one-step", "DPS, ambient teacher"}),
    ],
)
def test_restorations_of_digits(program, tmp_path, name, methods):
    more = ["--teachers", "ambient"] if name == "restoration" else []
    said, rows = program(name, "--tiny", "--out", tmp_path, *more)
    assert methods <= {row["method"] for row in rows}
    assert np.isfinite(numbers(rows)).all()
    assert all(method in said for method in methods)


def test_real_scan_beside_a_golden_image(program, tmp_path):
    """A scan of 40 x 136 points; the golden image is compared with every method's."""
    import torch
    from sigpy.mri import birdcage_maps

    from mrigen.operators import fourier

    size, generator = (40, 136), np.random.default_rng(0)
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in size), indexing="ij")
    head = ((x / 0.7) ** 2 + (y / 0.85) ** 2 < 1) * (1 + 0.5 * np.cos(7 * x))
    k = fourier.fft(torch.from_numpy((birdcage_maps((3, *size)) * head).astype(np.complex64))).numpy()
    measured = generator.random(size) < 0.6
    measured[8:32, 56:80] = True
    np.save(tmp_path / "scan.npy", k * measured)
    np.savez(tmp_path / "golden.npz", maps=np.ones((3, *size)), image=head * np.exp(1j))
    more = ["--solvers", "plug-and-play", "--out", tmp_path / "out", "--golden", tmp_path / "golden.npz"]
    said, rows = program("real_scan", tmp_path / "scan.npy", "--tiny", *more)
    assert "correlation with BART's l1-wavelet" in said
    assert len(rows) == 4
    assert rows["l1-wavelet, λ = 0.001"]["bart"] > 0.9
    assert all(0 < row["aside"] < 2 for row in rows.values())
