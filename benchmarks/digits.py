"""Handwritten digits: losses, what is known of the noise, how much data, Ambient's δ.

    python -m benchmarks.digits --recipe toy/digits-denoise --out runs/digits-denoise --json denoise.json
    python -m benchmarks.digits --recipe toy/digits-inpaint --out runs/digits-inpaint --json inpaint.json

Losses are students of one teacher (DCD, table 14). Everything else has data, teacher and student of its own:
noise of unknown level (estimated), of a wrong level told to training, of random levels; 10 and 50 % of the
data; other δ (DCD, tables 7, 8, 17 and 9). All are compared with the same references. Rows that the recipe's
corruption has no use for are left out; any recipe of images will do. ``--only`` picks rows by words in their
names. The same command continues what was interrupted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.ablations import LOSSES, OWN, Ablations, one_line, parser, table

from mrigen.data.image_manifest import ImageManifest
from mrigen.data.noise_estimate import SMALLEST
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.operators.noise import parse_noise
from mrigen.recipe.schema import ImagesParams

FRACTIONS = (0.1, 0.5)
WRONG = (0.5, 0.75, 1.25, 1.5)
DELTAS = (0.05, 0.3, 0.5)
FURTHER = "further_missing"
TEACHER = re.compile(r"(^|: )teacher(,|$)")


def fractions(images: int) -> dict[str, list[str]]:
    """Parts of the data (DCD, table 9)."""
    return {f"data: {part:.0%}": [f"data.images.limit={round(part * images)}"] for part in FRACTIONS}


def noises(images: ImagesParams, side: int) -> dict[str, list[str]]:
    """Noise of unknown level, where images are large enough, and of random level (DCD, tables 7, 17)."""
    law = parse_noise(images.noise)
    if not law or law.high is not None:
        return {}
    low, high = 0.5 * law.low, 1.5 * law.low
    unknown = {"σ unknown": ["data.images.estimate_noise=true"]} if side >= SMALLEST else {}
    return {
        **unknown,
        f"σ random, {low:g} to {high:g}": [f"data.images.noise=[{low:g}, {high:g}]"],
    }


def deltas(operator: dict[str, Any]) -> dict[str, list[str]]:
    """Other probabilities of hiding a measured pixel further (Ambient Diffusion)."""
    if FURTHER not in operator:
        return {}
    others = [value for value in DELTAS if value != operator[FURTHER]]
    return {f"δ = {value:g}": [f"data.images.operator.{FURTHER}={value:g}"] for value in others}


def wrong_levels(images: ImagesParams) -> dict[str, list[str]]:
    """The base's data, with another noise level told to training (DCD, table 8)."""
    law = parse_noise(images.noise)
    if not law or law.high is not None:
        return {}
    levels = [factor * law.low for factor in WRONG]
    return {f"σ told {level:g} for {law.low:g}": [f"data.images.stated_noise={level:g}"] for level in levels}


def own_data(images: ImagesParams, work: Ablations) -> dict[str, list[str]]:
    """Settings of everything that has data and a teacher of its own, by its name."""
    manifest = ImageManifest.load(work.base.store_folder)
    conditions_on_mask = OBJECTIVES[work.base.recipe.teacher.objective["name"]].conditions_on_mask
    return {
        **noises(images, min(manifest.shape[1:])),
        **wrong_levels(images),
        **fractions(sum(shard.images for shard in manifest.shards)),
        **(deltas(manifest.operator) if conditions_on_mask else {}),
    }


def chosen(rows: dict[str, list[str]], only: list[str]) -> dict[str, list[str]]:
    """Those with some of the words in their names, or all."""
    if not only:
        return rows
    return {name: settings for name, settings in rows.items() if any(words in name for words in only)}


def verdict(rows: list[dict[str, Any]]) -> str:
    """In how many rows the student is at most as far as its teacher, and in which not."""
    distances = {row["variation"]: row["fd"] for row in rows}
    students = [name for name in distances if name != "observation" and not TEACHER.search(name)]
    own = {name: name.removesuffix(": student") + ": teacher" for name in students}
    teachers = {name: distances.get(own[name], distances["teacher"]) for name in students}
    worse = [n for n, level in teachers.items() if distances[n] is None or distances[n] > level]
    words = f"student at most its teacher: {len(teachers) - len(worse)} of {len(teachers)} rows"
    return words + (f"; not in: {', '.join(worse)}" if worse else "")


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(recipe="toy/digits-denoise")
    options.add_argument("--out", type=Path, default=Path("runs/digits"))
    options.add_argument("--only", action="append", default=[], metavar="WORDS")
    arguments = options.parse_args()
    work = Ablations(arguments.recipe, arguments.out, arguments.changes, arguments.device)
    images = work.base.recipe.data.images
    if images is None:
        raise UsageError(f"--recipe {arguments.recipe}: is not of images; give one like toy/digits-denoise")
    work.base.prepare()
    students = chosen({OWN: [], **LOSSES}, arguments.only)
    studies = chosen(own_data(images, work), arguments.only)
    if not students and not studies:
        raise UsageError(f"--only {' '.join(arguments.only)}: no row has these words in its name")
    work.check({**students, **studies})
    work.teach()
    rows = [work.observed(), *work.teachers()]
    rows += [work.student(name, settings) for name, settings in students.items()]
    rows += [row for name, settings in studies.items() for row in work.whole(name, settings)]
    rows = work.measure(rows)
    print(table(rows, work.base.recipe.evaluate.features))
    print(verdict(rows))
    if arguments.json:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    one_line(main)
