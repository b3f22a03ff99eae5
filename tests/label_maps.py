"""Small label maps of heads: nested ellipsoids of FreeSurfer's and CHARM's numbers."""

from pathlib import Path

import numpy as np

NUMBERS = np.array([0, 2, 41, 3, 42, 4, 515, 511], np.int16)
SIZE = (30, 40, 32)


def labels(seed):
    """Indices into NUMBERS: skin, bone, cortex and white matter of two sides, one ventricle."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    grown = 1 + 0.1 * rng.uniform(-1, 1)

    def inside(*radii):
        return sum((a / r) ** 2 for a, r in zip(axes, radii, strict=True)) < 1

    found, right = np.zeros(SIZE, np.uint8), axes[0] > 0
    found[inside(0.8 * grown, 0.85, 0.95)] = 7
    found[inside(0.72 * grown, 0.78, 0.85)] = 6
    found[inside(0.65 * grown, 0.72, 0.8)] = 3
    found[inside(0.5 * grown, 0.58, 0.65)] = 1
    found += (right & np.isin(found, [1, 3])).astype(np.uint8)
    found[inside(0.2 + 0.1 * rng.random(), 0.3, 0.3)] = 5
    return found


def write_heads(folder: Path, count: int) -> Path:
    """``head_1.npz`` and so on, voxels of 5 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        content = {"labels": labels(number), "label_values": NUMBERS, "voxel_mm": np.full(3, 5.0)}
        np.savez(folder / f"head_{number}.npz", **content)
    return folder
