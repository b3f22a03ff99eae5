"""Ambient Diffusion, lemma A.3: an oracle of E[x₀ | A x_t, A] tells no less than the corrupted data do.

Gaussian images N(0, S) and masks A of some pixels: the oracle is the matrix S Aᵀ (A (S + σ² I) Aᵀ)⁻¹. As in
the proof, its part in the pixels that A shows gives the law of A x₀, and these laws together give S where
they determine it. That the converse does not hold is shown as well.
"""

import itertools

import pytest
import torch
from gaussians import covariance, gain

SIZE, SIGMA = 5, 0.7
PAIRS = [torch.tensor([i in pair for i in range(SIZE)]) for pair in itertools.combinations(range(SIZE), 2)]
SINGLES = [torch.arange(SIZE) == i for i in range(SIZE)]


def oracle(cov, mask):
    """The map from what A shows of x_t to E[x₀ | A x_t, A], (SIZE, shown pixels)."""
    whole = gain(cov, torch.tensor([SIGMA], dtype=cov.dtype), mask[None])[0]
    return whole[:, mask]


def shown_covariance(estimate, mask):
    """The law of A x₀ from the oracle: K = C (C + σ² I)⁻¹ in the shown pixels, hence C = σ² (I − K)⁻¹ K."""
    inside = estimate[mask]
    return SIGMA**2 * torch.linalg.solve(torch.eye(len(inside), dtype=inside.dtype) - inside, inside)


def recovered(oracles):
    """S of all pixels that some mask shows together, NaN elsewhere."""
    found = torch.full((SIZE, SIZE), torch.nan, dtype=torch.float64)
    for mask, estimate in oracles:
        shown = mask.nonzero()[:, 0]
        found[shown[:, None], shown] = shown_covariance(estimate, mask)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_distribution_from_its_oracles(seed, rank):
    """Masks of two pixels determine S, and so do the oracles behind them, also of images of low rank."""
    cov = covariance(SIZE, seed, rank)
    torch.testing.assert_close(recovered([(mask, oracle(cov, mask)) for mask in PAIRS]), cov)


def test_other_distributions_have_other_oracles():
    """Equal oracles mean equal S, where corrupted data determine it."""
    first, second = covariance(SIZE, 0), covariance(SIZE, 1)
    assert max(float((oracle(first, m) - oracle(second, m)).abs().max()) for m in PAIRS) > 0.1
    nudged = first.clone()
    nudged[1, 3] = nudged[3, 1] = nudged[1, 3] + 1e-3
    assert max(float((oracle(first, m) - oracle(nudged, m)).abs().max()) for m in PAIRS) > 1e-4


def test_the_shown_part_alone_decides_no_more_than_the_data():
    """Masks of one pixel: neither the data nor the shown part of the oracle know the correlations."""
    cov = covariance(SIZE, 3)
    diagonal = torch.diag(cov.diagonal())
    for mask in SINGLES:
        torch.testing.assert_close(oracle(cov, mask)[mask], oracle(diagonal, mask)[mask])
    found = recovered([(mask, oracle(cov, mask)) for mask in SINGLES])
    torch.testing.assert_close(found.diagonal(), cov.diagonal())
    assert torch.isnan(found).sum() == SIZE * (SIZE - 1)


def test_the_converse_does_not_hold():
    """The oracle's hidden part knows the correlations: S_ji / (S_ii + σ²), which no such data show."""
    cov = covariance(SIZE, 3)
    found = torch.empty_like(cov)
    for i, mask in enumerate(SINGLES):
        found[:, i] = oracle(cov, mask)[:, 0] * (cov[i, i] + SIGMA**2)
    torch.testing.assert_close(found, cov)
