"""CIFAR-10, 32 x 32 in ten classes.

Home: the CIFAR-10 data set of the University of Toronto (Krizhevsky 2009, "Learning multiple layers of
features from tiny images"): the archive of the Python version.

Selection: all images with their labels; the archive's training and test batches become parts of the store.
Noise of the recipe ``cifar10/denoise-s20``.

Disk and time: not measured on these data. Stores keep float32: 12 bytes per pixel of colour images, and as
much for the references.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import run_script


def command(source: Path, out: Path) -> list[str]:
    """All images, noise of σ = 0.2."""
    return [
        *("prep-images", str(source), "--out", str(out), "--crop", "none", "--labels"),
        *("--operator", "cifar10/denoise-s20"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
