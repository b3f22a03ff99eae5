"""
Forward models and ESPIRiT
==========================

From a coil-combined image to undersampled multi-coil k-space and back: masks, coil maps, the operator A, a
baseline.
"""

# %%
# A slice of the head that the package ships, four simulated coils, k-space with noise. DC is at (H // 2, W
# // 2), H is the readout, W the phase encode, transforms are orthonormal.
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import torch
from sigpy.mri import birdcage_maps

import mrigen as mg

volume = np.load(str(files("mrigen.assets") / "colin27_t1_1mm.npz"))["volume"]
head = torch.zeros(1, 1, 192, 160, dtype=torch.complex64)
head[0, 0, 3:188, 5:155] = torch.from_numpy(volume[:, :, 80].T[::-1].copy()) / 255
coils = torch.from_numpy(birdcage_maps((4, 192, 160)).astype(np.complex64))
rng = torch.Generator().manual_seed(0)
noise = torch.randn(1, 4, 192, 160, dtype=torch.complex64, generator=rng)
kspace = mg.fft(coils * head) + 0.01 * noise

# %%
# Coil maps from the 20 calibration lines in the centre, by ESPIRiT.
maps = mg.espirit(kspace, calib_width=20, kernel_width=5, crop=0.8)
figure, axes = plt.subplots(1, 4, figsize=(10, 3), layout="constrained")
for coil, axis in enumerate(axes):
    axis.imshow(maps[0, coil].abs(), vmin=0, vmax=1)
    axis.set_axis_off()
figure.suptitle("magnitudes of the coil maps")

# %%
# A mask of random lines at R = 4, and the operator: ``A(x)``, ``A.H(y)``, ``A.normal(x)``, ``A @ B``; all
# are differentiable.
mask = mg.masks.exact_random(width=160, acceleration=4, acs_lines=20, seed=0)
A = mg.MultiCoilMRI(maps, mask)
y = kspace * mask
print(A)
x = torch.randn(1, 1, 192, 160, dtype=torch.complex64, generator=rng)
left, right = torch.vdot(A(x).flatten(), y.flatten()), torch.vdot(x.flatten(), A.H(y).flatten())
print(f"<A x, y> and <x, Aᴴ y> differ by {float((left - right).abs() / left.abs()):.1e}")

# %%
# Reconstructions that need no learning; ``mrigen list solvers`` has more.
data = mg.Measurements(y, A, sigma=0.01)
images = {"fully sampled": (maps.conj() * mg.ifft(kspace)).sum(1, keepdim=True)}
for solver in ("zero-filled", "cg-sense", "l1-wavelet", "total-variation"):
    images[solver] = mg.reconstruct(data, solver=solver)
truth = images["fully sampled"]
figure, axes = plt.subplots(1, 5, figsize=(12, 3.2), layout="constrained")
for (name, image), axis in zip(images.items(), axes, strict=True):
    error = float((image.abs() - truth.abs()).norm() / truth.norm())
    axis.imshow(image[0, 0].abs(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(name if image is truth else f"{name}\nerror {error:.3f}", fontsize=10)
    axis.set_axis_off()
plt.show()
