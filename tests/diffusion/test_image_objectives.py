"""Standard and Tweedie objectives: their minimisers on Gaussian data are the conditional expectations."""

import pytest
import torch
from gaussians import covariance, denoising, exact, fixed_mask, gain, lbfgs, objective, sample

from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.schedules import LogNormal
from mrigen.errors import UsageError
from mrigen.operators import MultiCoilMRI
from mrigen.operators.corruption import make_corruption
from mrigen.operators.identity import Identity
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.masks import MASKS
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MRICorruption
from mrigen.operators.noise import Noise

SHAPE = (1, 2, 2)
COV = covariance(4)
LEVEL = 0.8
SHARE = 0.2
"""Of the pixels that are measured."""


class Linear:
    """x ↦ W x."""

    def __init__(self):
        self.W = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)

    def __call__(self, x, sigma, A_tilde=None, labels=None, augment=None):
        assert A_tilde is None
        return (x.flatten(1) @ self.W.mT).view_as(x)


def trained(form, corruption, samples=100_000):
    """W that minimises the objective's loss on one large batch."""
    generator = torch.Generator().manual_seed(0)
    batch = corruption.measure(sample(COV, samples, SHAPE, generator), generator)
    model = Linear()
    lbfgs(lambda: form(model, batch, torch.Generator().manual_seed(1)).mean(), [model.W], max_iter=30)
    return model.W.detach()


def test_standard_learns_the_law_of_the_measurements():
    """f = (C + σ² I)(C + σ² I + σ_t² I)⁻¹: with noisy data, the noisy law."""
    corruption = denoising(SHAPE, 0.4)
    noisy = COV + 0.16 * torch.eye(4, dtype=torch.float64)
    W = trained(objective("standard", corruption, LEVEL), corruption)
    expected = gain(noisy, torch.tensor([LEVEL]))[0]
    assert (W - expected).abs().max() < 0.01
    assert (W - gain(COV, torch.tensor([LEVEL]))[0]).abs().max() > 0.05


def test_tweedie_learns_the_law_without_noise():
    """f = C (C + σ_t² I)⁻¹, from noisy data alone."""
    corruption = denoising(SHAPE, 0.4)
    W = trained(objective("tweedie", corruption, LEVEL), corruption)
    assert (W - gain(COV, torch.tensor([LEVEL]))[0]).abs().max() < 0.015


def test_tweedie_of_masked_images_learns_images_with_holes():
    """With one mask M: f = M C M (M C M + σ_t² I)⁻¹, though every pixel of the input is noisy."""
    corruption = fixed_mask([1, 1, 0, 1], SHAPE, 0.4)
    W = trained(objective("tweedie", corruption, LEVEL), corruption)
    hole = torch.diag(torch.tensor([1.0, 1, 0, 1], dtype=torch.float64))
    assert (W - gain(hole @ COV @ hole, torch.tensor([LEVEL]))[0]).abs().max() < 0.015


def orthogonality(form, corruption, denoiser, samples=100_000):
    """z-scores of the loss's gradient in directions of its input at ``denoiser``."""
    generator = torch.Generator().manual_seed(0)
    batch = corruption.measure(sample(COV, samples, SHAPE, generator), generator)
    directions = [lambda x: x, torch.tanh, lambda x: x.flip(-1), torch.ones_like]
    scores = []
    for direction in directions:
        step = torch.zeros(samples, 1, 1, 1, dtype=torch.float64, requires_grad=True)

        def moved(x, sigma, *told, way=direction, step=step):
            return denoiser(x, sigma) + step * way(x)

        form(moved, batch, torch.Generator().manual_seed(1)).sum().backward()
        scores.append(float(step.grad.mean() / step.grad.std() * samples**0.5))
    return torch.tensor(scores)


