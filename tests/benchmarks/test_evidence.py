"""Benchmarks of distillation: the numbers that they derive, and the settings that they try."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import ablations, digits, heads, memorisation, sample_size, selection
from rich.console import Console
from scipy.stats import spearmanr

from mrigen import recipe as recipes
from mrigen.data.images import read_images
from mrigen.data.stores import open_store
from mrigen.errors import UsageError
from mrigen.losses import LOSSES
from mrigen.metrics.frechet import Statistics
from mrigen.metrics.reference import open_reference
from mrigen.prep.images.options import ImageOptions
from mrigen.recipe.restoring import restore
from mrigen.recipe.study import Study

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "tests" / "recipes" / "tiny.yaml")


@pytest.fixture(scope="module")
def mri(tmp_path_factory):
    """A study of MRI data that are prepared."""
    study = Study(recipes.load(TINY), tmp_path_factory.mktemp("mri"), Console(quiet=True), "cpu")
    study.prepare()
    return study


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Ablations of few noisy digits that are prepared."""
    changes = ["data.images.limit=40"]
    work = ablations.Ablations("toy/digits-denoise", tmp_path_factory.mktemp("noisy"), changes, "cpu")
    work.base.prepare()
    return work


def test_regret_is_what_the_proximal_choice_loses():
    true = np.array([4.0, 2.0, 2.5, 3.0])
    assert selection.regret(true, np.array([9.0, 5.0, 6.0, 7.0])) == 0
    assert selection.regret(true, np.array([9.0, 6.0, 5.0, 7.0])) == pytest.approx(0.25)


def test_rank_correlation_is_spearmans():
    a, b = np.random.default_rng(0).normal(size=(2, 30)).round(1)
    assert selection.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert selection.rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert np.isnan(selection.rank_correlation(a, np.ones(30)))


def test_intervals_are_points_without_spread_and_hold_the_estimate_with_it():
    generator = np.random.default_rng(0)
    estimate = np.linspace(1, 3, 20)
    exact = np.broadcast_to(estimate, (51, 20))
    found = selection.judged(exact, exact**2)
    assert (found["regret"], found["regret_interval"]) == (0, [0, 0])
    assert found["rank_correlation_interval"] == pytest.approx([1, 1])
    biased = np.vstack([estimate, estimate + 5 + generator.normal(scale=0.3, size=(400, 20))])
    assert selection.centred(biased).mean(0) == pytest.approx(estimate, abs=0.1)
    found = selection.judged(biased, exact[:1].repeat(401, 0))
    low, high = found["rank_correlation_interval"]
    assert 0.5 < low < found["rank_correlation"] == pytest.approx(1)
    assert low < high < 1


def test_table_and_figure_of_selection(tmp_path):
    rows = [{"images": 8.0 * i, "halflife": 1.0, "true": 5.0 - i, "proximal": 2.0 * i} for i in (1, 2, 3)]
    found = {"recipe": "toy", "features": "pixels", "n": 8, "teacher": 6.0, "generators": rows}
    found |= {"picked": rows[0], "best": rows[2], "kept_by_the_run": rows[1], "regret_of_the_run": 0.5}
    found |= {"regret": 1.0, "regret_interval": [0.5, 1.25], "rank_correlation": -1.0}
    text = selection.table(found)
    assert "| 8 | 1 | 4.000 | 2.000 | picked |" in text
    assert "| 24 | 1 | 2.000 | 6.000 | best |" in text
    assert "regret 100.0% [50.0%, 125.0%]" in text
    selection.draw(found, tmp_path / "selection.png")
    assert (tmp_path / "selection.png").stat().st_size > 10_000


@pytest.mark.parametrize("matrix", [32, 64])
@pytest.mark.parametrize("acceleration", [2, 4, 6, 8])
def test_calibration_lines_leave_some_to_chance_and_fit_the_kernel(acceleration, matrix):
    lines = heads.acs_lines(acceleration, matrix)
    assert recipes.load("demo/brain").data.prep["kernel_width"] <= lines < matrix // acceleration


def test_noisy_recipes_have_rows_of_a_noise_floor():
    """At the data's noise level and at half of it, where the loss's draws stop."""
    recipe = recipes.load("celeba/denoise-s20")
    found = ablations.variations(recipe, {"operator": {"name": "identity"}, "sigma": {"low": 0.2}}, [])
    rows = {name: settings for name, settings in found.items() if name.startswith("σ floor")}
    assert list(rows) == ["σ floor 0.1", "σ floor 0.2"]
    changed = recipes.load("celeba/denoise-s20", rows["σ floor 0.2"])
    assert LOSSES.params(changed.distill.loss).noise.floor == 0.2
    assert changed.distill.loss["name"] == recipe.distill.loss["name"]
    assert not ablations.floors({"mask": {"acceleration": 4}})
    assert not ablations.floors({"sigma": {"low": 0.0}})


