"""The real scan beside BART."""

import numpy as np


def test_l1_wavelet_agrees_with_bart(reconstruct, data):
    """Eight coils, Poisson-disc sampling of 12 % of k-space; BART's ``pics -l1 -r 0.005``."""
    scan = data / "brain8ch" / "kspace.npz"
    arrays, _ = reconstruct(scan, "l1-wavelet:iterations=30")
    with np.load(data / "golden" / "bart_l1_wavelet.npz") as golden:
        expected = golden["magnitude"].astype(np.float64)
    found = np.abs(arrays["image"][0, 0])
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] >= 0.995
