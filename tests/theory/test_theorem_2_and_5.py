"""DCD theorems 2 and 5: the true eigenspace with a variance that noise raises."""

import pytest
import torch
from ideal import LEVELS, ideal_loss, minimise, normal, orthonormal, wasserstein

D, R = 6, 2
E = orthonormal(D, R, seed=0)
DATA = E @ E.mT


def minimiser(sigma, seed):
    """Uᵀ U = I and V free, from a random start: the generated covariance U VᵀV Uᵀ, VᵀV, the loss."""
    start, V = normal(D, R, seed=seed), normal(D, R, seed=seed + 100)

    def generated():
        U = torch.linalg.qr(start)[0]
        return U @ V.mT @ V @ U.mT

    loss = minimise(lambda: ideal_loss(generated(), DATA, sigma), [start, V])
    return generated().detach(), (V.mT @ V).detach(), loss


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_theorem_2(sigma, seed):
    """U* = E Q, (V*)ᵀ V* = (1 + σ²) I; W₂² falls by exactly (d − r) σ²."""
    found, gram, loss = minimiser(sigma, seed)
    torch.testing.assert_close(gram, (1 + sigma**2) * torch.eye(R, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(found, (1 + sigma**2) * DATA, atol=1e-4, rtol=0)
    assert loss == pytest.approx(float(ideal_loss((1 + sigma**2) * DATA, DATA, sigma)), rel=1e-8)
    noisy = DATA + sigma**2 * torch.eye(D, dtype=torch.float64)
    gained = wasserstein(noisy, DATA) - wasserstein(found, DATA)
    assert gained == pytest.approx((D - R) * sigma**2, abs=1e-3)


def test_theorem_2_is_not_about_the_data_itself():
    """E Eᵀ is no minimiser of the stated loss with noise, and is one without."""
    assert float(ideal_loss(DATA, DATA, 0.5)) > float(ideal_loss(1.25 * DATA, DATA, 0.5)) + 1e-3
    assert float(ideal_loss(DATA, DATA, 0.0)) == pytest.approx(0, abs=1e-9)


def scale(sigmas):
    """λ* of theorem 5: E[(σ² + σ_t² + 1)⁻²] = E[(λ* + σ_t²)⁻²], by bisection."""
    wanted = (1 / (sigmas[:, None] ** 2 + LEVELS**2 + 1) ** 2).mean()
    assert wanted < (LEVELS**-4).mean()
    low, high = 1e-6, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (middle + LEVELS**2) ** 2).mean() > wanted else (low, middle)
    return low


@pytest.mark.parametrize("seed", [1, 2])
def test_theorem_5(seed):
    """The average of the losses at several σ has its minimum at λ* E Eᵀ, between the smallest and largest."""
    sigmas = torch.tensor([0.1, 0.4, 1.2], dtype=torch.float64)
    star = scale(sigmas)
    assert 1 + 0.1**2 < star < 1 + 1.2**2
    found, gram, _ = minimiser(sigmas, seed)
    torch.testing.assert_close(gram, star * torch.eye(R, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(found, star * DATA, atol=1e-4, rtol=0)
    mean_of_variances = 1 + float((sigmas**2).mean())
    assert abs(star - mean_of_variances) > 0.05


def test_theorem_5_of_one_level_is_theorem_2():
    assert scale(torch.tensor([0.7], dtype=torch.float64)) == pytest.approx(1 + 0.7**2)


@pytest.mark.parametrize(("size", "rank"), [(10, 1), (30, 2), (4, 3), (3, 3)])
@pytest.mark.parametrize("levels", [[0.3, 0.8], [0.2, 0.25, 2.5], [0.5, 0.5]])
def test_closer_than_every_noisy_teacher(size, rank, levels):
    """DCD C.3.3: nearer to the data than the data with any σ_k, if and only if λ* is below its bound."""
    basis = orthonormal(size, rank, seed=4)
    data, eye = basis @ basis.mT, torch.eye(size, dtype=torch.float64)
    sigmas = torch.tensor(levels, dtype=torch.float64)
    star = scale(sigmas)
    raised = (torch.sqrt(1 + sigmas**2) - 1) ** 2 + (size - rank) / rank * sigmas**2
    bound = float(((1 + raised.sqrt()) ** 2).min())
    distilled = wasserstein(star * data, data)
    noisy = min(wasserstein(data + float(s) ** 2 * eye, data) for s in sigmas)
    assert distilled == pytest.approx(rank * (star**0.5 - 1) ** 2, rel=1e-4)
    if abs(star - bound) > 1e-6:
        assert (distilled < noisy) is (star < bound)
    if max(levels) < (size / rank) ** 0.5 * min(levels) / 1.1:
        assert star < bound


def test_not_closer_where_one_teacher_hardly_has_noise():
    """λ* of σ = 0.05 and 2.5 in four of five dimensions is above the bound that 0.05 sets."""
    sigmas = torch.tensor([0.05, 2.5], dtype=torch.float64)
    basis = orthonormal(5, 4, seed=5)
    data, eye = basis @ basis.mT, torch.eye(5, dtype=torch.float64)
    assert wasserstein(scale(sigmas) * data, data) > wasserstein(data + 0.05**2 * eye, data)