def test_reconstructions_are_the_images_of_the_store_in_order(mri, tmp_path):
    """Each explains its own measurement better than Aᴴ y does, and that of another slice badly."""
    store = open_store(mri.store_folder)
    path = tmp_path / "images.h5"
    restore(mri, {"name": "l1-wavelet", "regularization": 1e-6, "iterations": 30}, None, path)
    found = torch.cat(list(read_images(path)))
    batch = store.measurements(list(range(len(store))))

    def misfit(images):
        return (batch.operator.forward(images) - batch.y).flatten(1).norm(dim=1)

    assert bool((misfit(found) < misfit(batch.operator.as_image(batch.y))).all())
    assert bool((misfit(found.roll(1, 0)) > 3 * misfit(found)).all())


def test_l1_edm_sees_whole_images_and_no_mask(mri, tmp_path):
    folder = tmp_path / "reconstructions"
    study = heads.ReconstructedStudy(mri, "l1-wavelet:iterations=2", folder, tmp_path / "l1", "cpu", 16)
    study.train()
    described = study.store.described()
    assert described["restored"] == {"solver": "l1-wavelet:iterations=2"}
    assert described["operator"] == {"name": "identity", "complex_valued": True}
    images = torch.cat(list(read_images(folder / "images.h5")))
    seen = study.store.measurements([3, 0])
    assert torch.equal(seen.operator.as_image(seen.y), images[[3, 0]])
    work = ablations.Ablations(TINY, tmp_path / "work", [], "cpu")
    made = work.sample(study, study.teacher_folder, tmp_path / "samples", 0.0)
    sampled = torch.cat(list(read_images(Path(made["path"]))))
    assert sampled.shape == (8, 1, 16, 16)
    assert sampled.is_complex()
    assert bool(sampled.isfinite().all())


def test_samples_are_made_again_by_another_sampler(mri, tmp_path):
    mri.train()
    work, folder = ablations.Ablations(TINY, tmp_path / "work", [], "cpu"), tmp_path / "samples"
    model = mri.teacher_folder
    for steps in (2, 5):
        made = work.sample(mri, model, folder, 0.0, {"name": "heun", "steps": steps})
        assert made["evaluations"] == 2 * steps - 1
    assert work.sample(mri, model, folder, 0.0, {"name": "heun", "steps": 5}) == made


def test_digits_variations_are_those_that_the_corruption_knows(noisy):
    images = noisy.base.recipe.data.images
    found = digits.own_data(images, noisy)
    assert list(digits.noises(images, 32)) == ["σ unknown", "σ random, 0.25 to 0.75"]
    assert list(digits.noises(images, 8)) == ["σ random, 0.25 to 0.75"]
    assert found["data: 10%"] == ["data.images.limit=4"]
    assert not [name for name in found if name.startswith("δ")]
    masked = {"name": "inpainting", "missing": 0.6, "further_missing": 0.3}
    assert list(digits.deltas(masked)) == ["δ = 0.05", "δ = 0.5"]
    assert not digits.noises(ImageOptions(), 32)
    for settings in found.values():
        recipes.load("toy/digits-denoise", settings)


def test_training_is_told_the_wrong_level_and_its_data_stay(noisy, tmp_path):
    settings = digits.wrong_levels(noisy.base.recipe.data.images)["σ told 0.25 for 0.5"]
    recipe = recipes.load("toy/digits-denoise", [*noisy.changes, *settings])
    study = Study(recipe, tmp_path, Console(stderr=True), "cpu")
    study.prepare()
    own = noisy.base.store
    assert study.store.noise_levels([0]).item() == 0.25
    assert study.store.corruption().noise.low == 0.25
    assert own.noise_levels([0]).item() == 0.5
    assert torch.equal(study.store.measurements([1]).y, own.measurements([1]).y)


def test_digits_verdict_compares_each_student_with_its_own_teacher():
    rows = [
        {"variation": "observation", "fd": 9.0},
        {"variation": "teacher", "fd": 4.0},
        {"variation": "loss: SiD, α = 1.0", "fd": 3.0},
        {"variation": "data: 10%: teacher", "fd": 7.0},
        {"variation": "data: 10%: student", "fd": 6.0},
        {"variation": "loss: DMD", "fd": 4.5},
        {"variation": "loss: SDS, no fake score", "fd": None},
    ]
    worse = "loss: DMD, loss: SDS, no fake score"
    assert digits.verdict(rows) == f"student at most its teacher: 2 of 4 rows; not in: {worse}"


