"""The ambient objective: golden loss values, and what it is formed from."""

import numpy as np
import pytest
import torch

from mrigen.denoiser import to_complex
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.diffusion.objectives.base import squared_error
from mrigen.diffusion.schedules import LogNormal
from mrigen.errors import UsageError
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption
from mrigen.tensors import randn_like


class Bank:
    """Two slices of random, normalised coil maps."""

    def __init__(self, height=16, width=16, coils=3):
        generator = torch.Generator().manual_seed(1)
        maps = torch.randn(2, coils, height, width, dtype=torch.complex64, generator=generator)
        self.maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
        law = MASKS.build({"name": "exact-random", "acceleration": 2, "acs_lines": 4})
        self.acquired = torch.ones(2, width, dtype=torch.bool)
        self.masks = law.draw(self.acquired, generator)[:, None, None]
        self.mask_distribution = law

    def __len__(self):
        return len(self.maps)

    def maps_and_masks(self, indices):
        return self.maps[indices], self.masks[indices], self.acquired[indices]


class Fixed:
    """A noise law with one level."""

    def __init__(self, sigma):
        self.sigma = sigma

    def draw(self, batch, generator):
        del generator
        return torch.full((batch,), self.sigma)


def corruption(**law):
    bank = Bank()
    return MRICorruption(bank, MASKS.build(law) if law else bank.mask_distribution)


def network_of_the_golden_case(x, sigma, A_tilde=None, labels=None, augment=None):
    """D = 0.7 c01 + 0.1 sigma c2 - 0.05 c3 sin(3 c0) on channels real, imaginary, mask, ones."""
    del labels
    real = torch.cat([x.real, x.imag], 1)
    ones = torch.ones_like(real[:, :1])
    level = sigma.view(-1, 1, 1, 1)
    return to_complex(
        0.7 * real + 0.1 * level * A_tilde.conditioning() - 0.05 * ones * torch.sin(3 * real[:, :1])
    )


def test_golden_losses(data, monkeypatch):
    """The three loss values of the released code, on the measurements of the same slice."""
    case = np.load(data / "golden" / "ambient_loss.npz")
    get = {k: torch.from_numpy(np.array(case[k])) for k in case.files}
    A = MultiCoilMRI(get["maps"][None], get["mask"].bool()[None, None, None])
    further = A.with_mask(get["further_mask"].bool()[None, None, None])
    x, sigma = get["image"][None, None], get["sigma"].reshape(1)
    noise = to_complex(get["noise"])
    monkeypatch.setattr("mrigen.diffusion.objectives.ambient.randn_like", lambda like, generator: noise)
    monkeypatch.setattr(LogNormal, "draw", lambda self, batch, generator: sigma)
    objective = OBJECTIVES.build({"name": "ambient", "pseudo_inverse": None}, corruption=corruption())
    batch = Measurements(A.forward(x), A, torch.zeros(1), further=further)
    loss = objective(network_of_the_golden_case, batch, torch.Generator())
    assert float(loss) == pytest.approx(float(case["loss_A_mean"]), rel=1e-4)
    estimate = objective.predict(network_of_the_golden_case, x + sigma * noise, sigma, further)
    weight = float(objective.weight(sigma))
    for operator, name in ((further.normal, "loss_further_mean"), (lambda v: v, "loss_clean_mean")):
        value = weight * float(squared_error(operator(estimate - x)))
        assert value == pytest.approx(float(case[name]), rel=1e-4)


def test_input_from_measurements_equals_the_one_from_the_clean_image(generator):
    """Ã^H y + Ñ(σε) = Ñ(x + σε) where y = A x: no clean image is needed."""
    law = corruption()
    A = law.draw(4, generator)
    further = law.corrupt_further(A, generator)
    x = randn_like(A.zero_image(), generator)
    noise = 3 * randn_like(x, generator)
    y = A.forward(x)
    from_measurements = further.adjoint(y) + further.normal(noise)
    from_clean = further.normal(x + noise)
    assert (from_measurements - from_clean).abs().max() < 1e-5 * from_clean.abs().max()
    target, clean = A.adjoint(y), A.normal(x)
    assert (target - clean).abs().max() < 1e-5 * clean.abs().max()


def test_twice_the_normal_operator_is_another_input(generator):
    """With several coils A^H A is no projection: Ñ(A^H y) is not what the network must see."""
    law = corruption()
    A = law.draw(4, generator)
    further = law.corrupt_further(A, generator)
    x = randn_like(A.zero_image(), generator)
    wrong, right = further.normal(A.normal(x)), further.normal(x)
    assert (wrong - right).abs().max() > 0.1 * right.abs().max()


def test_loss_does_not_look_at_what_was_not_measured(generator):
    """Changing k-space outside the mask changes nothing."""
    law = corruption()
    A = law.draw(4, generator)
    y = A.forward(randn_like(A.zero_image(), generator))
    objective = OBJECTIVES.build({"name": "ambient"}, corruption=law)

    def denoiser(x, sigma, A_tilde=None, labels=None, augment=None):
        del sigma, labels
        return 0.5 * x + 0.1 * A_tilde.conditioning()

    spoilt = y + 100 * (~A.mask)
    losses = [
        objective(denoiser, Measurements(k, A, torch.zeros(4)), torch.Generator().manual_seed(3))
        for k in (y, spoilt)
    ]
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", ["equispaced", "magic"])
def test_masks_that_reveal_the_rest_are_refused(name):
    with pytest.raises(UsageError, match=r"reveal.* use exact-random"):
        OBJECTIVES.build({"name": "ambient"}, corruption=corruption(name=name, acceleration=4, acs_lines=2))
