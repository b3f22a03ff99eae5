"""Held-out errors of denoisers that are known, and measurements drawn as the store has them."""

import pytest
import torch

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.metrics.held_out import held_out_errors
from mrigen.metrics.proximal import EmpiricalCorruption
from mrigen.operators.inpainting import InpaintingParams, RandomInpainting
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MRICorruption, MultiCoilMRI

SHAPE = (3, 9, 7)


@pytest.fixture
def batch(generator):
    corruption = RandomInpainting(InpaintingParams(missing=0.4, further_missing=0.3), SHAPE)
    images = torch.randn(6, *SHAPE, generator=generator)
    return images, corruption, corruption.measure(images, generator)


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 1.5])
def test_scaled_truth_has_a_known_error(batch, gain):
    """f = c x has the error (1 − c)² at every level, whatever it does to what is seen."""
    images, corruption, measured = batch

    def denoise(x, sigma, A_tilde, labels):
        del labels
        shown = A_tilde.conditioning().bool().expand_as(x)
        assert torch.equal(x[~shown], torch.zeros_like(x[~shown]))
        assert len(sigma) == 6
        return torch.where(shown, 100 * x, gain * images)

    for error in held_out_errors(denoise, [measured], corruption, 0).values():
        assert error == pytest.approx((1 - gain) ** 2, abs=1e-6)


def test_hidden_pixels_do_not_depend_on_the_denoiser(batch):
    """Two calls with one seed hide the same; another seed hides others."""
    images, corruption, measured = batch

    def hidden(seed):
        found = []

        def denoise(x, sigma, A_tilde, labels):
            del sigma, labels
            found.append((A_tilde.conditioning(), x))
            return images

        held_out_errors(denoise, [measured], corruption, seed, levels=(0.3,))
        return found[0]

    assert all(torch.equal(a, b) for a, b in zip(hidden(1), hidden(1), strict=True))
    assert not torch.equal(hidden(1)[0], hidden(2)[0])


class Scans:
    """A store of three undersampled slices with noise of its own each."""

    def __init__(self, generator):
        self.maps = torch.randn(3, 2, 12, 10, dtype=torch.complex64, generator=generator)
        self.masks = torch.rand(3, 1, 1, 10, generator=generator) < 0.5
        self.sigma = torch.tensor([0.1, 1.0, 10.0])

    def __len__(self):
        return 3

    def maps_and_masks(self, indices):
        return self.maps[indices], self.masks[indices], torch.ones(len(indices), 10, dtype=torch.bool)

    def measurements(self, indices):
        operator = MultiCoilMRI(self.maps[indices], self.masks[indices])
        y = torch.full((len(indices), 2, 12, 10), 99, dtype=torch.complex64)
        return Measurements(y, operator, torch.zeros(len(indices)))

    def noise_levels(self, indices):
        return self.sigma[indices]

    def corruption(self):
        return MRICorruption(
            self, type("Law", (), {"ambient_obstacle": "none", "baseline": ""})(), fresh=False
        )


def test_scans_are_corrupted_with_maps_mask_and_noise_of_one_slice(generator):
    """The measured noise of every draw is that of the slice whose maps and mask it got, on its lines only."""
    store = Scans(generator)
    corruption = EmpiricalCorruption(store)
    x = torch.randn(60, 1, 12, 10, dtype=torch.complex64, generator=generator)
    found = corruption.measure(x, seeds.seeded_rng(0, "test"))
    slices = [next(i for i in range(3) if torch.equal(maps, store.maps[i])) for maps in found.operator.maps]
    assert len(set(slices)) == 3
    assert torch.equal(found.operator.mask, store.masks[slices])
    noise = found.y - found.operator.forward(x)
    assert not noise[~store.masks[slices].expand_as(noise)].any()
    for number, sigma in enumerate(store.sigma.tolist()):
        rows = noise[[i for i, s in enumerate(slices) if s == number]]
        seen = torch.view_as_real(rows[store.masks[number].expand_as(rows)])
        assert float(seen.std()) == pytest.approx(sigma, rel=0.1)
    assert corruption.ambient_obstacle == "none"


def test_nothing_hidden_is_no_error(generator):
    corruption = RandomInpainting(InpaintingParams(missing=0.4, further_missing=0), SHAPE)
    measured = corruption.measure(torch.randn(2, *SHAPE, generator=generator), generator)
    with pytest.raises(UsageError, match="hid nothing of these data"):
        held_out_errors(lambda x, *told: x, [measured], corruption, 0)
