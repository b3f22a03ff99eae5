"""The pages: links lead somewhere, commands and benchmarks exist, the README stays short."""

import json
import re
import shlex
import statistics
from pathlib import Path

import pytest
import typer
from benchmarks import result_tables

from mrigen.cli.main import app
from mrigen.operators.corruption import CORRUPTIONS
from mrigen.operators.masks import MASKS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    if not {"_build", "auto_examples"} & {*path.parts} and path.name not in {"api.md", "commands.md"}
)
MADE = {"auto_examples/index", "api.md", "commands.md", "api", "commands"}  # by the build
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*).*?\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"`mrigen ([a-z][a-z-]+)\b")


def prose(text):
    return FENCE.sub("", text)


def anchors(path):
    """Ids of headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#{1,6} (.*)$", prose(path.read_text()), re.MULTILINE)
    plain = [re.sub(r"[`*]|\[|\]\([^)]*\)", "", title).strip().lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def commands():
    group = typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found[name] = command
        found |= {f"{name} {n}": c for n, c in (inner or {}).items()}
    return found


COMMANDS = commands()


def lines(text):
    """Commands of mrigen in the blocks of shell."""
    for language, block in FENCE.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                starts = [i for i, word in enumerate(words) if word == "mrigen"]
                for start in starts[:1]:
                    yield words[start + 1 :]


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_links_lead_somewhere(path):
    broken = []
    for target in LINK.findall(prose(path.read_text())):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or file in MADE:
            continue
        there = path if not file else (path.parent / file).resolve()
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_pictures_exist_and_have_alternatives(path):
    for text, target in PICTURE.findall(path.read_text()):
        assert text.strip(), target
        assert (path.parent / target).is_file(), target


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_commands_and_their_options_exist(path):
    text = path.read_text()
    for name in COMMAND.findall(text):
        assert name in COMMANDS, name
    for words in lines(text):
        if words and words[0].startswith("-"):
            continue
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        known = {option for p in COMMANDS[name].params for option in (*p.opts, *p.secondary_opts)} | {
            "--help"
        }
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known, (name, given - known)


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_benchmarks_exist(path):
    for name in set(re.findall(r"(?:python -m )benchmarks\.([a-z_]+)", path.read_text())):
        assert (ROOT / "benchmarks" / f"{name}.py").is_file(), name


@pytest.mark.parametrize("path", [p for p in PAGES if ROOT / "docs" in p.parents], ids=ids)
def test_every_page_is_in_a_table_of_contents(path):
    docs = ROOT / "docs"
    listed = {"index"}
    for page in docs.rglob("*.md"):
        for block in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {str((page.parent / name).relative_to(docs)) for name in names}
    assert str(path.relative_to(docs).with_suffix("")) in listed


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_no_line_is_a_comment_by_chance(path):
    """MyST leaves out lines that begin with a per cent sign."""
    assert re.findall(r"^%.*", prose(path.read_text()), re.MULTILINE) == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


def test_files_of_extending_are_short():
    blocks = [
        block
        for language, block in FENCE.findall((ROOT / "docs" / "extending.md").read_text())
        if language == "python"
    ]
    assert len(blocks) >= 8
    assert max(len(block.splitlines()) for block in blocks) <= 20


def test_numbers_of_the_readme_are_those_of_the_kept_results():
    """Means and deviations of the seeds."""
    rows = [
        line.strip("| ").split(" | ")
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    shown = {row[0]: row[1:] for row in rows}
    demo = {"zero-filled observations": "observation", "teacher": "teacher", "teacher after one lap": "lap-1"}
    demo |= {"student, one step": "student", "other references": "floor"}
    demo["L1-EDM: same reconstructions, network and time"] = "L1-EDM"
    ambient = {"ambient teacher, full schedule": "teacher", "the same, stopped at σ = 0.2": "teacher-stopped"}
    ambient |= {"after one lap": "lap-1", "its student": "student"}
    for kept, names in (("brain-l1-seeds", demo), ("brain-seeds", ambient)):
        seeds = json.loads((result_tables.FOLDER / f"{kept}.json").read_text(encoding="utf-8"))["rows"]
        for title, name in names.items():
            for cell, key in zip(
                shown[title], ("fd", "fd_r64", "high_frequency_ratio", "energy_outside"), strict=False
            ):
                values = [row[name][key] for row in seeds]
                digits = len(cell.split(" ")[0].partition(".")[2])
                mean, deviation = (f"{f(values):.{digits}f}" for f in (statistics.mean, statistics.stdev))
                assert cell in {mean, f"{mean} ± {deviation}"}, (title, key)


def test_faults_are_seen(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# One `two` (three)\n\n```sh\nmrigen sample X --outt y  # why\n```\n")
    assert anchors(page) == {"one-two-three"}
    assert list(lines(page.read_text())) == [["sample", "X", "--outt", "y"]]


def test_tables_are_those_of_the_kept_results():
    for page in result_tables.PAGES:
        assert result_tables.updated(page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")
    text = "".join(page.read_text(encoding="utf-8") for page in result_tables.PAGES)
    names = {path.stem for path in result_tables.FOLDER.glob("*.json")}
    assert names == {match[2] for match in result_tables.BLOCK.finditer(text)}
    changed = text.replace("<!-- results brain-seeds -->\n", "<!-- results brain-seeds -->\nstale\n")
    assert "stale" not in result_tables.updated(changed)


def test_operators_with_a_further_corruption_are_those_of_the_page():
    """``identity`` hides nothing, and ``compose`` has that of its last part."""
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    listed = page.partition("every hidden point can have been measured:")[2].partition("The others have")[0]
    offered = {
        name
        for registry in (CORRUPTIONS, MASKS)
        for name in registry.names()
        if not registry[name].example().ambient_obstacle
    }
    assert set(re.findall("`([a-z-]+)`", listed)) == offered - {"identity", "compose"}
