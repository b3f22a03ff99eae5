"""Small sets of real images that need no download, and the networks that learn them in minutes on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from torch import Tensor

from mrigen import recipe as recipes
from mrigen.metrics.reference import open_reference
from mrigen.recipe.study import Study

PATCH = 32
UNET = (
    "teacher.network={name: song-unet, model_channels: 24, channel_mult: [1, 2, 2], num_blocks: 1, "
    "attn_resolutions: [], dropout: 0.0, patch: 2}"
)
TINY = [
    "distill.selection={every_images: 512, samples: 40}",
    "data.images.limit=60",
    "teacher.images=512",
    "distill.images=512",
]


@dataclass(frozen=True)
class Kind:
    """A set of images.

    Attributes:
        recipe: what learns it.
        changes: to the recipe.
        patches: whether the images are patches of photographs, written beside the run.
    """

    recipe: str = "toy/digits-denoise"
    changes: list[str] = field(default_factory=list)
    patches: bool = False

    def study(self, changes: list[str], out: Path, *, tiny: bool) -> Study:
        """A study of these images with another corruption; changes are a recipe's settings."""
        source = []
        if self.patches:
            source = [f"data.images.source={cut_photographs(out.parent / 'patches')}"]
        settings = ["data.images.noise=0", *self.changes, *source, *changes, *(TINY if tiny else [])]
        return Study(recipes.load(self.recipe, settings), out, Console(stderr=True), "cpu")

    @staticmethod
    def held_out(study: Study, count: int) -> Tensor:
        """Clean images (n, C, H, W) that no training of this recipe saw, spread evenly."""
        references = open_reference(study.reference_folder, "test")
        chosen = np.unique(np.linspace(0, len(references) - 1, min(count, len(references))).round())
        return references.images([int(index) for index in chosen])


SETS = {
    "digits": Kind(),
    "photographs": Kind(
        changes=[
            UNET,
            "data.images.channels=1",
            "teacher.images=48000",
            "teacher.batch=16",
            "teacher.ema_halflife=5000",
            "teacher.optimizer.ramp_images=5000",
            "distill.images=16000",
            "distill.batch=16",
            "distill.ema_halflife=2000",
            "distill.generator.lr=1e-4",
            "distill.fake.lr=2e-4",
            "distill.selection={every_images: 4000, samples: 400}",
            "evaluate.features=random-vgg16-r64",
        ],
        patches=True,
    ),
}


def photographs() -> dict[str, Image.Image]:
    """Photographs that scikit-learn and scikit-image ship, by name."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    photos = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    photos |= {name: getattr(data, name)() for name in ("astronaut", "camera", "chelsea", "coffee", "rocket")}
    return {name: Image.fromarray(pixels).convert("L") for name, pixels in photos.items()}


def cut_photographs(folder: Path) -> Path:
    """Write disjoint patches of the photographs as PNG files, once; returns the folder."""
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for name, image in photographs().items():
        for top in range(0, image.height - PATCH + 1, PATCH):
            for left in range(0, image.width - PATCH + 1, PATCH):
                patch = image.crop((left, top, left + PATCH, top + PATCH))
                patch.save(partial / f"{name}-{top:03d}-{left:03d}.png")
    partial.rename(folder)
    return folder