def test_tweedie_of_samples_with_their_own_noise_level():
    """σ ~ U[0.2, 0.6] and all training levels: the loss is stationary at E[x | x_t]."""
    corruption = denoising(SHAPE, Noise(low=0.2, high=0.6))
    form = objective("tweedie", corruption)
    assert orthogonality(form, corruption, exact(COV)).abs().max() < 4
    assert orthogonality(form, corruption, exact(1.1 * COV)).abs().max() > 8


def test_tweedie_of_randomly_masked_images():
    """Random masks: stationary at the conditional mean of the mixture over masks of M x."""
    corruption = make_corruption({"name": "inpainting", "missing": 0.3}, SHAPE, Noise(low=0.4))
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    weights = (0.7**masks * 0.3 ** (1 - masks)).prod(1).log()
    laws = masks[:, :, None] * COV * masks[:, None]

    def mixture(x, sigma):
        flat, eye = x.flatten(1), torch.eye(4, dtype=torch.float64)
        logs, means = [], []
        for weight, law in zip(weights, laws, strict=True):
            noisy = law + LEVEL**2 * eye
            solved = flat @ torch.linalg.inv(noisy)
            logs.append(weight - 0.5 * ((flat * solved).sum(1) + torch.logdet(noisy)))
            means.append(solved @ law)
        posterior = torch.stack(logs).softmax(0)
        return (posterior[..., None] * torch.stack(means)).sum(0).view_as(x)

    form = objective("tweedie", corruption, LEVEL)
    assert orthogonality(form, corruption, mixture).abs().max() < 4
    assert orthogonality(form, corruption, exact(COV)).abs().max() > 8


def test_levels_are_clipped_at_the_noise_of_the_data(generator):
    """Where σ_t < σ is drawn the denoiser is asked at σ, and the loss does not depend on its answer."""
    corruption = denoising(SHAPE, 0.5)
    form = objective("tweedie", corruption, 0.1)
    levels = []

    def record(x, sigma, *told):
        levels.append(sigma)
        return 100 * x

    loss = form(record, corruption.measure(sample(COV, 8, SHAPE, generator), generator), generator)
    assert bool((levels[0] == 0.5).all())
    assert float(loss.abs().max()) < 1e-6
    assert form.floor == 0.5


def test_weight_is_that_of_edm(generator):
    """E[loss] of f = 0 on noiseless data: λ(σ_t) E|y|²."""
    corruption = denoising(SHAPE)
    form = objective("standard", corruption, 2.0, sigma_data=0.5)
    x = sample(COV, 50_000, SHAPE, generator)
    loss = form(lambda x, *told: 0 * x, corruption.measure(x, generator), generator)
    weight = (2.0**2 + 0.5**2) / (2.0 * 0.5) ** 2
    assert float(loss.mean()) == pytest.approx(weight * float(x.square().mean()), rel=1e-6)


def test_noise_levels_are_log_normal(generator):
    levels = LogNormal().draw(100_000, generator).log()
    assert float(levels.mean()) == pytest.approx(-1.2, abs=0.02)
    assert float(levels.std()) == pytest.approx(1.2, abs=0.02)


def coils(noise):
    class Bank:
        def __len__(self):
            return 1

        def maps_and_masks(self, indices):
            maps = MultiCoilMRI.example().maps[:1].expand(len(indices), -1, -1, -1)
            whole = torch.ones(len(indices), 9, dtype=torch.bool)
            return maps, whole[:, None, None], whole

    law = MASKS.build({"name": "exact-random", "acceleration": 2, "acs_lines": 2})
    return MRICorruption(Bank(), law, noise=Noise(low=noise))


