"""AFHQ-v2, faces of cats, dogs and wild animals, 64 x 64.

Home: the Animal Faces-HQ data set, version 2, of NAVER (Choi et al. 2020, arXiv:1912.01865). Give the
folder with ``train`` and ``test``, which become parts of the store.

Selection: all images, resampled to 64 x 64. Corruption of the recipe ``afhqv2/inpaint-p60``; another one:
``--operator afhqv2/denoise-s20``.

Disk and time: not measured on these data. Stores keep float32: 12 bytes per pixel of colour images, and as
much for the references.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import run_script


def command(source: Path, out: Path) -> list[str]:
    """64 x 64, 60 % of the pixels missing."""
    return [
        *("prep-images", str(source), "--out", str(out), "--size", "64", "--operator", "afhqv2/inpaint-p60"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
