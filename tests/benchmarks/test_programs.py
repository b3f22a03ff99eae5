"""Benchmarks as programs, at their smallest: they end, and their tables and files hold numbers."""

import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from label_maps import write_heads

from mrigen.errors import UsageError

ROOT = Path(__file__).parents[2]
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


def heads_command(out, anatomies):
    """The benchmark of unseen heads at its smallest."""
    parts = ["--train", "1-2", "--tune", "3", "--test", "4", "--acceleration", "2", "--stops", "0.4"]
    return ["heads", "--smoke", "--work", str(out), "--heads", str(anatomies), "--device", "cpu", *parts]


@pytest.fixture(scope="module")
def heads_run(tmp_path_factory):
    """Folder, label maps and rows of the benchmark of unseen heads at R = 2."""
    from benchmarks import heads

    out = tmp_path_factory.mktemp("heads")
    anatomies = write_heads(out / "anatomies", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", heads_command(out / "work", anatomies))
        heads.main()
    lines = (out / "work" / "rows.jsonl").read_text().splitlines()
    return out / "work", anatomies, [json.loads(line) for line in lines]


def test_unseen_heads(heads_run):
    out, _, rows = heads_run
    names = [
        "observation",
        "floor: tune heads",
        "floor: train heads",
        "teacher",
        "teacher, σ ≥ 0.4",
        "teacher after laps",
        "student",
    ]
    assert [row["row"] for row in rows] == [*names, "L1-EDM"]
    for row in rows:
        assert list(row["at"]) == ["8", "12"]
        assert all(math.isfinite(value) and value >= 0 for value in numbers(row["at"]))
        assert row["at"]["8"] != row["at"]["12"]
    by_name = {row["row"]: row["at"]["12"] for row in rows}
    for metric in ("r64", "fd_pca_head"):
        assert by_name["floor: tune heads"][metric] < by_name["teacher"][metric]
    assert rows[-1]["training_images"] % 8 == 0
    assert rows[-1]["budget"] == pytest.approx(sum(row.get("seconds", 0) for row in rows[:-1]), rel=0.2)
    for part, files in (("train", "12"), ("tune", "3"), ("test", "4")):
        volumes = (out / "seed-0" / "R2" / f"store-{part}").glob("head_*.h5")
        assert {path.name[5] for path in volumes} == set(files)


def test_unseen_heads_go_on_where_they_stopped(heads_run, monkeypatch, capsys):
    """Rows that are there are not made again; a row that is missing comes out the same."""
    from benchmarks import heads

    out, anatomies, rows = heads_run
    file = out / "rows.jsonl"
    before = file.read_text()
    file.write_text("".join(f"{line}\n" for line in before.splitlines() if '"teacher"' not in line))
    monkeypatch.setattr(heads.Case, "l1_edm", lambda _: pytest.fail("made again"))
    monkeypatch.setattr(sys, "argv", [*heads_command(out, anatomies), "--only", "student"])
    heads.main()
    assert len(file.read_text().splitlines()) == len(rows) - 1
    monkeypatch.setattr(sys, "argv", heads_command(out, anatomies))
    heads.main()
    again = [json.loads(line) for line in file.read_text().splitlines()]
    (teacher,) = (row for row in rows if row["row"] == "teacher")
    assert again[-1]["at"] == teacher["at"]
    assert len(again) == len(rows)
    assert "student at most 0.8 of L1-EDM" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*heads_command(out, anatomies), "--contrast", "pd"])
    with pytest.raises(UsageError, match="other settings"):
        heads.main()


def test_rows_of_two_seeds_and_where_the_student_falls_short():
    from benchmarks import heads

    def row(name, seed, value):
        at = dict.fromkeys(heads.METRICS, value)
        return {"row": name, "seed": seed, "acceleration": 4, "at": {"50": at}}

    values = {"teacher": (2.0, 4.0), "student": (1.0, 5.0), "L1-EDM": (1.2, 9.0)}
    text = heads.table([row(name, seed, value[seed]) for seed in (0, 1) for name, value in values.items()])
    assert "| 4 | teacher | 3.000 ± 1.414 |" in text
    assert "R64: student at most 1 of teacher: not at R = 4 (seed 1)" in text
    assert "R64: student at most 0.8 of L1-EDM: not at R = 4 (seed 0)" in text


