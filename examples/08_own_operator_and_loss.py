"""
An operator and a loss of your own
==================================

A class in a file is named ``mine.py:Class`` wherever a recipe or an option takes a name; nothing in the
package changes.
"""

# %%
# An operator: a frozen dataclass with ``forward`` and ``adjoint``, and the distribution that draws it. Here
# every row of an image is darkened by its own factor.
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt

import mrigen as mg

runs = Path("runs")
runs.mkdir(exist_ok=True)
(runs / "mine.py").write_text('''
from dataclasses import dataclass

import torch
from torch import Tensor

from mrigen.losses.sid import SiD, SiDParams
from mrigen.operators import ImageCorruption, LinearOperator
from mrigen.registry import Params


@dataclass(frozen=True, eq=False)
class Shade(LinearOperator):
    """A x = w x with a factor w for every row."""

    like: Tensor  # zeros (B, C, H, W)
    w: Tensor  # (B, 1, H, 1)

    def forward(self, x):
        return self.w * x

    def adjoint(self, y):
        return self.w * y

    def zero_image(self):
        return torch.zeros_like(self.like)


class Shading(ImageCorruption):
    """Rows darkened by factors that are uniform between ``darkest`` and 1."""

    class Params(Params):
        darkest: float = 0.2

    ambient_obstacle = "nothing is hidden"

    def draw(self, batch, rng):
        like = self.zeros(batch)
        w = torch.rand(batch, 1, like.shape[2], 1, generator=rng)
        return Shade(like, self.params.darkest + (1 - self.params.darkest) * w)


class Halved(SiD):
    """SiD times a factor."""

    class Params(SiDParams):
        factor: float = 0.5

    def generator_loss_at(self, teacher, fake, batch):
        return self.params.factor * super().generator_loss_at(teacher, fake, batch)
''')

# %%
# The operator on the command line: a store of shaded digits, which remembers the SHA-256 of the file.
line = "prep-images digits --out shaded --operator mine.py:Shading:darkest=0.1 --noise 0.1"
command = [sys.executable, "-m", "mrigen", *shlex.split(line)]
print(subprocess.run(command, cwd=runs, check=True, capture_output=True, text=True).stdout)
store = mg.open_store(runs / "shaded")
measured = store.measurements(list(range(8)))

# %%
# A teacher of shaded, noisy digits, and a student of clean ones: its loss, our own, shades what it generates
# before it compares.
network = {"name": "mlp", "hidden": 128, "num_blocks": 2}
settings = {"batch": 256, "device": "cpu"}
teacher = mg.train(store, objective="standard", images=60_000, network=network, ema_halflife=5_000,
                   optimizer={"lr": 2e-3, "ramp_images": 5_000}, **settings)  # fmt: skip
student = mg.distill(teacher, store, loss={"name": str(runs / "mine.py:Halved"), "alpha": 1.0}, images=30_000,
                     generator={"lr": 4e-4, "betas": [0.0, 0.999]}, fake={"lr": 8e-4, "betas": [0.0, 0.999]},
                     ema_halflife=3_000, **settings)  # fmt: skip
print(student.description.provenance["distilled"])

# %%
# Measurements, and digits of the student.
figure, axes = plt.subplots(2, 8, figsize=(10, 2.8), layout="constrained")
for row, images in zip(axes, (measured.y, student.sample(8, seed=0)), strict=True):
    for axis, picture in zip(row, images, strict=True):
        axis.imshow(picture[0], cmap="gray", vmin=-1, vmax=1)
        axis.set_axis_off()
plt.show()
