"""Recipes that extend others."""

import pytest
import yaml

from mrigen import recipe
from mrigen.cli.main import run
from mrigen.errors import UsageError


def write(folder, **files):
    for name, tree in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return str(folder / "child.yaml")


def test_own_values_win_section_by_section(tmp_path):
    base = {"seed": 1, "teacher": {"batch": 8, "optimizer": {"lr": 1.0, "betas": [0.5, 0.5]}}}
    child = write(
        tmp_path,
        base=base,
        middle={"extends": "base.yaml", "teacher": {"batch": 4}},
        child={"extends": "middle.yaml", "teacher": {"optimizer": {"lr": 2.0}}},
    )
    wanted = {"seed": 1, "teacher": {"batch": 4, "optimizer": {"lr": 2.0, "betas": [0.5, 0.5]}}}
    assert recipe.resolved(child) == wanted


def test_a_section_of_another_name_replaces_the_base_s(tmp_path):
    base = {"loss": {"name": "sid", "alpha": 1.2}, "network": {"name": "mlp", "hidden": 8}}
    child = {"extends": "base.yaml", "loss": {"name": "sds"}, "network": {"name": "mlp", "num_blocks": 1}}
    found = recipe.resolved(write(tmp_path, base=base, child=child))
    assert found == {"loss": {"name": "sds"}, "network": {"name": "mlp", "hidden": 8, "num_blocks": 1}}


def test_own_recipes_may_extend_shipped_ones(tmp_path):
    mine = recipe.load(
        write(tmp_path, child={"extends": "cifar10/denoise-s20", "data": {"images": {"noise": 0.3}}})
    )
    shipped = recipe.load("cifar10/denoise-s20")
    assert mine.data.images.noise == 0.3
    assert mine.teacher == shipped.teacher


def test_bases_are_not_listed_and_unknown_keys_are_still_refused(tmp_path):
    assert not [name for name in recipe.names() if "/_" in name or name.startswith("_")]
    with pytest.raises(UsageError, match=r"teacher\.bach: unknown key"):
        recipe.load(write(tmp_path, child={"extends": "demo/brain", "teacher": {"bach": 1}}))


def test_circles_and_nonsense_are_named(tmp_path):
    with pytest.raises(UsageError, match="extends itself"):
        recipe.load(write(tmp_path, child={"extends": "other.yaml"}, other={"extends": "child.yaml"}))
    with pytest.raises(UsageError, match="give one recipe"):
        recipe.load(write(tmp_path, child={"extends": ["a", "b"]}))
    with pytest.raises(UsageError, match="did you mean demo/brain"):
        recipe.load(write(tmp_path, child={"extends": "demo/brian"}))


def test_show_resolved_is_a_complete_recipe(tmp_path, capsys):
    assert run(["recipes", "show", "celeba/inpaint-p90-s0", "--resolved"]) == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out)
    mine, shipped = recipe.load(str(path)), recipe.load("celeba/inpaint-p90-s0")
    assert mine == shipped.model_copy(update={"name": "mine"})


def test_recipes_of_one_row_differ_in_what_their_name_says():
    """Published hyperparameters that a merge must not lose."""
    masked = recipe.load("celeba/inpaint-p90-s0")
    assert masked.data.images.operator["further_missing"] == 0.3
    assert masked.teacher.network["gated"] is True
    assert masked.teacher.optimizer.max_grad_norm == 1.0
    assert recipe.load("celeba/inpaint-p90-s20").teacher.objective["name"] == "tweedie"
    assert recipe.load("celeba/denoise-s20").teacher.network["dropout"] == 0.15
    assert recipe.load("celeba/denoise-s20").distill.images == 15_000_000
    assert recipe.load("cifar10/denoise-s20").teacher.images == 200_000_000
    assert recipe.load("cifar10/inpaint-p60").teacher.network["channel_mult"] == [2, 2, 2]
    assert recipe.load("celeba/inpaint-p60-s0").teacher.network["channel_mult"] == [1, 2, 2, 2]
    assert recipe.load("celeba/inpaint-p60-s0").distill.fake.max_grad_norm == 1.0
    assert recipe.load("celeba/denoise-s20").distill.generator.betas == (0.9, 0.999)
    assert recipe.load("afhqv2/denoise-s20").distill.dropout == 0.05
    assert recipe.load("fastmri/brain-r4").teacher.optimizer.lr == 2e-4
    assert recipe.load("afhqv2/inpaint-p60").distill.loss["alpha"] == 1.0
    assert recipe.load("ffhq/denoise-s20").distill.generator.betas == (0.9, 0.999)
