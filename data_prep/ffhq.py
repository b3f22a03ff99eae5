"""FFHQ, faces, 64 x 64.

Home: the Flickr-Faces-HQ data set of NVIDIA (Karras et al. 2019, arXiv:1812.04948): the folder or archive of
the 128 x 128 thumbnails is enough.

Selection: all 70,000 images, resampled to 64 x 64. Noise of the recipe ``ffhq/denoise-s20``.

Disk and time: not measured on these data. Stores keep float32: 12 bytes per pixel of colour images, and as
much for the references.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import run_script


def command(source: Path, out: Path) -> list[str]:
    """64 x 64, noise of σ = 0.2."""
    return [
        *("prep-images", str(source), "--out", str(out), "--size", "64", "--operator", "ffhq/denoise-s20"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