def test_seeds_of_a_recipe_with_every_row_and_metric():
    from benchmarks import demo_seeds

    def summary(seed, teacher, student):
        distances = {"observation": 9.0, "teacher": teacher, "lap-1": 2.0, "student": student, "floor": 1.0}
        rows = {name: {"fd": d, "fd_r64": d / 10, "energy_outside": 0.5} for name, d in distances.items()}
        minutes = {"minutes": 1.0, "cpu_minutes": 2.0}
        return {"seed": seed, "n": 100 + seed, "features": ["pca", "r64"], **rows, **minutes}

    text = demo_seeds.table([summary(0, 4.0, 2.0), summary(1, 6.0, 5.0)], 0.8)
    assert "n = 100 (seed 0), 101 (seed 1)" in text
    assert "| teacher | 5.000 ± 1.414 | 0.500 ± 0.141 | 0.500 ± 0.000 |" in text
    assert "| lap-1 | 2.000 ± 0.000 |" in text
    assert "| 1 | 6.000 | 5.000 | 0.833 | 1.0 | 2.0 |" in text
    assert "below the observations: 1 of 2 seeds" in text


def test_no_heads_is_one_line(monkeypatch, tmp_path, capsys):
    from benchmarks import heads

    monkeypatch.setattr(heads, "PLACES", [tmp_path / "nothing"])
    monkeypatch.setattr(sys, "argv", ["heads", "--work", str(tmp_path / "work")])
    heads.main()
    assert capsys.readouterr().out.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_the_bundled_head_has_three_parts_too(tmp_path):
    from benchmarks import heads

    given = heads.options().parse_args(["--smoke", "--heads", "colin", "--work", str(tmp_path)])
    case = heads.Case(heads.planned(given), 2, 0)
    train, test = (case.references(part) for part in ("train", "test"))
    assert (len(train), len(test)) == (24, 18)
    assert not (train[:18] == test).all()


def test_reconstruction_of_held_out_slices(program, heads_run, tmp_path):
    base = heads_run[0] / "seed-0" / "R2"
    models = ["--teacher", base / "base" / "teacher" / "model"]
    models += ["--generator", base / "student" / "student" / "model"]
    few = ["--accelerations", 2, "--acs-lines", 4, "--matrix", 16, "--coils", 2, "--slices", 2, "--tuning", 1]
    chosen = ["--only", "ambient one-step", "DDS", "--samples", 2, "--figure", tmp_path / "calibration.png"]
    said, found = program("reconstruction", *models, *few, *chosen)
    rows = {row["row"]: row for row in found["rows"]}
    assert {"zero-filled", "l1-wavelet", "ambient one-step", "DDS", "DDS, mean of 2"} <= set(rows)
    assert all(math.isfinite(row["psnr"]) and row["nrmse"] > 0 for row in rows.values())
    assert rows["DDS, mean of 2"]["ratio"] == found["calibration"]["DDS, R = 2"]["ratio"] > 0
    assert "R = 2, 4 ACS lines, 2 slices" in said
    assert "| error over deviation |" in said
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


def test_adversarial(program, tmp_path):
    """Both students of a seed are of one teacher, differ, and the ratio is theirs."""
    said, rows = program("adversarial", *digits("--out", tmp_path, "--seeds", 0, 1))
    names = [(row["seed"], row["variation"]) for row in rows]
    expected = [(s, v) for s in (0, 1) for v in ("teacher", "student", "student, adversary 0.05")]
    assert names == expected
    distances = [row["fd"] for row in rows]
    assert len(set(distances)) == len(rows)
    ratios = [distances[2] / distances[1], distances[5] / distances[4]]
    assert f"| {sum(ratios) / 2:.3f} ± " in said.splitlines()[-1]


def test_mixed_quality(monkeypatch, tmp_path, capsys):
    """Training sets are as large as they say, mixed ones differ by the limit, nothing is done twice."""
    from benchmarks import mixed_quality

    few = ["data.images.limit=120", "teacher.images=64", "teacher.batch=32", "teacher.network.hidden=8"]
    few += ["teacher.ema_halflife=16", "teacher.optimizer.ramp_images=1"]
    command = ["--shares", "0.05", "--out", str(tmp_path), "--json", str(tmp_path / "a")]
    command = ["mixed_quality", *settings(*few), *command]
    monkeypatch.setattr(sys, "argv", command)
    mixed_quality.main()
    rows = {row["data"]: row for row in map(json.loads, (tmp_path / "a").read_text().splitlines())}
    many = rows["all clean"]["count"]
    clean = rows["5 % clean alone"]["count"]
    assert clean == round(0.05 * many)
    assert rows["noisy, and 5 % clean"]["count"] == rows["the same, no limit, 5 %"]["count"] == many + clean
    limited, free = (rows[name]["pixels"] for name in ("noisy, and 5 % clean", "the same, no limit, 5 %"))
    assert limited != free
    assert rows["5 % clean alone"]["nearest_reference"] > rows["all clean"]["nearest_reference"]
    before = capsys.readouterr().out
    mixed_quality.main()
    assert capsys.readouterr().out == before[before.index("| training set") :]


