"""Recipes: every shipped one is valid, and mistakes are named in one line."""

from pathlib import Path

import pytest

from mrigen import recipe
from mrigen.cli.main import run
from mrigen.errors import UsageError
from mrigen.recipe.schema import LapsParams, Recipe

TINY = Path(__file__).with_name("tiny.yaml")


@pytest.mark.parametrize("name", recipe.names())
def test_shipped_recipes_are_valid_and_have_a_header(name):
    loaded = recipe.load(name)
    assert loaded.name == name
    assert loaded.title
    header = [line for line in recipe.text(name).splitlines() if line.startswith("#")]
    assert len(header) >= 3
    assert "mrigen run" in " ".join(header)


def test_overrides_reach_their_key_and_are_checked():
    loaded = recipe.load("demo/brain", ["teacher.optimizer.lr=2e-4", "distill.loss.alpha=1.5", "seed=3"])
    assert loaded.teacher.optimizer.lr == 2e-4
    assert loaded.distill.loss["alpha"] == 1.5
    assert loaded.seed == 3


def test_a_number_of_laps_is_that_many_as_long_as_the_teacher():
    teacher = ["teacher.images=320", "teacher.ema_halflife=40"]
    loaded = recipe.load("demo/l1-edm", [*teacher, "laps=2"])
    assert loaded.laps == LapsParams(count=2, images=320, ema_halflife=40)
    assert recipe.load("demo/l1-edm", [*teacher, "laps={count: 2}"]).laps == loaded.laps
    more = recipe.load("demo/l1-edm", [*teacher, "laps={images: 64, unmeasured_weight: 0.1}"]).laps
    assert more == LapsParams(count=1, images=64, ema_halflife=40, unmeasured_weight=0.1)
    assert Recipe(**loaded.model_dump(mode="json")) == loaded


def test_laps_of_a_wrong_teacher_are_no_second_fault():
    with pytest.raises(UsageError, match=r"teacher\.images: ") as raised:
        recipe.load("demo/l1-edm", ["teacher.images=0", "laps=2"])
    assert "laps" not in str(raised.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher.batch=many", "teacher.batch: .*integer"),
        ("teacher.bach=4", "teacher.bach: unknown key"),
        ("teacher.objective.name=ambiant", "did you mean 'ambient'"),
        ("distill.loss.alfa=1", "alfa: unknown key"),
        ("teacher.network.channels=3", "channels: unknown key"),
        ("data.prep.crop=7", "crop"),
        ("laps=many", r"laps: must be a section, that is, keys with values, or \{key: value\}"),
        ("laps=true", r"laps: must be a section"),
        ("laps=0", "laps.count: .*greater than"),
        ("laps=2.5", r"laps: must be a section"),
        ("data.prep=1", "data.prep: must be a section"),
        ("evaluate.stops=1", r"evaluate.stops: must be a list, \[one, two\]"),
        ("data.simulate.volumes=0", "volumes"),
        ("evaluate.sampler.name=huen", "did you mean 'heun'"),
        ("teacher", "write key=value"),
        ("title.x=1", "title is a value"),
        ("teacher.batch=[", "not a valid value"),
        ("distill.micro_batch=7", "divide"),
    ],
)
def test_wrong_overrides_are_named(override, message):
    with pytest.raises(UsageError, match=message):
        recipe.load("demo/brain", [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacher: [", "not a valid recipe"),
        ("- 1", "must be a mapping"),
        ("a: &x [1]\nb: *x\n", "aliases are not allowed"),
        ("a: !!python/object/apply:os.system [true]", "not a valid recipe"),
        ("1: 2", "words|unknown|required"),
        ("title: x", "teacher: is missing"),
    ],
)
def test_broken_files_are_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        recipe.load(str(path))


def test_numbers_written_without_a_point_are_numbers():
    """PyYAML reads 1e-3 as a word."""
    assert recipe.load(str(TINY)).teacher.optimizer.lr == 1e-3


def test_unknown_recipe_suggests_one(capsys):
    assert run(["run", "demo/brian"]) == 2
    assert capsys.readouterr().err.strip().endswith("did you mean demo/brain?")


def test_show_prints_the_file(capsys):
    assert run(["recipes", "show", "demo/brain"]) == 0
    assert capsys.readouterr().out == recipe.text("demo/brain")


def test_list_has_one_line_per_recipe(capsys):
    assert run(["recipes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipe.names()


@pytest.mark.parametrize("seeds", ["a", "5-2", "1,,2", "-1", "1-"])
def test_wrong_seeds_are_named(seeds):
    from mrigen.recipe.sampling import parse_seeds

    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds(seeds)


def test_seeds_are_ranges_and_lists():
    from mrigen.recipe.sampling import parse_seeds

    assert parse_seeds("3,5-7, 1") == [3, 5, 6, 7, 1]
