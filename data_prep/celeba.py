"""CelebA, aligned and cropped faces, 64 x 64.

Home: the CelebA data set of the Chinese University of Hong Kong (Liu et al. 2015, arXiv:1411.7766): the
archive ``img_align_celeba.zip``, or its extracted folder.

Selection: all images, the central 140 x 140 pixels, resampled to 64 x 64. Corruption of the recipe
``celeba/deblur-s20``; another one: ``--operator celeba/inpaint-p60-s20``.

Disk and time: not measured on these data. Stores keep float32: 12 bytes per pixel of colour images, and as
much for the references.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import run_script


def command(source: Path, out: Path) -> list[str]:
    """140 x 140 pixels at 64 x 64, blurred and noisy."""
    return [
        *("prep-images", str(source), "--out", str(out), "--size", "64", "--crop", "celeba"),
        *("--operator", "celeba/deblur-s20"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
