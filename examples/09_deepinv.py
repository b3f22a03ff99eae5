"""
A mrigen prior inside deepinv
=============================

Operators and denoisers cross over in both directions: an ambient teacher as the denoiser of deepinv's plug-
and-play.
"""

# %%
# The teacher and the store of "Reconstruct with uncertainty"; run ``06_uncertainty.py`` first. deepinv is
# needed: ``pip install deepinv``.
import deepinv
import matplotlib.pyplot as plt
import torch

import mrigen as mg
from mrigen.metrics.reference import open_reference

test = mg.open_store("runs/scan-store", split="test")
data = test.measurements([5])
truth = open_reference("runs/scan-store-reference", "test").images([5])
teacher = mg.load("runs/scan-teacher/teacher")

# %%
# To deepinv: real and imaginary parts have an axis of their own there, images and noise levels keep mrigen's
# units.
y, physics = mg.operators.to_deepinv(data)
denoiser = mg.operators.to_deepinv(teacher)
print(physics.A_adjoint(y).shape)

# %%
# deepinv's half-quadratic splitting with that denoiser.
levels = torch.logspace(-0.3, -1.3, 12).tolist()
model = deepinv.optim.optim_builder(
    iteration="HQS",
    prior=deepinv.optim.PnP(denoiser=denoiser),
    data_fidelity=deepinv.optim.L2(),
    max_iter=len(levels),
    params_algo={"g_param": levels, "stepsize": [20 * level**2 for level in levels]},
)
with torch.no_grad():
    restored = torch.view_as_complex(model(y, physics).permute(0, 2, 3, 1).contiguous())[:, None]

# %%
# Beside mrigen's own.
images = {
    "truth": truth,
    "zero-filled": mg.reconstruct(data, solver="zero-filled"),
    "deepinv's HQS": restored,
    "mrigen's one step": mg.reconstruct(data, solver="ambient-one-step", model=teacher),
}
figure, axes = plt.subplots(1, 4, figsize=(10, 3), layout="constrained")
for axis, (name, image) in zip(axes, images.items(), strict=True):
    error = float((image.abs() - truth.abs()).norm() / truth.norm())
    axis.imshow(image[0, 0].abs(), cmap="gray", vmin=0, vmax=float(truth.abs().max()))
    axis.set_title(name if image is truth else f"{name}, error {error:.2f}", fontsize=10)
    axis.set_axis_off()
plt.show()

# %%
# From deepinv: any linear physics is an operator of mrigen.
blur = deepinv.physics.BlurFFT((1, 32, 32), filter=deepinv.physics.functional.blur.gaussian_blur(sigma=1.0))
A = mg.operators.from_deepinv(blur, (1, 32, 32))
print(A(torch.rand(2, 1, 32, 32)).shape)
