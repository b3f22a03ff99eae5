"""M4Raw: brains at 0.3 T, four coils, repetitions of one scan in files of their own.

Home: the M4Raw data set on Zenodo (Lyu et al. 2023, Scientific Data 10, 264). Extract the archive of the
training data.

Selection: the T2-weighted scans (files with ``_T2`` in their names), every repetition as a volume; at this
field their noise is not negligible. Coils are kept.
Repetitions of one patient must not be split between training and test: prepare the data set's own folders
separately.

Masks: exactly half of the lines, 26 in the centre.

Disk and time: not measured on these data; the reader's rate is that of ``fastmri_brain`` at best.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import files, run_script


def command(source: Path, out: Path) -> list[str]:
    """T2, all repetitions, R = 2."""
    return [
        "prep-fastmri",
        *files(source, "*_T2*.h5"),
        *("--out", str(out), "--acceleration", "2", "--acs-lines", "26", "--virtual-coils", "0"),
        "--keep-oversampling",
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
