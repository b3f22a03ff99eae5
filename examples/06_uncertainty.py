"""
Reconstruct with uncertainty
============================

Posterior samples of undersampled scans with a prior that was learned from undersampled scans, and a check
of their spread.
"""

# %%
# 32 x 32 slices of four coils at R = 4, as in ``mrigen run demo/brain``, and a teacher that trains for half
# a minute.
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import mrigen as mg

Path("runs").mkdir(exist_ok=True)
simulate = "simulate --out scans --volumes 12 --slices 24 --slice-range 0.35 0.8 --matrix 32 32 --snr 50"
prepare = "prep-fastmri scans --out scan-store --acceleration 4 --acs-lines 4 --kernel-width 3 --phase acs"
for line in (simulate, f"{prepare} --split train=0.75,test=0.25"):
    command = [sys.executable, "-m", "mrigen", *shlex.split(line)]
    subprocess.run(command, cwd="runs", check=True, capture_output=True)
teacher = mg.train(
    mg.open_store("runs/scan-store"),
    objective={"name": "ambient", "noise": {"p_mean": -2.4, "p_std": 1.2}},
    images=2_400,
    batch=4,
    network={"name": "song-unet", "model_channels": 16, "channel_mult": [1, 2, 2], "num_blocks": 1,
             "attn_resolutions": [], "dropout": 0.0},
    optimizer={"lr": 2e-3, "ramp_images": 500, "decay": "linear", "grad_norm_of": "mean"},
    ema_halflife=500,
    out="runs/scan-teacher",
    device="cpu",
)  # fmt: skip

# %%
# Samples of the posterior by DDS for two held-out slices, and a baseline.
from mrigen.metrics.reference import open_reference

test = mg.open_store("runs/scan-store", split="test")
chosen = [5, 12]
data = test.measurements(chosen)
truth = open_reference("runs/scan-store-reference", "test").images(chosen)
samples = mg.reconstruct(data, solver="dds", model=teacher, samples=6, steps=20, seed=0)
mean, deviation = samples.mean(1), samples.abs().std(1)
baseline = mg.reconstruct(data, solver="total-variation")
estimate = mg.reconstruct(
    data, solver="ambient-one-step", model=teacher
)  # E[x | y] in one network evaluation

# %%
# May the spread be taken for an uncertainty? Where the truth is known, error over spread should be about 1.
# It is far above 1 here, so that it may not: a teacher of half a minute is too sure of itself, and is also
# behind total variation. The teacher of ``mrigen run demo/brain`` is ahead of it (:doc:`/results/quality`),
# and :doc:`/reconstruction` says which solvers have the right spread. ``mrigen reconstruct`` says this
# number wherever it can.
error = (mean.abs() - truth.abs()).square().mean().sqrt()
predicted = deviation.square().mean().sqrt()
print(f"error / predicted deviation: {float(error / predicted):.2f}")
for name, reconstruction in {"total variation": baseline, "one step": estimate, "mean of 6": mean}.items():
    print(f"{name}: error {float((reconstruction.abs() - truth.abs()).norm() / truth.norm()):.3f}")
figure, axes = plt.subplots(2, 7, figsize=(13, 4), layout="constrained")
for row in range(2):
    shown = {
        "truth": truth[row, 0].abs(),
        "total variation": baseline[row, 0].abs(),
        "one step": estimate[row, 0].abs(),
        "one sample": samples[row, 0, 0].abs(),
        "mean of 6": mean[row, 0].abs(),
        "|error| x 4": 4 * (mean[row, 0].abs() - truth[row, 0].abs()).abs(),
        "deviation x 4": 4 * deviation[row, 0],
    }
    top = float(torch.quantile(shown["truth"], 0.995))
    for axis, (name, image) in zip(axes[row], shown.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=top)
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
plt.show()