def test_fewer_data_have_a_teacher_and_a_student_of_their_own(noisy, tmp_path):
    """A row of each, measured with the references of all data."""
    small = [
        *("teacher.images=8", "teacher.batch=4", "teacher.network.hidden=8"),
        *("distill.images=8", "distill.batch=4", "distill.selection={every_images: 4, samples: 8}"),
        *("evaluate.samples=8", "evaluate.sampler.steps=3", "data.images.limit=80"),
    ]
    work = ablations.Ablations("toy/digits-denoise", tmp_path, small, "cpu")
    work.base.prepare()
    rows = [work.observed(), *work.whole("data: 50%", ["data.images.limit=40"])]
    found = work.measure(rows)
    assert [row["variation"] for row in found] == ["observation", "data: 50%: teacher", "data: 50%: student"]
    assert all(row["fd"] > 0 for row in found)
    assert len(open_store(tmp_path / "data-50" / "store")) < len(work.base.store)
    assert "| observation |" in ablations.table(found, ["pixels"])


@pytest.mark.parametrize("name", ["selection", "heads", "digits"])
def test_help(name):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert b"--json" in done.stdout


def test_copies_are_counted_and_strangers_are_not():
    """Half of the images are copies, one of them scaled: cosines of 1 in the last bin, half of it copied."""
    rng = torch.Generator().manual_seed(0)
    training, unseen, others = (torch.randn(200, 48, generator=rng) for _ in range(3))
    found = memorisation.similarity(torch.cat([training[:50], others[:50]]), training, unseen)
    assert found["copied_share"] == pytest.approx(0.5, abs=0.03)
    assert found["above_0.95"] == 0.5
    assert found["histogram"][-1] == pytest.approx(0.5)
    assert sum(found["histogram"]) == pytest.approx(1)
    assert memorisation.nearest_cosine(3 * training[:9], training).min() == pytest.approx(1)
    expected = (others[:50] / others[:50].norm(dim=1, keepdim=True)) @ (
        training / training.norm(dim=1, keepdim=True)
    ).T
    assert found["mean"] == pytest.approx(0.5 + 0.5 * expected.amax(1).mean().item(), abs=1e-5)


def test_memorisation_of_few_digits(monkeypatch, tmp_path, capsys):
    """Rows of all corruptions with the same training digits, a figure; known rows are not made again."""
    words = ["memorisation", "--smoke", "--work", str(tmp_path), "--share", "0.02"]
    words += ["--figure", str(tmp_path / "copies.png")]
    monkeypatch.setattr(sys, "argv", words)
    memorisation.main()
    file = tmp_path / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["row"] for row in rows] == ["unseen digits", "p = 0", "p = 0.6"]
    assert len({row["training"] for row in rows}) == 1
    assert [row["n"] for row in rows[1:]] == [16, 16]
    assert rows[0]["copied_share"] == pytest.approx(0.01, abs=0.01)
    assert (tmp_path / "copies.png").stat().st_size > 10_000
    clean = [open_reference(tmp_path / p / "store-reference", "train") for p in ("p-0", "p-0.6")]
    assert torch.equal(*(each.images(list(range(len(each)))) for each in clean))
    assert "| p = 0.6 |" in capsys.readouterr().out
    before = file.read_text()
    memorisation.main()
    assert file.read_text() == before
    monkeypatch.setattr(sys, "argv", [*words, "--seed", "1"])
    with pytest.raises(UsageError, match="other settings"):
        memorisation.main()


def test_a_line_in_one_over_n_says_the_distance_of_many():
    """Gaussians whose distance is known: the bias of few images is most of their distance."""
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 12, generator=rng) * 1.2 + 0.1
    reference = Statistics(np.zeros(12), np.eye(12), 1)
    true = 12 * (0.1**2 + 0.2**2)
    counts = [50, 100, 200, 400]
    found = sample_size.distances(features, reference, counts, 40, rng)
    means = [float(np.mean(values)) for values in found]
    assert means == sorted(means, reverse=True)
    assert means[0] > 2.5 * true
    assert sample_size.at_infinity(counts, means) == pytest.approx(true, rel=0.15)
    assert sample_size.at_infinity([10, 20], [3.0, 2.0]) == pytest.approx(1)
    whole = sample_size.distances(features, reference, [4000], 5, rng)
    assert len(whole[0]) == 1


def test_distances_against_the_number_of_images(monkeypatch, tmp_path, capsys):
    pictures = np.random.default_rng(0).random((80, 1, 16, 16), np.float32) * 2 - 1
    np.save(tmp_path / "set.npy", pictures)
    words = ["sample_size", "--images", str(tmp_path / "set.npy"), "--features", "pca", "--draws", "3"]
    words += ["--counts", "10", "20", "40", "--fitted", "20", "--json", str(tmp_path / "rows.json")]
    monkeypatch.setattr(sys, "argv", words)
    sample_size.main()
    same, blurred = json.loads((tmp_path / "rows.json").read_text())
    assert same["counts"] == [10, 20, 40]
    assert same["mean"][0] > same["mean"][1] > same["mean"][2]
    assert blurred["mean"][2] > same["mean"][2]
    assert same["deviation"][2] is None
    assert "| n → ∞, from n ≤ 20 |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, "--counts", "10", "20", "50"])
    with pytest.raises(UsageError, match="has 80 images"):
        sample_size.main()
