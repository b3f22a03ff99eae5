"""The distillation stage: other corruptions on purpose, what it writes, few-step students as commands."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mrigen import recipe as recipes
from mrigen import seeds
from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription, read_description
from mrigen.cli.main import run
from mrigen.data.images import read_images
from mrigen.engine.distillation import DistillJob
from mrigen.errors import UsageError
from mrigen.losses import Generator
from mrigen.model import Model
from mrigen.recipe.distillation import assumed_corruption, measured_folder
from mrigen.recipe.selection import selection_score
from mrigen.recipe.study import Study

TINY = str(Path(__file__).with_name("tiny.yaml"))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A run folder with data and teacher."""
    out = tmp_path_factory.mktemp("distil") / "run"
    assert run(["train", TINY, "--out", str(out), "--device", "cpu"]) == 0
    return out


def distilled(taught, out, *settings):
    words = [word for setting in settings for word in ("--set", setting)]
    given = ["--teacher", str(taught / "teacher" / "model"), "--maps", str(taught / "store")]
    return run(["distill", TINY, "--out", str(out), "--device", "cpu", *given, *words])


def description(kind, corruption):
    return ModelDescription(
        network={"name": "mlp"},
        preconditioner={"name": "edm"},
        conventions=ChannelLayout(
            image=kind, image_channels=2 if kind == "complex" else 1, mask_channels=0, ones_channel=False
        ),
        image_shape=(1, 4, 4),
        corruption=corruption,
    )


def test_corruption_is_changed_section_by_section():
    blur = {"operator": {"name": "gaussian-blur", "std": 2.0, "size": 9}, "sigma": {"low": 0.1, "high": None}}
    real = description("real", blur)
    assert assumed_corruption(real, {}) == blur
    assert assumed_corruption(real, {"sigma": 0.3}) == {**blur, "sigma": 0.3}
    wider = assumed_corruption(real, {"operator": {"std": 3.0}})
    assert wider["operator"] == {"name": "gaussian-blur", "std": 3.0, "size": 9}
    other = assumed_corruption(real, {"operator": {"name": "inpainting", "missing": 0.5}})
    assert other["operator"] == {"name": "inpainting", "missing": 0.5}
    clean = assumed_corruption(description("real", None), {"sigma": 0.1})
    assert clean == {"operator": {"name": "identity"}, "sigma": 0.1}


@pytest.mark.parametrize(
    ("kind", "key"), [("real", "mask"), ("complex", "sigma"), ("complex", "fresh_masks")]
)
def test_sections_that_nothing_reads_are_refused(kind, key):
    with pytest.raises(UsageError, match=f"distill.corruption.{key}: change"):
        assumed_corruption(description(kind, {}), {key: {}})


def test_mismatched_masks_reach_the_student(taught, tmp_path, capsys):
    """Another acceleration gives another student, which says so; unknown parameters are named."""
    assert distilled(taught, tmp_path / "own") == 0
    assert distilled(taught, tmp_path / "other", "distill.corruption.mask.acceleration=1.5") == 0
    own, other = (read_description(tmp_path / name / "student" / "model") for name in ("own", "other"))
    assert own.weights_sha256 != other.weights_sha256
    assert other.corruption["mask"]["acceleration"] == 1.5
    assert own.corruption["mask"]["acceleration"] == 2
    assert other.provenance["distilled_under"] == {"mask": {"acceleration": 1.5}}
    capsys.readouterr()
    assert distilled(taught, tmp_path / "bad", "distill.corruption.mask.accelleration=3") == 2
    assert "accelleration: unknown key" in capsys.readouterr().err


def test_best_last_and_history_are_written(taught, tmp_path):
    settings = ("distill.ema_halflife=[10, 1000]", "distill.images=24", "distill.generator.lr=1e-2")
    assert distilled(taught, tmp_path, *settings) == 0
    folder = tmp_path / "student"
    history = json.loads((folder / "selection.json").read_text())
    assert [row["images"] for row in history["measured"]] == [8, 16, 24]
    best = min(history["measured"], key=lambda row: min(row["10"], row["1000"]))
    assert history["images"] == best["images"]
    assert history["ended"] == "complete"
    assert f"{history['ema_halflife']:g}" == min(("10", "1000"), key=best.__getitem__)
    model = read_description(folder / "model")
    assert model.provenance["images"] == best["images"]
    last = Model.load(folder / "last").generator
    assert any(not torch.equal(p, q) for p, q in zip(last.parameters(), reloaded(folder), strict=True)) == (
        best["images"] < 24
    )
    assert not (folder / "measured").exists()


def test_a_generator_that_denoises_too_is_left_as_a_teacher_that_solvers_take(taught, tmp_path, capsys):
    """The generator's weights with the objective, corruption and network of its teacher."""
    assert distilled(taught, tmp_path / "plain") == 0
    assert not (tmp_path / "plain" / "student" / "denoiser").exists()
    assert distilled(taught, tmp_path, "distill.loss.denoising_weight=1") == 0
    folder = tmp_path / "student"
    model, teacher = Model.load(folder / "denoiser"), Model.load(taught / "teacher" / "model")
    assert model.role == "teacher"
    for same in ("network", "objective", "corruption", "conventions"):
        assert getattr(model.description, same) == getattr(teacher.description, same)
    generator = Model.load(folder / "model").denoiser.network.state_dict()
    for name, weight in model.denoiser.network.state_dict().items():
        assert torch.equal(weight, generator[name])
    assert model.fingerprint != teacher.fingerprint
    assert model.description.provenance["distilled"]["denoising_weight"] == 1
    words = [
        "reconstruct",
        str(taught / "store"),
        "--slices",
        "0",
        "--solver",
        "dds:steps=2",
        "--device",
        "cpu",
    ]
    words += ["--model"]
    assert run([*words, str(folder / "model"), "--out", str(tmp_path / "refused")]) == 2
    assert f"needs a teacher; give {folder / 'denoiser'}" in " ".join(capsys.readouterr().err.split())
    assert run([*words, str(folder / "denoiser"), "--out", str(tmp_path / "solved")]) == 0


