"""Calgary-Campinas: three-dimensional T1 brains, two phase encodes, 12 coils.

Home: the Calgary-Campinas public brain data set, multi-channel raw data, "Train" (Souza et al. 2018,
NeuroImage 170, 482-494).

Selection: all volumes, their slices along the readout without the first and last 50, where there is mostly
air. Both axes of a slice are phase encodes, so that masks are of points. About 15 % of one axis were not
acquired; preparation marks them.

Masks: Poisson-disc, a quarter of the points, a full centre of 16 x 16; a tenth of the points outside it is
uniformly random, so that ambient training is admissible.

Disk and time: not measured on these data; the reader's rate is that of ``fastmri_brain`` at best.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import files, run_script


def command(source: Path, out: Path) -> list[str]:
    """Sagittal slices, Poisson-disc masks, R = 4."""
    return [
        "prep-fastmri",
        *files(source, "*.h5"),
        *("--out", str(out), "--mask", "poisson-disc:uniform=0.1", "--acceleration", "4"),
        *("--acs-lines", "16", "--slices", "50:-50", "--virtual-coils", "4", "--split", "train=0.9,test=0.1"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
