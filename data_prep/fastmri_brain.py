"""fastMRI brain, AXT2, as the released code of Ambient Diffusion Posterior Sampling selects it.

Home: the fastMRI data set of NYU Langone Health, after its data-use agreement (Zbontar et al. 2018,
arXiv:1811.08839). Extract ``multicoil_train``.

Selection: the first 100 files called ``file_brain_AXT2_*.h5`` by name, and slice 2 of each (Aali et al. 2025;
their code also takes coil maps from fully sampled k-space, which this does not). Images are cropped to
384 x 320; volumes that are smaller are listed and left out, and the exit code is 1. All slices:
``--slices all``.

Masks: exactly a quarter of the lines, 20 ACS lines; other accelerations: ``--acceleration 8``.

Disk and time (measured with simulated volumes of 16 coils, 640 x 320, on one core of an AMD EPYC (Milan),
for 4 virtual coils of 320 x 320): 4.1 MB of store and 0.8 MB of reference per slice, 0.15 s per slice.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import files, run_script


def command(source: Path, out: Path) -> list[str]:
    """AXT2, slice 2, cropped to 384 x 320, R = 4."""
    return [
        "prep-fastmri",
        *files(source, "file_brain_AXT2_*.h5", limit=100),
        *("--out", str(out), "--slices", "2", "--acceleration", "4", "--acs-lines", "20"),
        *("--virtual-coils", "4", "--crop", "384", "320"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
