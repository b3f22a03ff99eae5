"""Radiomic features: known values, another implementation, and what the Fréchet distance makes of them."""

import math

import numpy as np
import pytest
import torch
from skimage.feature import graycomatrix, graycoprops

from mrigen.cli.main import run
from mrigen.data.images import write_images
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import extractor
from mrigen.metrics.radiomics import BIN, radiomic_features

pytest.importorskip("numpyradiomics")


def textures(count, seed=0, side=16, smooth=4):
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, side // smooth, side // smooth, generator=rng)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    return (0.25 * fine).clamp(-1, 1)


def named(pictures):
    values, names = radiomic_features(pictures)
    return dict(zip(names, values.T, strict=True))


def test_features_of_a_picture_that_is_worked_out_by_hand():
    """The left half is 0 and the right half 100: two of five grey levels, edges on one column of pairs."""
    picture = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    picture[..., 4:] = 100
    row = {name: value.item() for name, value in named(picture).items()}
    assert len(row) == 56
    assert row["firstorder_Mean"] == 50
    assert row["firstorder_Variance"] == 2500
    assert row["firstorder_Energy"] == 32 * 100**2
    assert row["firstorder_Entropy"] == pytest.approx(1)
    assert row["firstorder_Uniformity"] == 0.5
    assert row["firstorder_Kurtosis"] == pytest.approx(1)
    across = [8 / 56, 7 / 49, 0, 7 / 49]  # pairs over the edge, of all pairs, in the four directions
    assert row["glcm_Contrast"] == pytest.approx(4**2 * np.mean(across))
    assert row["glcm_Id"] == pytest.approx(np.mean([1 - a + a / 5 for a in across]))
    alike = [3 if corner else 5 for corner in (True,) + (False,) * 6 + (True,)]
    column = np.array(alike) + 1  # with the pixel itself: 4 in a corner of a half, 6 on its border
    inner = np.array([6] + [9] * 6 + [6])
    counts = np.concatenate([column, inner, inner, column])
    assert row["gldm_LargeDependenceEmphasis"] == pytest.approx(np.square(counts).mean())


def test_pairs_are_those_of_another_implementation():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (12, 9), np.uint8)
    row = named(torch.from_numpy(picture)[None, None].expand(1, 3, -1, -1))
    levels = picture // BIN - picture.min() // BIN
    angles = [0, math.pi / 4, math.pi / 2, 3 * math.pi / 4]
    matrix = graycomatrix(levels, [1], angles, int(levels.max()) + 1, symmetric=True, normed=True)
    for ours, theirs in (
        ("Contrast", "contrast"),
        ("Idm", "homogeneity"),
        ("JointEnergy", "ASM"),
        ("Correlation", "correlation"),
        ("DifferenceAverage", "dissimilarity"),
    ):
        expected = graycoprops(matrix, theirs).mean()
        assert row[f"glcm_{ours}"].item() == pytest.approx(expected, rel=1e-9), ours


def test_textures_do_not_see_position_mirrors_or_whole_grey_levels():
    pictures = (127 + 60 * textures(3)).round().to(torch.uint8).expand(-1, 3, -1, -1)
    before = named(pictures)
    for other in (pictures.flip(-1), pictures.transpose(-1, -2)):
        for name, value in named(other).items():
            torch.testing.assert_close(value, before[name], rtol=1e-9, atol=1e-9, msg=name)
    brighter = named(pictures + BIN)
    shifted = {name for name in before if not torch.allclose(before[name], brighter[name], rtol=1e-6)}
    places = "Mean Median Minimum Maximum 10Percentile 90Percentile Energy TotalEnergy RootMeanSquared"
    assert shifted == {f"firstorder_{name}" for name in places.split()}


def test_a_constant_picture_has_finite_features():
    flat, _ = radiomic_features(torch.full((2, 3, 8, 8), 7, dtype=torch.uint8))
    assert bool(flat.isfinite().all())
    reference = Reference.of(textures(20), extractor("radiomics"))
    assert math.isfinite(reference.distance([torch.zeros(3, 1, 16, 16)]))


def test_references_have_mean_nought_and_deviation_one():
    reference = Reference.of(textures(40), extractor("radiomics"))
    features = reference.features["radiomics"]
    torch.testing.assert_close(features.mean(0), torch.zeros(56), rtol=0, atol=1e-5)
    varying = features.std(0) > 0
    assert int(varying.sum()) >= 50
    torch.testing.assert_close(features.std(0)[varying], torch.ones(int(varying.sum())), rtol=1e-5, atol=0)
    assert reference.distance([textures(40)]) == pytest.approx(0, abs=1e-3)


def test_the_distance_of_magnitudes_has_no_unit_and_rises_with_noise():
    scale = torch.exp(1j * torch.linspace(0, 1, 16))
    references, images = ((1 + textures(60, seed)) * scale for seed in (1, 2))
    distance = Reference.of(references, extractor("radiomics")).distance
    near = distance([images])
    assert Reference.of(1e-3 * references, extractor("radiomics")).distance([1e-3 * images]) == pytest.approx(
        near, rel=0.05
    )
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    far = [distance([images + level * noise]) for level in (0.1, 0.3)]
    assert near < far[0] < far[1]


def test_the_command_names_them(tmp_path, capsys):
    pools = []
    for seed in (0, 1):
        pools.append(tmp_path / f"{seed}.h5")
        write_images(pools[-1], list(range(30)), [textures(30, seed)])
    command = ["evaluate", str(pools[0]), "--reference", str(pools[1]), "--features", "radiomics"]
    assert run([*command, "--bootstrap", "0", "--json"]) == 0
    assert "fd" in capsys.readouterr().out
