"""Figures of the documentation, drawn from the numbers that benchmarks kept.

    python -m benchmarks.result_figures

Each figure of ``DRAWN`` is ``benchmarks/figures/NAME.png`` and shows what its files in ``benchmarks/results``
hold, beside what was asked for (grey).
"""

from __future__ import annotations

import math
import re
import textwrap
from typing import TYPE_CHECKING, Any

from benchmarks import distillation_steps
from benchmarks.mixed_quality import averaged
from benchmarks.result_tables import FOLDER, results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.figure import Figure

FIGURES = FOLDER.parent / "figures"
ASKED = "0.85"
MIXED = {"": "digits, σ = 0.5", "-photographs": "photographs, σ = 0.2", "-heads": "brain slices, SNR 5"}


def number(cell: str) -> float:
    """The first number of a table's cell; not a number where there is none."""
    match = re.search(r"\d+(?:\.\d+)?", cell)
    return float(match[0]) if match else float("nan")


def paired(rows: list[dict[str, Any]]) -> dict[str, dict[int, tuple[float, float]]]:
    """Distances of a seed's student without the term and with it, by recipe and weight.

    Returns:
        ``"RECIPE, weight W": {seed: (without, with)}``.
    """
    distances = {(row["recipe"], row["seed"], row["variation"]): row["fd"] for row in rows}
    pairs: dict[str, dict[int, tuple[float, float]]] = {}
    for (recipe, seed, variation), distance in distances.items():
        before, adversary, weight = variation.partition(", adversary ")
        if adversary:
            of = pairs.setdefault(f"{recipe}, weight {weight}", {})
            of[seed] = (distances[recipe, seed, before], distance)
    return pairs


def adversarial(figure: Figure, kept: Mapping[str, Any]) -> None:
    """Lines from a seed's distance without the adversarial term to that with it, and a fifth less."""
    panels = paired(kept["adversarial"]["rows"])
    for axes, (title, pairs) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for seed, pair in pairs.items():
            axes.plot([0, 1], pair, marker="o", color=f"C{seed}", label=f"seed {seed}")
            axes.plot(1, 0.8 * pair[0], marker="_", markersize=22, color=f"C{seed}")
        recipe, _, weight = title.partition(", ")
        axes.set(title=f"{recipe}\n{weight}", xlim=(-0.3, 1.3))
        axes.set_ylim(0, 1.05 * max(max(pair) for pair in pairs.values()))
        axes.set_xticks([0, 1], ["without", "with"])
        axes.title.set_fontsize("medium")
    figure.axes[0].set(ylabel="Fréchet distance of the student")
    figure.axes[0].legend(loc="lower left", fontsize="small", title="dash: 20 % less", title_fontsize="small")


def lap_runs(kept: Mapping[str, Any]) -> dict[str, tuple[list[float], list[float]]]:
    """Distances and proximal distances of a run's teacher and laps; the teacher has no proximal distance."""
    table, missing = kept["laps-digits"], float("nan")
    of_laps = slice(1, len(table["columns"]) - 1)
    titles = {
        "digits, no weight": "batches of 64, up to eight laps",
        "digits, weight 0.1": "`unmeasured_weight: 0.1`",
    }
    runs = {}
    for name, title in titles.items():
        first = next(i for i, row in enumerate(table["rows"]) if row[0].startswith(title))
        below = next(row for row in table["rows"][first:] if row[0].startswith("proximal distance"))
        distances, proximal = (
            [number(cell) for cell in row[of_laps]] for row in (table["rows"][first], below)
        )
        runs[name] = (distances, proximal)
    teacher = next(row for row in kept["laps-generated"]["rows"] if "the recipe: ambient teacher" in row[0])
    further = kept["laps-further"]["rows"]
    runs["demo/brain, no weight"] = (
        [number(teacher[1]), *(number(row[3]) for row in further)],
        [missing, *(number(row[4]) for row in further)],
    )
    return runs


