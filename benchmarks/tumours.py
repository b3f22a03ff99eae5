"""155 slices of tumours behind blocks, learnt by a pretrained model (Ambient Diffusion, figure 5).

    python -m benchmarks.tumours --slices mri_slices_128.npz --work runs/tumours --figure similarity.png

A diffusion model of clean slices without the tumour in question (other patients, other diagnoses) is trained
on with ``--few`` slices that have it: clean ones by EDM's objective, or with a random block of a quarter of
every image missing by Ambient Diffusion's, ``teacher.init`` both; and Ambient Diffusion from random weights.
All see the same number of images. The claim is that the model behind blocks does not copy. Every generated
slice is compared with all clean training slices by the cosine of ``--features``, as slices are that nothing
was trained on, and ``--figure`` draws the histograms; the Fréchet distance from such slices says what was
learnt. The file has ``images`` (uint8), ``source`` (folder/class/file) and ``plane``; axial slices are used,
the few from the start of the class and the unseen ones from its end, since nobody knows which belong to one
patient. Rows are printed and appended to ``--json`` as they are ready; the same command continues.
"""

from __future__ import annotations

import argparse
import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import existing, several, whole
from benchmarks.heads import PLACES as HEADS_PLACES
from benchmarks.heads import spent, taken
from benchmarks.memorisation import Rows, copies, features_of, options, print_rows
from benchmarks.method_stages import HEUN, PHOTOGRAPHS, STANDARD
from PIL import Image
from rich.console import Console
from torch import Tensor

from mrigen import recipe as recipes
from mrigen.errors import UsageError
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import extractor
from mrigen.metrics.reference import open_reference
from mrigen.recipe.study import Study

PLACES = [place.parent / "slices" / "mri_slices_128.npz" for place in HEADS_PLACES]
TUMOUR, PLANE, SIZE = "glioma_tumor", "axial", 32
FEW, UNSEEN_SHARE = 155, 0.4
UNSEEN, PRETRAINED = "unseen slices", "pretrained on other slices"
CLEAN, BLOCKS = "fine-tuned, clean", "fine-tuned, behind blocks"
SCRATCH, CLEAN_SCRATCH = "from scratch, behind blocks", "from scratch, clean"
NAMES = (UNSEEN, PRETRAINED, CLEAN, BLOCKS, CLEAN_SCRATCH, SCRATCH)
WITHOUT = "data.images.operator={name: identity}"
BEHIND = f"data.images.operator={{name: missing-box, size: {SIZE // 2}}}"
AMBIENT = "teacher.objective={name: ambient}"
SMOKE = ["teacher.network={name: song-unet, model_channels: 8, channel_mult: [1], num_blocks: 1}"]


def write_slices(source: Path, few: int, folder: Path) -> None:
    """Three folders of PNGs: ``others``, ``few`` and ``unseen``.

    Raises:
        UsageError: the file lacks an array, or has too few slices.
    """
    with np.load(source, allow_pickle=False) as file:
        absent = {"images", "source", "plane"} - set(file.files)
        if absent:
            raise UsageError(f"{source} lacks {', '.join(sorted(absent))}: it is no file of slices")
        images, names, plane = file["images"], file["source"].astype(str), file["plane"].astype(str)
    axial = plane == PLANE
    tumour = np.flatnonzero(axial & np.array([TUMOUR in name for name in names]))
    first = len(tumour) - int(UNSEEN_SHARE * len(tumour))
    if first < few:
        raise UsageError(f"{source}: {len(tumour)} {PLANE} slices of {TUMOUR} do not suffice for --few {few}")
    others = np.flatnonzero(axial & np.array([TUMOUR not in name for name in names]))
    for part, chosen in {"others": others, "few": tumour[:few], "unseen": tumour[first:]}.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for index in chosen:
            Image.fromarray(images[index]).save(folder / part / f"{index:05d}.png")


