"""The search for copies: moved, masked and undersampled ones are found, with the right numbers."""

import numpy as np
import pytest
import torch

from mrigen.data.images import ImageSet
from mrigen.metrics.memorisation import (
    CleanTraining,
    FeatureSearch,
    FeatureSimilarity,
    MeasurementSearch,
    top_pairs,
)
from mrigen.metrics.rendering import Rendering
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MultiCoilMRI


class Held:
    """Measurements in memory."""

    def __init__(self, images, operator, indexed):
        self.images, self.operator, self.indexed = images, operator, indexed

    def __len__(self):
        return len(self.images)

    def measurements(self, indices):
        operator = self.indexed(self.operator, indices)
        return Measurements(operator.forward(self.images[indices]), operator, torch.zeros(len(indices)))


def masked(images, generator, seen=0.5):
    mask = torch.rand(len(images), 1, *images.shape[-2:], generator=generator) < seen
    return Held(images, mask, lambda m, i: PixelMask(m[i], images.shape[1]))


def moved(image, *, mirror, down, right):
    return (image.flip(-1) if mirror else image).roll((down, right), (-2, -1))


@pytest.fixture
def images(generator):
    return torch.nn.functional.interpolate(
        torch.randn(30, 3, 8, 8, generator=generator), size=(24, 20), mode="bicubic"
    )


@pytest.mark.parametrize(("mirror", "down", "right"), [(False, 0, 0), (False, 3, -5), (True, -7, 2)])
def test_moved_copies_are_found_through_masks(images, generator, mirror, down, right):
    """The move that brings a copy back is reported; brightness and contrast of the copy do not count."""
    training = masked(images, generator)
    copy = 0.3 * moved(images[17:18], mirror=mirror, down=down, right=right) + 0.4
    best = MeasurementSearch(training)(copy)[0][0]
    assert best.index == 17
    assert best.correlation == pytest.approx(1, abs=1e-5)
    assert best.mirrored == mirror
    back = moved(copy[0], mirror=best.mirrored, down=best.shift[0], right=best.shift[1])
    torch.testing.assert_close(back, 0.3 * images[17] + 0.4)
    mask = training.operator[17]
    torch.testing.assert_close(best.masked, back * mask)
    torch.testing.assert_close(best.measured, images[17] * mask)


def test_correlation_is_the_coefficient_on_measured_pixels(images, generator):
    """A noisy copy in place: NumPy's correlation coefficient of what the mask shows."""
    training = masked(images, generator)
    noisy = images[4:5] + 0.5 * torch.randn(1, 3, 24, 20, generator=generator)
    best = MeasurementSearch(training)(noisy)[0][0]
    seen = training.operator[4].expand(3, -1, -1)
    expected = np.corrcoef(noisy[0][seen].numpy(), images[4][seen].numpy())[0, 1]
    assert best.index == 4
    assert best.shift == (0, 0)
    assert best.correlation == pytest.approx(expected, abs=1e-5)


def test_strangers_are_less_alike(images, generator):
    """The same law, another sample: no correlation near one, and the best first."""
    found = MeasurementSearch(masked(images[:20], generator))(images[20:])
    for matches in found:
        correlations = [match.correlation for match in matches]
        assert correlations == sorted(correlations, reverse=True)
        assert correlations[0] < 0.9


def test_an_inverted_copy_is_no_copy(images, generator):
    best = MeasurementSearch(masked(images[:1], generator))(-images[:1])[0][0]
    assert best.correlation < 0.9


def test_undersampled_scans_are_searched(generator):
    """Multi-coil k-space lines of 30 complex slices; a copy differs by phase, scale and shift."""
    smooth = torch.nn.functional.interpolate(
        torch.randn(60, 1, 10, 10, generator=generator), size=(80, 72), mode="bicubic"
    )
    images = torch.complex(smooth[:30], smooth[30:])
    maps = torch.randn(30, 4, 1, 1, dtype=torch.complex64, generator=generator).expand(-1, -1, 80, 72)
    mask = torch.rand(30, 1, 1, 72, generator=generator) < 0.3
    mask[..., 30:42] = True
    training = Held(images, (maps, mask), lambda o, i: MultiCoilMRI(o[0][i], o[1][i]))
    copy = 2j * images[11:12].roll((6, -4), (-2, -1))
    best = MeasurementSearch(training)(copy)[0][0]
    assert (best.index, best.mirrored, best.shift) == (11, False, (-6, 4))
    assert best.correlation == pytest.approx(1, abs=1e-4)
    stranger = MeasurementSearch(Held(images[:20], (maps, mask), training.indexed))(images[25:26])[0][0]
    assert stranger.correlation < 0.8


def test_clean_images_are_searched_alike(images, r64):
    """Cosines of features decide among candidates: one for a copy, which is listed for its own image."""
    pool = ImageSet("images", 30, (3, 24, 20), complex_valued=False, take=lambda a, b: images[a:b])
    similarity = FeatureSimilarity(r64, Rendering())
    shown = images[[9, 2]].clamp(-1, 1)
    pairs = list(top_pairs([shown[:1], shown[1:]], MeasurementSearch(CleanTraining(pool)), similarity))
    assert [(pair.image, pair.match.index) for pair in pairs] == [(0, 9), (1, 2)]
    for pair in pairs:
        assert pair.similarity == pytest.approx(1, abs=1e-3)


def test_features_are_compared_with_all_clean_images(images, r64):
    """The largest of all cosines, which candidates of the correlation need not hold; copies turn up."""
    images = images.clamp(-1, 1)
    pool = ImageSet("images", 24, (3, 24, 20), complex_valued=False, take=lambda a, b: images[a:b])
    search = FeatureSearch(pool, r64, Rendering(), batch=10)
    shown = torch.cat([images[24:], images[9:10], images[4:5].flip(-1)])

    def unit(pictures):
        found = r64([Rendering()(pictures)])[r64.layer("fid")]
        return found / found.norm(dim=1, keepdim=True)

    cosines = torch.stack([unit(shown) @ unit(images[:24]).T, unit(shown.flip(-1)) @ unit(images[:24]).T])
    pairs = list(top_pairs([shown], search, FeatureSimilarity(r64, Rendering())))
    assert [pair.match.index for pair in pairs] == cosines.amax(0).argmax(1).tolist()
    assert [pair.similarity for pair in pairs] == pytest.approx(cosines.amax((0, 2)).tolist(), abs=1e-4)
    assert [(pair.match.index, pair.match.mirrored) for pair in pairs[-2:]] == [(9, False), (4, True)]
    for pair in pairs[-2:]:
        assert pair.match.correlation == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(pair.match.masked, pair.match.measured)
    assert max(pair.match.correlation for pair in pairs[:-2]) < 0.9