def laps(figure: Figure, kept: Mapping[str, Any]) -> None:
    """Distance and proximal distance lap by lap, with a ring around the lap that is distilled."""
    from matplotlib.ticker import MaxNLocator

    labels = ("Fréchet distance from clean images", "proximal distance")
    for i, (axes, label) in enumerate(zip(figure.subplots(1, 2), labels, strict=True)):
        for color, (name, run) in enumerate(lap_runs(kept).items()):
            chosen = min((d, lap) for lap, d in enumerate(run[1]) if not math.isnan(d))[1]
            axes.plot(run[i], marker="o", markersize=4, color=f"C{color}", label=name)
            axes.plot(chosen, run[i][chosen], "o", markersize=11, fillstyle="none", color=f"C{color}")
        axes.set(xlabel="lap (0: the teacher)", ylabel=label, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[0].legend(fontsize="small", title="ring: distilled", title_fontsize="small")


def self_supervised(figure: Figure, kept: Mapping[str, Any]) -> None:
    """Bars of PSNR with standard errors, 0.5 dB above weighted SSDU, and MO-EI; a panel per scenario."""
    rows = kept["self-supervised"]["rows"]
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    panels = figure.subplots(1, len(scenarios), sharey=True, squeeze=False)[0]
    for axes, scenario in zip(panels, scenarios, strict=True):
        own = [row for row in reversed(rows) if row["scenario"] == scenario]
        values, errors = ([row[key] for row in own] for key in ("psnr", "psnr_error"))
        ours = ["C1" if row["row"].startswith("mrigen") else "C0" for row in own]
        axes.barh([row["row"] for row in own], values, xerr=errors, color=ours, height=0.6)
        peers = {row["row"]: row["psnr"] for row in own}
        axes.axvline(peers["weighted SSDU"] + 0.5, color="0.4", linestyle="--", label="SSDU + 0.5 dB")
        axes.axvline(peers["MO-EI"], color="0.4", linestyle=":", label="MO-EI")
        low, high = min(values), max(values)
        axes.set(xlim=(low - 1, high + 1), xlabel="PSNR (dB)", title=scenario)
    panels[0].legend(fontsize="x-small", loc="upper right")


def relative(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Distances over the least of noisy images alone, by space and trajectory, then by training set."""
    noisy = next(row for row in rows if row["data"] == "noisy")
    ratios: dict[str, dict[str, float]] = {}
    for space in (name for name, value in noisy.items() if isinstance(value, dict)):
        for which in noisy[space]:
            least = min(noisy[space].values())
            ratios[f"{space}, {which}"] = {row["data"]: row[space][which] / least for row in rows}
    return ratios


def mixed_quality(figure: Figure, kept: Mapping[str, Any]) -> None:
    """Distances of every training set over the least of noisy images on their own, and 15 % below these."""
    from matplotlib.ticker import LogLocator

    titles = {f"mixed-quality{end}": words for end, words in MIXED.items()}
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, (file, title) in zip(panels, titles.items(), strict=True):
        for i, (label, ratios) in enumerate(relative(averaged(kept[file]["rows"])).items()):
            fill = "full" if label.endswith("stopped") else "none"
            marker, colour = "os"[i // 2], f"C{i // 2}"
            places = range(len(ratios))
            axes.plot(
                list(ratios.values()),
                places,
                marker,
                color=colour,
                fillstyle=fill,
                label=label,
                clip_on=False,
            )
        axes.axvline(0.85, color="grey", linestyle="--")
        names = [textwrap.fill(name.replace(" %", "\N{NO-BREAK SPACE}%"), 22) for name in ratios]
        axes.set_yticks(range(len(names)), names, fontsize="x-small")
        axes.set(title=title, xscale="log", ylim=(len(names) - 0.5, -0.5))
        axes.grid(axis="y", color=ASKED)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.legend(fontsize="x-small", loc="lower right")
    figure.supxlabel("Fréchet distance over the least of noisy images; dashed: 15 % less", fontsize="medium")


def steps(figure: Figure, kept: Mapping[str, Any]) -> None:
    """Distance over network evaluations: the teacher, a student for each number of steps, one for all."""
    distillation_steps.draw(figure.subplots(), kept["steps"]["rows"])


def through_plane(figure: Figure, kept: Mapping[str, Any]) -> None:
    """Variation between slices and between frames against NRMSE, a point per setting, and what was asked."""
    panels = {
        "through-plane": "slices, 32 × 32",
        "frames": "frames, 32 × 32",
        "frames-128": "frames, 128 × 128",
    }
    for axes, (file, title) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in kept[file]["rows"]:
            lines.setdefault(row["solver"], []).append(row)
        axes.axvspan(0.9, 1.1, color=ASKED, label="asked: 0.9 to 1.1")
        spread = max(lines, key=lambda name: lines[name][0]["through_plane"])
        for name, rows in lines.items():
            places = [(row["through_plane"], row["nrmse"]) for row in rows]
            (line,) = axes.plot(*zip(*places, strict=True), marker="o", markersize=3, label=name)
            chosen = [place for place, row in zip(places, rows, strict=True) if row["chosen"]]
            axes.plot(*zip(*chosen, strict=True), "o", markersize=9, fillstyle="none", color=line.get_color())
            for row, place in zip(rows, places, strict=True):
                if name == spread:
                    text = f"{row['weight']:g}" + f" × {row['passes']}" * (row["passes"] > 1)
                    axes.annotate(text, place, (6, -4), fontsize="x-small", textcoords="offset points")
        axes.set(title=title, xlabel="variation over the references'", ylabel="NRMSE")
        axes.title.set_fontsize("medium")
    title = "circles: chosen; numbers:\n--neighbours × --passes"
    figure.axes[1].legend(fontsize="x-small", title=title, title_fontsize="x-small", loc="lower right")


def serving(figure: Figure, kept: Mapping[str, Any]) -> None:
    """Bars of the median wait for a slice, coil maps computed and known, and the line at 0.5 s."""
    rows = kept["serving"]["rows"]
    named = [(f"{row['solver']}\n{' × '.join(map(str, row['kspace']))}", row) for row in rows]
    solvers = list(dict.fromkeys(name for name, _ in named))[::-1]
    axes = figure.subplots()
    axes.axvline(0.5, color="0.4", linestyle="--", label="asked of 8 × 256 × 256: 0.5 s")
    for i, maps in enumerate(("known", "computed")):
        medians = {name: row["median"] for name, row in named if row["maps"] == maps}
        places = [place + 0.4 * i - 0.2 for place in range(len(solvers))]
        bars = axes.barh(places, [medians[solver] for solver in solvers], 0.4, label=f"coil maps {maps}")
        axes.bar_label(bars, fmt="{:.2f}", padding=2, fontsize="x-small")
    axes.set_yticks(range(len(solvers)), solvers, fontsize="x-small")
    axes.set(xscale="log", xlim=(0.05, 20), xlabel="seconds from the last line to the image (median)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize="small", loc="upper right")


def intervals(figure: Figure, kept: Mapping[str, Any]) -> None:
    """Coverage of the image per head and contrast, in k-space of all, and error over deviation."""
    from matplotlib.ticker import MaxNLocator

    rates = kept["intervals"]["rows"]
    names = list(next(iter(rates.values()))["groups"])
    coverage, ratio = figure.subplots(1, 2, width_ratios=[1.3, 1])
    split = (len(names) + 1.1) / (len(names) + 2.2)
    coverage.axhspan(85, 95, xmax=split, color=ASKED, label="asked")
    coverage.axhspan(88, 92, xmin=split, color=ASKED)
    ratio.axhspan(0.9, 1.1, color=ASKED)
    places = list(range(len(names)))
    for i, (rate, row) in enumerate(rates.items()):
        style: dict[str, Any] = {"linestyle": "", "marker": "os"[i], "color": f"C{i}"}
        groups = [row["groups"][name] for name in names]
        images = [100 * group["coverage_image"] for group in groups] + [100 * row["coverage_image"]]
        coverage.plot([*places, len(names)], images, label=f"R = {rate}", **style)
        coverage.plot(len(names) + 1, 100 * row["coverage_put_aside"], **style)
        ratios = [group["error_over_deviation"] for group in groups] + [row["error_over_deviation"]]
        ratio.plot([*places, len(names)], ratios, **style)
    ticks = [name.replace("head_", "head ").replace(" AX", "\n") for name in names]
    coverage.set_xticks([*places, len(names), len(names) + 1], [*ticks, "all", "k-space"], fontsize="x-small")
    coverage.set(ylabel="covered by 90 % intervals, %", xlim=(-0.6, len(names) + 1.6))
    coverage.yaxis.set_major_locator(MaxNLocator(integer=True))
    coverage.legend(fontsize="small", loc="lower right")
    ratio.set_xticks([*places, len(names)], [*ticks, "all"], fontsize="x-small")
    ratio.set(ylabel="error over predicted deviation")


DRAWN: dict[str, tuple[Callable[[Figure, Mapping[str, Any]], None], tuple[float, float], tuple[str, ...]]] = {
    "adversarial": (adversarial, (9.6, 3.4), ("adversarial",)),
    "laps": (laps, (7.2, 3.4), ("laps-digits", "laps-generated", "laps-further")),
    "self-supervised": (self_supervised, (8.4, 2.8), ("self-supervised",)),
    "mixed-quality": (mixed_quality, (13.5, 3.6), tuple(f"mixed-quality{end}" for end in MIXED)),
    "steps": (steps, (5.0, 3.5), ("steps",)),
    "through-plane": (through_plane, (10.5, 3.4), ("through-plane", "frames", "frames-128")),
    "serving": (serving, (7.2, 5.0), ("serving",)),
    "intervals": (intervals, (8.4, 3.4), ("intervals",)),
}


def drawn(name: str) -> Figure:
    """A figure of ``DRAWN`` from the files as they are."""
    from matplotlib.figure import Figure

    draw, size, files = DRAWN[name]
    kept = {file: results(file) for file in files}
    figure = Figure(figsize=size, layout="constrained")
    draw(figure, kept)
    return figure


def main() -> None:
    for name in DRAWN:
        path = FIGURES / f"{name}.png"
        drawn(name).savefig(path, dpi=110)
        print(path.relative_to(FOLDER.parents[1]))


if __name__ == "__main__":
    main()
