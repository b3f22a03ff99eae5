"""
Prepare a scan
==============

Raw k-space in a file becomes a measurement store: whitened, undersampled, with coil maps. The same commands
take fastMRI, ISMRMRD, Siemens, BART, MATLAB and numpy files of your own.
"""

# %%
# Commands are run as in a terminal, in a folder of this example.
import json
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt

import mrigen as mg

Path("runs").mkdir(exist_ok=True)


def mrigen(line: str) -> str:
    """The output of a command of mrigen."""
    command = [sys.executable, "-m", "mrigen", *shlex.split(line)]
    return subprocess.run(command, cwd="runs", check=True, capture_output=True, text=True).stdout


# %%
# Files in fastMRI's format; with scans of your own, leave this out.
print(mrigen("simulate --out raw --volumes 6 --slices 6 --matrix 64 64 --coils 8"))

# %%
# What is in a file?
facts = json.loads(mrigen("info raw/simulated_0000.h5 --json"))
for name, value in facts.items():
    print(f"{name:>22}  {value}")

# %%
# To a store, four times undersampled; references for evaluation go to a folder of their own.
print(
    mrigen("prep-fastmri raw --out brain --acceleration 4 --acs-lines 8 --kernel-width 4 --virtual-coils 4")
)

# %%
# The store as the training sees it.
store = mg.open_store("runs/brain", split=None)
print(len(store), "slices of", store.image_shape)
data = store.measurements([0, 3])
figure, axes = plt.subplots(2, 3, figsize=(7, 4.6), layout="constrained")
zero_filled = mg.reconstruct(data, solver="zero-filled")
sparse = mg.reconstruct(data, solver="l1-wavelet")
for row in range(2):
    kspace = data.y[row].abs().square().sum(0).sqrt()
    for axis, image, name in zip(
        axes[row],
        (kspace.log1p(), zero_filled[row, 0].abs(), sparse[row, 0].abs()),
        ("measured k-space", "zero-filled", "l1-wavelet"),
        strict=True,
    ):
        axis.imshow(image, cmap="gray")
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
plt.show()
