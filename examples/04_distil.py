"""
Distil a teacher into a one-step generator
==========================================

Score distillation under the same corruption: generated digits are masked like the data before they are
compared.
"""

# %%
# The teacher of the example before; without it, run ``03_ambient_teacher.py`` first.
import time

import matplotlib.pyplot as plt
import torch

import mrigen as mg

store = mg.open_store("runs/digits")
teacher = mg.load("runs/teacher/teacher")

# %%
# The checkpoint is chosen by the proximal distance: samples, corrupted again, against the corrupted data.
history = []
student = mg.distill(
    teacher,
    store,
    loss={"name": "sid", "alpha": 1.2},
    images=60_000,
    batch=256,
    generator={"lr": 4e-4, "betas": [0.0, 0.999], "decay": "linear"},
    fake={"lr": 8e-4, "betas": [0.0, 0.999], "decay": "linear"},
    ema_halflife=5_000,
    selection={"every_images": 10_000, "samples": 500},
    out="runs/student",
    device="cpu",
    on_step=history.append,
)
print(student)

# %%
# One network evaluation per image instead of the teacher's 35.
for model in (teacher, student):
    began = time.perf_counter()
    images = model.sample(500, seed=0)
    print(f"{model.role}: {1000 * (time.perf_counter() - began) / 500:.2f} ms per image")

# %%
# Samples of both, and the distance that chose.
measured = [(step["images"], step["selection"]) for step in history if "selection" in step]
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for axis, model in zip(axes, (teacher, student), strict=False):
    tiles = model.sample(36, seed=0).reshape(6, 6, 8, 8).permute(0, 2, 1, 3).reshape(48, 48)
    axis.imshow(torch.clamp(tiles, -1, 1), cmap="gray")
    axis.set_title(model.role)
    axis.set_axis_off()
axes[2].plot(*zip(*measured, strict=True), marker="o")
axes[2].set(xlabel="images", ylabel="proximal distance")
plt.show()
