"""Ambient Tweedie of several coils: Gaussian images, dense matrices, noise that is white in k-space."""

import pytest
import torch
from gaussians import lbfgs, objective

from mrigen.diffusion.samplers import SAMPLERS
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption, MultiCoilMRI, SeededMRI
from mrigen.operators.noise import NoiseLevels
from mrigen.tensors import concatenate, randn_like

N = 4
DATA, LEVEL = 0.4, 0.7
EYE = torch.eye(N, dtype=torch.complex128)


def hermitian(seed):
    """A random covariance (N, N) per real component, of trace N."""
    root = torch.randn(N, N, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))
    matrix = root @ root.mH
    return matrix * N / matrix.diagonal().real.sum()


COV = hermitian(0)


def maps():
    """Three coils, Σ|S|² = 1."""
    drawn = torch.randn(1, 3, 1, N, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    return drawn / drawn.abs().square().sum(1, keepdim=True).sqrt()


class Bank:
    def __len__(self):
        return 1

    def maps_and_masks(self, indices):
        whole = torch.ones(len(indices), N, dtype=torch.bool)
        return maps().expand(len(indices), -1, -1, -1), whole[:, None, None], whole


def scans(levels=(DATA,)):
    """Two of four lines, of which the further corruption drops one."""
    law = MASKS.build({"name": "exact-random", "acceleration": 2, "acs_lines": 0, "further_drop": 1})
    return MRICorruption(Bank(), law, scanner=NoiseLevels.of(torch.tensor(levels)))


def normal(operator):
    """N of the first sample, (N, N)."""
    one = operator.select(0)
    many = MultiCoilMRI(one.maps, one.mask)
    return many.normal(EYE.view(N, 1, 1, N)).view(N, N).mT


def images(count, rng):
    root = torch.linalg.cholesky(COV)
    return (randn_like(torch.zeros(count, N, dtype=torch.complex128), rng) @ root.mT).view(count, 1, 1, N)


def posterior(seen, sigma):
    """W of E[x | x̃] = W x̃ for x̃ = Ñ x + noise of covariance σ² Ñ, (C⁻¹ + Ñ / σ²)⁻¹ / σ²."""
    return torch.linalg.inv(torch.linalg.inv(COV) + seen / sigma**2) / sigma**2


def through_the_image(seen, sigma):
    """The same for noise of covariance σ² Ñ²: C Ñ (Ñ (C + σ² I) Ñ)⁺."""
    return COV @ seen @ torch.linalg.pinv(seen @ (COV + sigma**2 * EYE) @ seen, hermitian=True, rtol=1e-9)


class LinearPerMask:
    """x ↦ W(Ã) x, a matrix for each line that Ã may show."""

    def __init__(self):
        self.parts = torch.zeros(N, N, N, 2, dtype=torch.float64, requires_grad=True)

    @property
    def matrices(self):
        return torch.view_as_complex(self.parts)

    def __call__(self, x, sigma, A_tilde, labels=None, augment=None):
        which = A_tilde.mask[:, 0, 0].float().argmax(-1)
        return torch.einsum("bij,bj->bi", self.matrices[which], x.flatten(1)).view_as(x)


def trained(form, corruption, samples=10_000):
    rng = torch.Generator().manual_seed(0)
    noisy = corruption.noisy()
    batch = noisy.measure(images(samples, rng), rng).mask_further(
        lambda A: form.corrupt_further(A, noisy, rng)
    )
    batch = batch.to(dtype=torch.float64)
    model = LinearPerMask()
    lbfgs(lambda: form(model, batch, torch.Generator().manual_seed(1)).mean(), [model.parts], max_iter=30)
    return model.matrices.detach()


def apart(W, expected, seen):
    """RMS of (W − W*) x̃ relative to that of W* x̃."""
    law = seen @ COV @ seen + LEVEL**2 * seen

    def power(matrix):
        return (matrix @ law @ matrix.mH).diagonal().real.sum()

    return float((power(W - expected) / power(expected)).sqrt())


def line(index):
    mask = torch.zeros(1, 1, 1, N, dtype=torch.bool)
    mask[..., index] = True
    return MultiCoilMRI(maps(), mask)


def test_the_minimiser_is_the_posterior_mean_of_every_pixel():
    """Not that of noise which is white in the image, and not what training as if clean learns."""
    corruption = scans()
    W = trained(objective("ambient-tweedie", corruption, LEVEL), corruption)
    clean = trained(objective("ambient", corruption, LEVEL), corruption, samples=3000)
    for index in range(N):
        seen = normal(line(index))
        expected = posterior(seen, LEVEL)
        assert apart(W[index], expected, seen) < 0.1
        assert apart(clean[index], expected, seen) > 0.3
        assert apart(through_the_image(seen, LEVEL), expected, seen) > 0.3


def test_slices_of_different_noise_share_one_denoiser():
    corruption = scans((0.1, 0.3, 0.6))
    W = trained(objective("ambient-tweedie", corruption, LEVEL), corruption)
    for index in range(N):
        seen = normal(line(index))
        assert apart(W[index], posterior(seen, LEVEL), seen) < 0.1


def test_completed_noise_has_the_covariance_of_measurement_noise():
    """Ñ ε + w: Ñ; w alone: Ñ − Ñ², uncorrelated with ε, the same at every call."""
    count = 20_000
    mask = torch.zeros(1, 1, 1, N, dtype=torch.bool)
    mask[..., :2] = True
    operator = SeededMRI(maps(), mask.expand(count, -1, -1, -1), tuple(range(count)))
    w = operator.completion()
    assert torch.equal(w, operator.completion())
    torch.testing.assert_close(operator.select(7).completion(), w[7:8])
    pair = concatenate([operator.select(3), operator.select(5)])
    torch.testing.assert_close(pair.completion(), w[[3, 5]])
    seen = normal(operator)
    flat = w.flatten(1)
    found = torch.einsum("bi,bj->ij", flat, flat.conj()) / (2 * count)
    assert (found - (seen - seen @ seen)).abs().max() < 0.02
    assert (seen - seen @ seen).abs().max() > 0.1


class Exact:
    """The posterior mean as a teacher that looks through one Ã per image, with or without completion."""

    floor = 0.0

    def __init__(self, operator, completed):
        self.operator, self.seen = operator, normal(operator)
        self.form = objective("ambient-tweedie", scans())
        self.further = operator if completed else MultiCoilMRI(operator.maps, operator.mask)

    def predict(self, x, sigma):
        def denoiser(x, level, *told):
            return (x.flatten(1) @ posterior(self.seen, sigma).mT).view_as(x)

        return self.form.predict(denoiser, x, torch.full((len(x),), sigma), self.further)

    def level(self, sigma):
        return sigma


class Kept(SeededMRI):
    """The same noise, computed once."""

    def completion(self):
        if "w" not in vars(self):
            object.__setattr__(self, "w", super().completion())
        return self.w


def sampled(completed, count=6_000):
    """E[(Ñ x)(Ñ x)ᴴ] of samples of Heun's method: its relative error, and its trace over the right one."""
    mask = torch.zeros(1, 1, 1, N, dtype=torch.bool)
    mask[..., 1:3] = True
    operator = Kept(maps(), mask.expand(count, -1, -1, -1), tuple(range(count)))
    teacher = Exact(operator, completed)
    latent = randn_like(torch.zeros(count, 1, 1, N, dtype=torch.complex128), torch.Generator().manual_seed(2))
    x = SAMPLERS.build({"name": "heun", "steps": 40})(teacher, latent)
    seen = (x.flatten(1)) @ teacher.seen.mT
    found = seen.mT @ seen.conj() / (2 * count)
    right = teacher.seen @ COV @ teacher.seen
    return float((found - right).norm() / right.norm()), float(
        found.diagonal().sum().real / right.diagonal().sum().real
    )


def test_samplers_keep_the_law_of_what_is_seen():
    """Started from noise of the measurement's covariance; from white image noise the samples are too weak."""
    error, power = sampled(completed=True)
    assert error < 0.06
    assert power == pytest.approx(1, abs=0.03)
    error, power = sampled(completed=False)
    assert error > 0.1
    assert power < 0.9