def test_seeds_of_a_training_set_are_averaged():
    from benchmarks.mixed_quality import averaged, table

    def row(data, full, seconds):
        return {"data": data, "count": 9, "n": 4, "r64": {"full": full, "stopped": 1.0}, "seconds": seconds}

    rows = averaged([row("noisy", 1.0, 2.0), row("mixed", 3.0, 5.0), row("noisy", 2.0, 4.0)])
    assert [(r["data"], r["seeds"], r["r64"]["full"], r["seconds"]) for r in rows] == [
        ("noisy", 2, 1.5, 3.0),
        ("mixed", 1, 3.0, 5.0),
    ]
    assert "| noisy | 2 | 9 | 1.5 | 1 |  | 3 |" in table([row("noisy", 1.0, 2.0), row("noisy", 2.0, 4.0)])


def test_steps_of_students(program, tmp_path):
    drawn = ["--figure", tmp_path / "steps.png", "--steps", 1, 2, "--levels", 2]
    said, rows = program("distillation_steps", *digits("--out", tmp_path, *drawn))
    evaluations = {row["variation"]: row["evaluations"] for row in rows}
    students = {"student, 1 step": 1, "student, 2 steps": 2, "one network, 1 step": 1}
    assert evaluations == {"teacher, 2 levels": 3, **students}
    distances = [row["fd"] for row in rows]
    assert all(math.isfinite(distance) for distance in distances)
    assert len(set(distances)) == 4
    assert f"| one network, 1 step | 1 | {distances[-1]:.3f} |" in said
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
        ("image_cases", {"pseudo-inverse", "Noise2Self, wavelets", "Tweedie teacher, posterior mean"}),
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

    from mrigen import fourier

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
    assert len(rows) == 7
    assert "noise of the points put aside: 0." in said
    assert rows["l1-wavelet, λ = 0.001"]["bart"] > 0.9
    assert all(0 < row["aside"] < 2 for row in rows.values())


@pytest.mark.parametrize("data", ["inpaint", "denoise", "heads"])
def test_no_method_sees_more_images_than_another(data):
    from benchmarks.method_stages import of_heads, of_pictures

    stages = of_heads(0.05) if data == "heads" else of_pictures(noisy=data == "denoise")

    def seen(name):
        stage = stages[name]
        return stage.part + (seen(stage.start) if stage.start else 0)

    assert max(seen(name) for name in stages) == 1
    finals = {name for name in stages if name not in {stage.start for stage in stages.values()}}
    assert {seen(name) for name in finals} == {1}


def test_methods_on_one_data_set(monkeypatch, tmp_path, capsys):
    """Rows as they are ready; known ones are not measured again."""
    from benchmarks import methods

    words = ["methods", "--data", "digits-denoise", "--smoke", "--work", str(tmp_path), "--device", "cpu"]
    names = ["observation", "naive: noise as signal", "its student by SiD", "EM from 50 clean images, 1"]
    for some in (names[:1], names):
        only = [word for name in some for word in ("--only", name)]
        monkeypatch.setattr(sys, "argv", [*words, *only])
        methods.main()
    folder = tmp_path / "digits-denoise"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == names
    assert {row["n"] for row in rows} == {8}
    assert [row.get("evaluations") for row in rows] == [None, 35, 1, 35]
    assert all(math.isfinite(row["fd"]) and row["fd"] > 0 for row in rows)
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| observation |")]
    assert len(table) == 2
    restored = folder / "EM-from-50-clean-images-1" / "teacher" / "restored.h5"
    assert restored.is_file()
    monkeypatch.setattr(sys, "argv", [*words, "--images", "128", "--set", "seed=1"])
    with pytest.raises(UsageError, match="rows of other settings"):
        methods.main()
