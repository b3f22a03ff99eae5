"""Figures of the kept results show their numbers."""

import json
import statistics

import pytest
from benchmarks import result_figures, result_tables
from PIL import Image

KEPT = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in result_tables.FOLDER.glob("*.json")
}


def curves(axes):
    """Points of the lines of several points, by their labels."""
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}


@pytest.mark.parametrize("name", result_figures.DRAWN)
def test_a_figure_is_drawn_committed_and_in_the_page(name, tmp_path):
    figure = result_figures.drawn(name)
    figure.savefig(tmp_path / "a.png", dpi=110)
    committed = result_figures.FIGURES / f"{name}.png"
    with Image.open(tmp_path / "a.png") as now, Image.open(committed) as before:
        assert now.size == before.size
    assert committed.stat().st_size < 100_000
    page = (result_tables.ROOT / "docs" / "results" / "beyond.md").read_text(encoding="utf-8")
    assert f"](../../benchmarks/figures/{name}.png)" in page


def test_students_are_paired_by_seed():
    rows = [
        {"recipe": "a", "seed": seed, "variation": variation, "fd": fd}
        for seed, variation, fd in [
            (0, "teacher", 1.0), (0, "student", 2.0), (0, "student, adversary 0.1", 1.5),
            (1, "student, adversary 0.1", 2.5), (1, "student", 3.0),
        ]
    ]  # fmt: skip
    assert result_figures.paired(rows) == {"a, weight 0.1": {0: (2.0, 1.5), 1: (3.0, 2.5)}}


def test_laps_are_those_of_the_tables_and_the_nearest_is_marked():
    runs = result_figures.lap_runs(KEPT)
    distances, proximal = runs["digits, no weight"]
    assert (distances[0], distances[6]) == (2.34, 1.5)
    assert min(range(1, 8), key=proximal.__getitem__) == 6
    assert runs["digits, weight 0.1"][0][:5] == [2.34, 1.29, 1.15, 1.11, 1.08]
    assert runs["demo/brain, no weight"][0] == [5.72, 2.35, 2.18, 2.12]
    marks = [
        line for line in result_figures.drawn("laps").axes[0].get_lines() if line.get_fillstyle() == "none"
    ]
    assert [mark.get_data() for mark in marks] == [([6], [1.5]), ([4], [1.08]), ([3], [2.12])]


def test_points_and_bars_are_the_kept_numbers():
    files = ("through-plane", "frames", "frames-128")
    for axes, file in zip(result_figures.drawn("through-plane").axes, files, strict=True):
        rows = KEPT[file]["rows"]
        drawn = [p for name, points in curves(axes).items() if not name.startswith("_") for p in points]
        assert sorted(drawn) == sorted((row["through_plane"], row["nrmse"]) for row in rows)
        marked = [line for line in axes.get_lines() if line.get_fillstyle() == "none"]
        assert sum(len(mark.get_xdata()) for mark in marked) == sum(row["chosen"] for row in rows)
    (bars,) = result_figures.drawn("serving").axes
    widths = [bar.get_width() for bar in bars.patches]
    assert sorted(widths) == sorted(row["median"] for row in KEPT["serving"]["rows"])
    for end, mixed in zip(result_figures.MIXED, result_figures.drawn("mixed-quality").axes, strict=True):
        rows = {}
        for row in KEPT[f"mixed-quality{end}"]["rows"]:
            rows.setdefault(row["data"], []).append(row)
        for label, points in curves(mixed).items():
            space, _, which = label.partition(", ")
            if which:
                means = {
                    key: {name: statistics.fmean(row[space][name] for row in same) for name in same[0][space]}
                    for key, same in rows.items()
                }
                least = min(means["noisy"].values())
                ratios = [mean[which] / least for mean in means.values()]
                assert points == list(zip(ratios, range(len(rows)), strict=True))
    coverage = result_figures.drawn("intervals").axes[0]
    lines = [line for line in coverage.get_lines() if len(line.get_xdata()) > 1]
    for line, row in zip(lines, KEPT["intervals"]["rows"].values(), strict=True):
        images = [group["coverage_image"] for group in row["groups"].values()]
        assert [y / 100 for y in line.get_ydata()] == pytest.approx([*images, row["coverage_image"]])