class Tumours:
    """The models of few slices, and what they copy.

    Args:
        arguments: of the command.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.folder: Path = arguments.work / "slices"
        if not self.folder.is_dir():
            write_slices(arguments.slices, arguments.few, self.folder)

    def study(self, part: str, *changes: str, start: Path | None = None) -> Study:
        """A training on the slices of a folder."""
        options = self.arguments
        seen = options.pretraining if part == "others" else options.images
        kind = "blocks" if BEHIND in changes else "clean"
        name = f"{part}-{kind}-{'scratch' if start is None else 'tuned'}"
        words = [
            *PHOTOGRAPHS,
            HEUN,
            *(SMOKE if options.smoke else []),
            *options.changes,
            "data.images.limit=null",
            "data.images.channels=1",
            f"data.images.source={self.folder / part}",
            f"data.images.size={SIZE}",
            f"data.images.split={'null' if part != 'unseen' else '{train: 0.5, test: 0.5}'}",
            f"teacher.images={seen}",
            f"teacher.ema_halflife={max(1, seen // 3)}",
            f"teacher.optimizer.ramp_images={seen // 3}",
            f"seed={options.seed}",
            *changes,
        ]
        if start is not None:
            words.append(f"teacher.init={json.dumps(str(start))}")
        recipe = recipes.load("cifar10/inpaint-p60", words)
        return Study(recipe, options.work / name, Console(stderr=True), "cpu")

    @cached_property
    def seen(self) -> Tensor:
        """Clean training slices."""
        study = self.study("few", WITHOUT, STANDARD)
        study.prepare()
        reference = open_reference(study.reference_folder, "train")
        return reference.images(list(range(len(reference))))

    @cached_property
    def unseen(self) -> tuple[Reference, Tensor]:
        """Half of the unseen slices as references, and features of the other half."""
        study = self.study("unseen", WITHOUT, STANDARD)
        study.prepare()
        parts = [open_reference(study.reference_folder, part) for part in ("train", "test")]
        images, others = (part.images(list(range(len(part)))) for part in parts)
        reference = Reference.of(images, extractor(self.arguments.features, self.arguments.weights))
        return reference, features_of(others, reference)

    def row(self, name: str) -> dict[str, Any]:
        """A finished row."""
        reference, others = self.unseen
        training = features_of(self.seen, reference)
        features, cost = others, {}
        if name != UNSEEN:
            study = self.trained(name)
            sampler = study.teacher.sampler(study.store, study.recipe.evaluate.sampler, 250)
            images = torch.cat(list(sampler(list(range(self.arguments.n)))))
            features, cost = features_of(images, reference), {"seconds": taken(study.out / "seconds.json")}
        return {**copies(features, training, others, reference), **cost}

    @cached_property
    def pretrained(self) -> Study:
        """The training on other slices, done."""
        return done(self.study("others", WITHOUT, STANDARD))

    def trained(self, name: str) -> Study:
        """The training of a row, done."""
        if name == PRETRAINED:
            return self.pretrained
        data = (BEHIND, AMBIENT) if "blocks" in name else (WITHOUT, STANDARD)
        start = None if "scratch" in name else self.pretrained.teacher_folder
        return done(self.study("few", *data, start=start))


def done(study: Study) -> Study:
    """A study, prepared and trained once, with its seconds."""
    with spent(study.out / "seconds.json", "cpu"):
        study.prepare()
        study.train()
    return study


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=existing, help="file of slices, .npz")
    parser.add_argument("--few", type=several, default=FEW, help="training slices")
    parser.add_argument("--pretraining", type=whole, default=48_000, help="images seen in pretraining")
    parser.add_argument("--images", type=whole, default=16_000, help="images seen in training on the few")
    options(parser, 500, "runs/tumours")
    arguments = parser.parse_args()
    arguments.slices = arguments.slices or next((place for place in PLACES if place.is_file()), None)
    if arguments.slices is None:
        print("tumours: skipped, for there is no file of slices; give --slices FILE")
        return
    if arguments.smoke:
        arguments.few, arguments.pretraining, arguments.images, arguments.n = 20, 32, 32, 8

    def make() -> Rows:
        work = Tumours(arguments)
        return {name: partial(work.row, name) for name in NAMES}

    print_rows(arguments, ("few", "pretraining", "images"), make)


if __name__ == "__main__":
    one_line(main)
