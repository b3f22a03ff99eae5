"""fastMRI knee, several coils, coronal proton density with and without fat suppression.

Home: the fastMRI data set of NYU Langone Health, after its data-use agreement (Knoll et al. 2020,
Radiology: Artificial Intelligence 2, e190007). Extract ``multicoil_train``.

Selection: all files and slices; images of 320 x 320, the size that fastMRI scores. Training and test are
split by volume, 9 to 1.

Masks: exactly a quarter of the lines, 8 % of them in the centre as in the challenge.

Disk and time (measured with simulated volumes of 16 coils, 640 x 320, on one core of an AMD EPYC (Milan),
for 4 virtual coils of 320 x 320): 4.1 MB of store and 0.8 MB of reference per slice, 0.15 s per slice.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import files, run_script


def command(source: Path, out: Path) -> list[str]:
    """All volumes, 320 x 320, R = 4."""
    return [
        "prep-fastmri",
        *files(source, "file*.h5"),
        *("--out", str(out), "--acceleration", "4", "--center-fraction", "0.08"),
        *("--virtual-coils", "4", "--crop", "320", "320", "--split", "train=0.9,test=0.1"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
