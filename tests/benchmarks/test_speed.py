"""The benchmarks of speed at tiny size: what they compare is the same, and their tables say so."""

import argparse
import importlib
import json
import sys

import pytest
import torch
from benchmarks import espirit, growth, normal, sampling, serving, startup, training

from mrigen import recipe as recipes
from mrigen.networks.layers import Conv2d
from mrigen.recipe.study import Study

NETWORK = {"name": "song-unet", "model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1}
SMALL = [
    "data.images.source=shapes",
    "data.images.size=8",
    "data.images.limit=32",
    f"teacher.network={ {**NETWORK, 'attn_resolutions': [], 'gated': True} }",
    "teacher.augment=0",
    "teacher.batch=4",
    "distill.batch=4",
    "distill.generator.lr=1e-3",
    "distill.fake.lr=1e-3",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = Study(
        recipes.load("celeba/denoise-s20", SMALL), tmp_path_factory.mktemp("study"), growth.quiet(), "cpu"
    )
    made.prepare()
    return made


@pytest.mark.parametrize("kind", ["teacher", "distillation"])
def test_the_plain_loop_trains_the_same_network_on_the_same_data(study, kind):
    given = argparse.Namespace(
        device="cpu", variants=["float32"], steps=2, rounds=1, peak=1.0, profile=3, plain=True
    )
    told: list[str] = []
    found = training.compare(kind, study.recipe, study.store, given, told.append)
    plain, ours = (found["programs"][name]["losses"] for name in ("plain", "float32"))
    assert len(plain) == len(ours) == 4
    assert ours == pytest.approx(plain, rel=1e-2, abs=3e-3)  # the first steps of Adam follow signs
    assert len({round(loss, 6) for loss in ours}) == 4
    assert found["flops"] > 0
    shares = [row["share"] for row in found["profile"][1:]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1
    assert [text.split()[1] for text in told[1:3]] == ["plain", "float32"]
    assert "%" in told[-1]


def test_a_gated_convolution_in_two_is_the_one_that_we_run():
    torch.manual_seed(0)
    layer = Conv2d(3, 5, 3, gated=True)
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(training.apart(layer, x, 1), layer(x), rtol=1e-6, atol=1e-6)


def test_generator_and_teacher_are_sampled_with_the_same_network(study, tmp_path):
    folders = sampling.models(study)
    given = argparse.Namespace(device="cpu", precision="32-true", batch=2, generator_batches=1, rounds=1)
    found = sampling.speeds(study, folders, given)
    rows = found["rows"]
    assert [rows[name]["evaluations"] for name in ("teacher", "generator")] == [79, 1]
    assert found["ratio"] == pytest.approx(
        rows["generator"]["images_per_second"] / rows["teacher"]["images_per_second"]
    )
    given.images = 5
    row = sampling.many(folders["generator"], given, tmp_path / "many.npz")
    assert row["images"] == 5
    assert row["mib"] > 0


def test_normal_operators_that_are_compared_are_the_same():
    rows = normal.compare((1, 3, 16, 12), rounds=1)
    assert {"torch", "sigpy", "mrigen"} <= {row["program"] for row in rows}
    assert all(row["difference"] < 1e-5 for row in rows if row["program"] != normal.TRANSFORMS)


def test_maps_of_a_batch_are_compared_slice_by_slice():
    kspace = torch.stack([espirit.simulate(3, 40, 36, seed) for seed in range(2)])
    row = espirit.compare(kspace, threads=1, rounds=1)["sigpy"]
    assert row["overlap"] > 0.9999
    assert row["slices_per_second"] == pytest.approx(2 / row["seconds"])


def test_exponents_of_known_growth():
    assert growth.row("a", "b", [1, 2, 4], [3.0, 12.0, 48.0])["exponent"] == pytest.approx(2)
    assert growth.row("a", "b", [1, 2, 4], [3.0, 3.0, 3.0])["exponent"] == pytest.approx(0)
    assert "| 2.00 |" in growth.lines([growth.row("a", "b", [1, 2], [1.0, 4.0])])


@pytest.mark.parametrize(
    ("part", "counts"), [(growth.volumes, (1, 2)), (growth.stores, (8, 16)), (growth.steps, (8, 16))]
)
def test_growth_is_measured_along_all_sizes(part, counts):
    rows = part(1, counts)
    assert [row["sizes"] for row in rows] == [list(counts)] * len(rows)
    assert all(second > 0 for row in rows for second in row["seconds"])


def test_growth_keeps_what_was_measured_before_a_failure(tmp_path, monkeypatch, capsys):
    def fails(rounds):
        raise MemoryError

    parts = {"first": lambda rounds: [growth.row("a", "b", [1, 2], [1.0, float(rounds)])], "second": fails}
    monkeypatch.setattr(growth, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["growth", "--rounds", "2", "--json", str(tmp_path / "growth.json")])
    with pytest.raises(MemoryError):
        growth.main()
    assert [row["what"] for row in json.loads((tmp_path / "growth.json").read_text())] == ["a"]
    assert "| a | b | 1, 2 | 1, 2 | 1.00 |" in capsys.readouterr().out


def test_benchmarks_are_listed_with_what_they_show():
    rows = importlib.import_module("benchmarks.__main__").listed()
    assert rows["growth"].startswith("How the time of each part grows")
    assert "soak_faults" not in rows
    assert all(rows.values())


def test_start_up_counts_imports_and_processes():
    wall, processor = startup.once(["-c", "pass"])
    assert processor > 0
    assert wall > 0
    assert "json" in {name for name, _ in startup.imports(["-c", "import json"], 1000)}


def test_a_stream_is_answered_twice_with_the_same_images(monkeypatch, tmp_path, capsys):
    small = ["--matrix", "32", "--coils", "2", "--slices", "2", "--acs-lines", "8", "--threads", "1"]
    monkeypatch.setattr(
        sys, "argv", ["serving", *small, "--solvers", "cg-sense:steps=5", "--json", str(tmp_path / "a.json")]
    )
    serving.main()
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [row["maps"] for row in rows] == ["computed", "known"]
    assert rows[0]["nrmse"] == pytest.approx(rows[1]["nrmse"], rel=1e-4)
    assert 0 < rows[0]["nrmse"] < 0.5
    assert all(0 < row["median"] <= row["longest"] for row in rows)
    assert "cg-sense:steps=5" in capsys.readouterr().out