@pytest.mark.parametrize(
    ("name", "corruption", "reason"),
    [
        ("tweedie", denoising(SHAPE), "no noise.*use standard"),
        ("ambient-tweedie", denoising(SHAPE), "no noise.*use ambient"),
        ("ambient", denoising(SHAPE, 0.2), "learn the noise.*use ambient-tweedie"),
        ("tweedie", coils(0.1), "correlated.*use ambient-tweedie"),
        (
            "ambient-tweedie",
            make_corruption({"name": "compressed-sensing", "measurements": 5}, (1, 2, 4), Noise(low=0.1)),
            "Rows is no projection.*use ambient",
        ),
        ("ambient-tweedie", coils(0.0), "noise level of these scans is unknown.*--noise-whitening"),
        ("ambient", make_corruption({"name": "gaussian-blur", "size": 3}, (1, 4, 4)), "never measured"),
    ],
)
def test_combinations_without_sense_are_refused_with_the_reason(name, corruption, reason):
    with pytest.raises(UsageError, match=reason) as refusal:
        objective(name, corruption)
    assert "\n" not in str(refusal.value)


def reconstructions(truth, model, seed=0, samples=100_000):
    """Images of N(0, truth) where a random mask shows them and of N(0, model) elsewhere, and the masks."""
    generator = torch.Generator().manual_seed(seed)
    x, other = (sample(law, samples, SHAPE, generator) for law in (truth, model))
    masks = torch.rand(samples, *SHAPE, generator=generator) < SHARE
    y = torch.where(masks, x, other)
    return Measurements(y, Identity(torch.zeros_like(y)), reconstructed_from=PixelMask(masks, 1))


@pytest.mark.parametrize("weight", [1.0, 0.1, 0.0])
def test_reconstructed_moves_variances_to_those_of_what_was_measured(weight):
    """Independent pixels: f = e / (e + σ²), e = (m v + w (1 − m) u) / (m + w (1 − m)); w = 1 is EM's step."""
    truth, model = (torch.tensor(v, dtype=torch.float64).diag() for v in ([1.0, 2, 3, 4], [0.2, 0.4, 6, 8]))
    form = objective("reconstructed", denoising(SHAPE), LEVEL, unmeasured_weight=weight)
    batch, linear = reconstructions(truth, model), Linear()
    lbfgs(lambda: form(linear, batch, torch.Generator().manual_seed(1)).mean(), [linear.W], max_iter=30)
    seen = 1 / (1 + form.params.pseudo_inverse.tau)
    m, w = SHARE * (seen + weight**0.5 * (1 - seen)) ** 2, weight * (1 - SHARE)
    law = (m * truth + w * model) / (m + w)
    assert (linear.W - gain(law, torch.tensor([LEVEL]))[0]).abs().max() < 0.02
    if weight == 1:
        assert (m, w) == pytest.approx((SHARE, 1 - SHARE))


def test_reconstructed_keeps_the_true_law():
    """Where x̂ has the true law whatever the mask, the minimiser is E[x | x_t], correlations included."""
    form = objective("reconstructed", denoising(SHAPE), LEVEL, unmeasured_weight=0.1)
    generator = torch.Generator().manual_seed(0)
    y = sample(COV, 100_000, SHAPE, generator)
    masks = torch.rand(y.shape, generator=generator) < SHARE
    batch = Measurements(y, Identity(torch.zeros_like(y)), reconstructed_from=PixelMask(masks, 1))
    linear = Linear()
    lbfgs(lambda: form(linear, batch, torch.Generator().manual_seed(1)).mean(), [linear.W], max_iter=30)
    assert (linear.W - gain(COV, torch.tensor([LEVEL]))[0]).abs().max() < 0.03


def test_reconstructed_learns_from_measured_images_as_standard(generator):
    corruption = denoising(SHAPE, 0.4)
    batch = corruption.measure(sample(COV, 8, SHAPE, generator), generator)
    losses = [
        objective(name, corruption, LEVEL)(exact(COV), batch, torch.Generator().manual_seed(1))
        for name in ("standard", "reconstructed")
    ]
    assert torch.equal(*losses)


def test_reconstructed_refuses_transforms_that_move_what_was_measured():
    batch = reconstructions(COV, COV, samples=2)
    by = Augmentation(0.5)
    with pytest.raises(UsageError, match=r"leave out teacher\.augment"):
        objective("reconstructed", denoising(SHAPE)).augment(batch, by, torch.Generator())
