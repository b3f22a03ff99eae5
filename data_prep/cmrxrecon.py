"""CMRxRecon: cardiac cines of several coils, MATLAB files.

Home: the CMRxRecon challenge of MICCAI 2023, after registration (Wang et al. 2024, Scientific Data 11, 687).
Extract the multi-coil training data, ``FullSample``.

Selection: short-axis cines (``cine_sax.mat``), the first frame of every slice: neighbouring frames differ
little. The files of all patients have one name; they are linked under the patients' names beside the store.

Masks: exactly a quarter of the lines, 24 in the centre as in the challenge.

Disk and time: not measured on these data; the reader's rate is that of ``fastmri_brain`` at best.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.script import files, run_script


def linked(source: Path, folder: Path) -> list[str]:
    """Links ``P001.mat`` to ``P001/cine_sax.mat``: volumes of one store need names of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    links = []
    for path in map(Path, files(source, "cine_sax.mat")):
        link = folder / f"{path.parent.name}.mat"
        if not link.exists():
            link.symlink_to(path.resolve())
        links.append(str(link))
    return links


def command(source: Path, out: Path) -> list[str]:
    """Short axis, first frame, R = 4."""
    return [
        "prep-fastmri",
        *linked(source, out.with_name(f"{out.name}-sources")),
        *("--out", str(out), "--choose", "frame=0", "--acceleration", "4", "--acs-lines", "24"),
        *("--virtual-coils", "4", "--split", "train=0.9,test=0.1"),
    ]


if __name__ == "__main__":
    sys.exit(run_script(__doc__ or "", command))
