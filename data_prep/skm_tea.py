"""SKM-TEA: three-dimensional double-echo knees, two phase encodes.

Home: the SKM-TEA data set of Stanford University, "Raw Data Track" (Desai et al. 2021, NeurIPS Datasets and
Benchmarks; arXiv:2203.06823). Extract ``files_recon_calib-24``.

Selection: the first echo; slices along the readout without the first and last 100. Both axes of a slice are
phase encodes, so that masks are of points.

Masks: Poisson-disc, a sixth of the points, a full centre of 24 x 24; a tenth of the points outside it is
uniformly random, so that ambient training is admissible.

Disk and time: not measured on these data; the reader's rate is that of ``fastmri_brain`` at best.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import files, run_script


def command(source: Path, out: Path) -> list[str]:
    """First echo, Poisson-disc masks, R = 6."""
    return [
        "prep-fastmri",
        *files(source, "*.h5"),
        *("--out", str(out), "--choose", "echo=0", "--mask", "poisson-disc:uniform=0.1"),
        *("--acceleration", "6", "--acs-lines", "24", "--slices", "100:-100", "--virtual-coils", "4"),
        *("--split", "train=0.9,test=0.1"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
