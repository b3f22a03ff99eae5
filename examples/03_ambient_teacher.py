"""
Train an ambient teacher on digits
==================================

1,797 handwritten digits of which 60 % of the pixels are missing: a diffusion model of whole digits that
never saw one.
"""

# %%
# The measurements. Every image has one mask; clean images go to a folder that training cannot open.
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import mrigen as mg

Path("runs").mkdir(exist_ok=True)
line = "prep-images digits --out runs/digits --operator inpainting:missing=0.6 --split train=0.75,test=0.25"
subprocess.run([sys.executable, "-m", "mrigen", *shlex.split(line)], check=True, capture_output=True)
store = mg.open_store("runs/digits")
print(len(store), "images of", store.image_shape)

# %%
# Ambient Diffusion hides a few more pixels of each image and asks the network for all that was measured. The
# call returns the finished model if it is repeated: a run folder keeps states, losses and the model.
losses = []
teacher = mg.train(
    store,
    objective="ambient",
    images=120_000,
    batch=256,
    network={"name": "mlp", "hidden": 256, "num_blocks": 3},
    optimizer={"lr": 2e-3, "ramp_images": 10_000, "decay": "linear", "grad_norm_of": "mean"},
    ema_halflife=10_000,
    out="runs/teacher",
    device="cpu",
    on_step=losses.append,
)
print(teacher)

# %%
# Its samples beside its training data. Numbers of a training this short are no measure of the method:
# ``mrigen run toy/digits-inpaint`` trains four times as long, and says how good it gets.
samples = teacher.sample(40, seed=0)
observed = store.measurements(list(range(40))).y


def tiles(images: torch.Tensor) -> torch.Tensor:
    """Forty images in four rows."""
    return images.reshape(4, 10, 8, 8).permute(0, 2, 1, 3).reshape(32, 80)


figure, axes = plt.subplots(3, 1, figsize=(7, 7), height_ratios=(3, 3, 2), layout="constrained")
for axis, images, name in zip(
    axes, (observed, samples), ("measurements", "samples of the teacher"), strict=False
):
    axis.imshow(tiles(images), cmap="gray", vmin=-1, vmax=1)
    axis.set_title(name)
    axis.set_axis_off()
axes[2].plot([step["images"] for step in losses], [step["loss"] for step in losses])
axes[2].set(xlabel="images", ylabel="loss", yscale="log")
plt.show()