def test_a_denoiser_of_earlier_weights_does_not_stay(taught, tmp_path):
    assert distilled(taught, tmp_path) == 0
    folder = tmp_path / "student"
    shutil.copytree(folder / "model", folder / "denoiser")
    assert distilled(taught, tmp_path, "distill.images=24") == 0
    assert (folder / "model").is_dir()
    assert not (folder / "denoiser").exists()


def test_every_measured_generator_is_kept_where_it_is_wanted(taught, tmp_path):
    """One folder per half-life and measurement; the chosen one has the weights of the result."""
    settings = ("distill.ema_halflife=[10, 1000]", "distill.selection.keep=true")
    assert distilled(taught, tmp_path, *settings) == 0
    folder = tmp_path / "student"
    kept = {path.name: read_description(path) for path in (folder / "measured").iterdir()}
    assert set(kept) == {"8-10", "8-1000", "16-10", "16-1000"}
    assert kept["8-10"].weights_sha256 != kept["16-10"].weights_sha256
    assert [kept["8-10"].provenance[key] for key in ("images", "ema_halflife")] == [8, 10]
    history = json.loads((folder / "selection.json").read_text())
    best = measured_folder(folder, history["images"], history["ema_halflife"])
    assert kept[best.name].weights_sha256 == read_description(folder / "model").weights_sha256


def test_diverged_run_keeps_the_best_there_was(taught, tmp_path, capsys, monkeypatch):
    """With a measurement before, its generator is the result and the reason is told."""
    real = DistillJob._student

    def diverges(job, number, *more):
        loss = real(job, number, *more)
        return loss * torch.nan if number == 1 else loss

    monkeypatch.setattr(DistillJob, "_student", diverges)
    assert distilled(taught, tmp_path / "with") == 0
    assert "student ended early: the loss or its gradient became nan" in " ".join(
        capsys.readouterr().out.split()
    )
    selection = json.loads((tmp_path / "with" / "student" / "selection.json").read_text())
    assert selection["ended"].startswith("early: the loss or its gradient became nan")
    assert [row["images"] for row in selection["measured"]] == [8]
    assert read_description(tmp_path / "with" / "student" / "model").provenance["images"] == 8
    assert distilled(taught, tmp_path / "without", "distill.selection={}") == 1
    assert "lower the learning rate" in capsys.readouterr().err


def test_images_that_are_no_numbers_are_no_distance(taught):
    """A generator that overflows is infinitely far from the data, not an error."""
    study = Study(recipes.load(TINY), taught, Console(quiet=True), "cpu")
    objective = study.teacher.objective(study.store)
    score = selection_score(study.recipe.distill, study.store, study.extractor, 0, objective)
    assert math.isfinite(score(Generator(study.teacher.denoiser)))
    assert score(Generator(study.teacher.denoiser, math.inf)) == math.inf


def reloaded(folder):
    return Model.load(folder / "model").generator.parameters()


@pytest.mark.parametrize(
    "loss", ["{name: dmd, regression: {pairs: 2, sampler: {name: heun, steps: 2}}}", "{name: sds}"]
)
def test_other_losses_as_settings(taught, tmp_path, loss):
    assert distilled(taught, tmp_path, f"distill.loss={loss}", "distill.images=8") == 0
    student = read_description(tmp_path / "student" / "model")
    assert student.provenance["distilled"]["name"] in loss


def test_few_step_student_is_sampled_step_by_step(taught, tmp_path, capsys):
    assert distilled(taught, tmp_path, "distill.steps=4", "distill.init=random") == 0
    model = tmp_path / "student" / "model"
    student = read_description(model)
    assert len(student.later_sigmas) == 3
    sample = ["sample", str(model), "--device", "cpu", "--out"]
    assert run([*sample, str(tmp_path / "a.h5"), "--seeds", "0-4"]) == 0
    assert run([*sample, str(tmp_path / "b.h5"), "--seeds", "2,4", "--batch", "1"]) == 0
    a, b = (torch.cat(list(read_images(tmp_path / name))).numpy() for name in ("a.h5", "b.h5"))
    np.testing.assert_allclose(a[[2, 4]], b, rtol=1e-3, atol=1e-4)
    for steps in (1, 2):
        assert run([*sample, str(tmp_path / "c.h5"), "--seeds", "0-4", "--steps", str(steps)]) == 0
        few = torch.cat(list(read_images(tmp_path / "c.h5")))
        whole = Model.load(model).generator
        kind = {"complex_valued": few.is_complex()}
        z = [seeds.seeded_noise(list(range(5)), few.shape[1:], *key, **kind) for key in ((), ("latent", 1))]
        expected = whole.run_steps(z[0], later=z[1:steps])
        torch.testing.assert_close(few, expected, rtol=1e-3, atol=1e-4)
        (tmp_path / "c.h5").unlink()
    capsys.readouterr()
    assert run([*sample, str(tmp_path / "c.h5"), "--steps", "5"]) == 2
    assert "5 steps of a generator that has 4" in capsys.readouterr().err
    assert run(["export", str(model), "--to", "torchscript", "--out", str(tmp_path / "x.pt")]) == 2
    assert "a generator of 4 steps" in capsys.readouterr().err
