"""
Restore photographs
===================

Missing pixels, blur and low resolution with baselines that need no model; noise with a denoiser that
learned from noisy photographs alone.
"""

# %%
# A photograph of scikit-image in [-1, 1].
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from skimage import data as photographs
from skimage.color import rgb2gray
from skimage.transform import resize

import mrigen as mg
from mrigen.operators.noise import parse_noise

camera = torch.from_numpy(resize(photographs.camera(), (128, 128), anti_aliasing=True)).float()
image = 2 * camera[None, None] - 1


def psnr(x: torch.Tensor) -> float:
    """In dB, of images in [-1, 1]."""
    return float(10 * torch.log10(4 / (x - image).square().mean()))


# %%
# Corruptions are named as on the command line; ``mrigen list operators`` has them all.
rng = torch.Generator().manual_seed(0)
cases = {
    "half of the pixels missing": {"name": "inpainting", "missing": 0.5},
    "Gaussian blur": {"name": "gaussian-blur", "std": 1.5},
    "low resolution": {"name": "super-resolution", "factor": 2},
}
figure, axes = plt.subplots(3, 4, figsize=(10, 7.8), layout="constrained")
for row, (title, spec) in zip(axes, cases.items(), strict=True):
    corruption = mg.operators.make_corruption(spec, (1, 128, 128), noise=parse_noise(0.05))
    measured = corruption.measure(image, rng)
    shown = {"measured": mg.reconstruct(measured, solver="zero-filled"), "truth": image}
    for solver in ("l1-wavelet", "total-variation"):
        shown[solver] = mg.reconstruct(measured, solver=solver)
    for axis, (name, panel) in zip(row, shown.items(), strict=True):
        axis.imshow(panel[0, 0], cmap="gray", vmin=-1, vmax=1)
        axis.set_title(name if panel is image else f"{name}, {psnr(panel):.1f} dB", fontsize=10)
        axis.set_axis_off()
    row[0].set_ylabel(title)
    print(title, {name: round(psnr(panel), 1) for name, panel in shown.items() if panel is not image})

# %%
# Noise: patches of four other photographs, all with noise of σ = 0.2, are all that the denoiser learns from
# (Ambient Tweedie).
runs = Path("runs")
(runs / "patches").mkdir(parents=True, exist_ok=True)
for name in ("astronaut", "chelsea", "coffee", "rocket"):
    picture = (255 * rgb2gray(getattr(photographs, name)())).astype("uint8")
    small = Image.fromarray(picture).reduce(2)
    corners = [(x, y) for x in range(0, small.width - 32, 24) for y in range(0, small.height - 32, 24)]
    for x, y in corners:
        small.crop((x, y, x + 32, y + 32)).save(runs / "patches" / f"{name}-{x:03d}-{y:03d}.png")
line = "prep-images patches --out noisy --operator identity --noise 0.2 --channels 1"
subprocess.run([sys.executable, "-m", "mrigen", *line.split()], cwd=runs, check=True, capture_output=True)
teacher = mg.train(
    mg.open_store(runs / "noisy"),
    objective={"name": "tweedie", "noise": {"p_mean": -1.6, "p_std": 0.5}},
    images=5_000,
    batch=16,
    network={"name": "song-unet", "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1,
             "attn_resolutions": [], "dropout": 0.0},
    optimizer={"lr": 2e-3, "ramp_images": 500, "decay": "linear", "grad_norm_of": "mean"},
    ema_halflife=500,
    out=runs / "denoiser",
    device="cpu",
)  # fmt: skip

# %%
# E[x | y] of a photograph that it never saw, in one evaluation, beside baselines. A minute of training gets
# it between l1-wavelet and total variation.
corruption = mg.operators.make_corruption({"name": "identity"}, (1, 128, 128), noise=parse_noise(0.2))
measured = corruption.measure(image, rng)
shown = {"noisy": measured.y, "truth": image}
for solver in ("l1-wavelet", "total-variation"):
    shown[solver] = mg.reconstruct(measured, solver=solver)
shown["learned from noisy"] = teacher.denoise(measured.y, sigma=0.2).detach()
figure, axes = plt.subplots(1, 5, figsize=(12, 3), layout="constrained")
for axis, (name, panel) in zip(axes, shown.items(), strict=True):
    axis.imshow(panel[0, 0], cmap="gray", vmin=-1, vmax=1)
    axis.set_title(name if panel is image else f"{name}, {psnr(panel):.1f} dB", fontsize=10)
    axis.set_axis_off()
print({name: round(psnr(panel), 1) for name, panel in shown.items() if panel is not image})
plt.show()
