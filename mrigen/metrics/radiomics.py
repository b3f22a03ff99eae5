"""Radiomic features of pictures: intensities and textures that have names."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from mrigen.errors import UsageError

BIN = 25
"""Grey levels of 255 that a texture takes for one; PyRadiomics' width."""
LEFT_OUT = ("firstorder_StandardDeviation", "gldm_GrayLevelNonUniformityNormalized")
"""Features that PyRadiomics does not have by default."""


def require_package() -> None:
    """Refuse features whose package is not installed.

    Raises:
        UsageError: says how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            import numpyradiomics  # noqa: F401
    except ImportError as error:
        raise UsageError("features radiomics need numpyradiomics: pip install 'mrigen[radiomics]'") from error


def radiomic_features(pictures: Tensor) -> tuple[Tensor, list[str]]:
    """Features (n, 56) of pictures (n, 3, H, W), float64, and their names.

    Those of PyRadiomics' first-order, GLCM and GLDM classes, of whole slices: 18 of the intensities, 24 of
    pairs of neighbours (the mean over four directions) and 14 of how many neighbours are alike, the last two
    on grey levels of 25. Runs are not among them, which ``numpyradiomics`` has for volumes only. Skewness and
    kurtosis of a constant picture are 0.

    Args:
        pictures: uint8; of colours the mean is taken.
    """
    import numpyradiomics

    rows, names = [], []
    for picture in pictures.double().mean(1).cpu().numpy():
        mask = np.ones(picture.shape, np.int64)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            parts = {
                "firstorder": numpyradiomics.firstorder(picture, mask, binWidth=BIN, extend=False),
                "glcm": numpyradiomics.glcm(picture, mask, binWidth=BIN),
                "gldm": numpyradiomics.gldm(picture, mask, binWidth=BIN),
            }
        row = {f"{part}_{name}": value for part, values in parts.items() for name, value in values.items()}
        names = sorted(row.keys() - {*LEFT_OUT})
        rows.append([row[name] for name in names])
    return torch.tensor(rows, dtype=torch.float64).nan_to_num(nan=0.0), names
