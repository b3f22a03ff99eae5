"""DCD lemma 2, theorem 1 and corollary 1 on Gaussian data, where both sides of each bound have closed forms.

Teacher and fake score err by matrices: f_φ(y) = s_Y(y) + D y and f_ψ(y) = s_θ(y) + K y, so that the loss, the
Fisher divergence F, χ² and the errors ε are traces and determinants.
"""

import math
from itertools import pairwise

import pytest
import torch
from ideal import LEVELS, normal

SIGMA = 0.5


def second(matrix, cov):
    """E ‖M y‖² of y ~ N(0, cov)."""
    return float((matrix @ cov @ matrix.mT).trace())


def fourth_root(matrix, cov):
    """(E ‖M y‖⁴)^½."""
    spread = matrix @ cov @ matrix.mT
    return math.sqrt(float(spread.trace()) ** 2 + 2 * float((spread @ spread).trace()))


def chi_square(p, q):
    """χ²(N(0, p) ‖ N(0, q)); infinite where 2 p⁻¹ − q⁻¹ is not positive."""
    inner = 2 * torch.linalg.inv(p) - torch.linalg.inv(q)
    if float(torch.linalg.eigvalsh(inner)[0]) <= 0:
        return math.inf
    return float((q.det() / inner.det()).sqrt() / p.det()) - 1


class Distillation:
    """Loss, divergence and errors for covariances of data and generator, A, and errors D and K of scores."""

    def __init__(self, data, generated, A, teacher, fake):
        eye = torch.eye(len(A), dtype=data.dtype)
        self.data = [A @ data @ A.mT + (SIGMA**2 + t**2) * eye for t in LEVELS]
        self.generated = [A @ generated @ A.mT + (SIGMA**2 + t**2) * eye for t in LEVELS]
        pairs = list(zip(self.data, self.generated, strict=True))
        gap = [torch.linalg.inv(p) - torch.linalg.inv(q) for q, p in pairs]
        self.fisher = self.mean(second(g, p) for g, (_, p) in zip(gap, pairs, strict=True))
        self.loss = self.mean(second(g + teacher - fake, p) for g, (_, p) in zip(gap, pairs, strict=True))
        self.at_best = self.mean(second(teacher - fake, q) for q in self.data)
        self.eps_2 = max(second(teacher, q) for q in self.data)
        self.eps_4 = max(fourth_root(teacher, q) for q in self.data)
        self.eps_fake = max(second(fake, p) for p in self.generated)
        self.gamma = self.eps_4 * self.mean(math.sqrt(chi_square(p, q)) for q, p in pairs)
        self.ratio = max(math.sqrt(float(q.det() / p.det())) for q, p in pairs)
        self.poincare = min(1 / float(torch.linalg.eigvalsh(q)[-1]) for q in self.data)

    @staticmethod
    def mean(values):
        values = list(values)
        return sum(values) / len(values)


def case(seed, size, error):
    """Random data, a generator of less variance (so that density ratios are bounded), A and errors."""
    root, cut = normal(4, 4, seed=seed), normal(4, 4, seed=seed + 1)
    data = root @ root.mT
    shrink = torch.linalg.inv(torch.eye(4, dtype=data.dtype) + size * cut @ cut.mT)
    generated = root @ shrink @ root.mT
    A = normal(3, 4, seed=seed + 2)
    teacher, fake = error * normal(3, 3, seed=seed + 3), error * normal(3, 3, seed=seed + 4)
    return Distillation(data, generated, A, teacher, fake)


CASES = [
    (seed, size, error) for seed in (0, 10, 20) for size in (0.01, 0.3, 3.0) for error in (0.0, 0.02, 0.3)
]


def test_chi_square_by_quadrature():
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    p, q = (torch.exp(-(x**2) / (2 * v)) / math.sqrt(2 * math.pi * v) for v in (1.5, 1.0))
    expected = float(torch.trapezoid((p / q - 1) ** 2 * q, x))
    one = torch.ones(1, 1, dtype=torch.float64)
    assert chi_square(1.5 * one, one) == pytest.approx(expected, rel=1e-6)
    assert chi_square(2.1 * one, one) == math.inf


@pytest.mark.parametrize(("seed", "size", "error"), CASES)
def test_lemma_2_from_both_sides(seed, size, error):
    """½ F − 2 (ε_ψ² + ε_φ² + Γ) ≤ loss ≤ 3 (F + ε_ψ² + ε_φ² + Γ); loss = F without errors."""
    d = case(seed, size, error)
    errors = d.eps_fake + d.eps_2 + d.gamma
    assert d.fisher / 2 - 2 * errors <= d.loss <= 3 * (d.fisher + errors)
    if error == 0:
        assert d.loss == pytest.approx(d.fisher)


def test_lemma_2_needs_its_errors():
    """A teacher whose score is nearly the generator's: a loss far below F, which ε_φ² and Γ pay for."""
    one = torch.ones(1, 1, dtype=torch.float64)
    d = Distillation(30 * one, 20 * one, one, -0.0144 * one, 0 * one)
    assert d.loss < d.fisher / 2 <= d.loss + 2 * (d.eps_2 + d.gamma)


@pytest.mark.parametrize(("seed", "size", "error"), CASES)
def test_theorem_1(seed, size, error):
    """F ≤ (B + √(B² + 2 A))², A = 3 ε_φ² + 2 ε_ψ² + ε_opt, B = 2 ε_φ,₄² √(Δ / λ₀), as its proof ends.

    The fake score at θ* is exact there, ε_opt is what the loss lacks of the loss at θ*.
    """
    d = case(seed, size, error)
    missing = max(0.0, d.loss - d.eps_2)
    A = 3 * d.eps_2 + 2 * d.eps_fake + missing
    B = 2 * d.eps_4 * math.sqrt(d.ratio / d.poincare)
    assert d.fisher <= (B + math.sqrt(B**2 + 2 * A)) ** 2
    if error == 0:
        assert d.fisher == pytest.approx(missing)


@pytest.mark.parametrize(("seed", "size", "error"), CASES)
def test_lemma_3(seed, size, error):
    """Γ ≤ ε_φ,₄² √(Δ / λ₀) √F."""
    d = case(seed, size, error)
    assert d.gamma <= d.eps_4 * math.sqrt(d.ratio / d.poincare * d.fisher) * (1 + 1e-9)


def gaussian_divergence(generated, data, level):
    """F(N(0, g + s²) ‖ N(0, d + s²)) of numbers."""
    p, q = generated + level**2, data + level**2
    return (p - q) ** 2 / (p * q**2)


def minimum(error):
    """The generator's variance at the minimum of the loss, behind A = 1, with a teacher off by error."""
    variances = torch.linspace(0.01, 8, 8000, dtype=torch.float64)[:, None]
    p, q = variances + SIGMA**2 + LEVELS**2, 1 + SIGMA**2 + LEVELS**2
    loss = ((1 / p - 1 / q + error) ** 2 * p).mean(1)
    return float(variances[loss.argmin(), 0])


@pytest.mark.parametrize(("error", "improves"), [(0.0, True), (0.005, True), (-0.01, True), (0.15, False)])
def test_corollary_1(error, improves):
    """With A = 1 the distilled variance is nearer than the noisy one where the teacher errs little."""
    variance = minimum(error)
    distilled = float(gaussian_divergence(variance, 1.0, LEVELS).mean())
    noisy = float(gaussian_divergence(1 + SIGMA**2, 1.0, LEVELS).mean())
    assert (distilled < noisy) is improves
    if error == 0:
        assert variance == pytest.approx(1, abs=1e-3)


def rippled_divergence(frequency, level):
    """F of N(0, 1) (1 + ½ cos ωx) from N(0, 1), both with noise s; by quadrature.

    Noise leaves ½ exp(−ω² s² / (2 (1 + s²))) of the ripple, of the frequency ω / (1 + s²).
    """
    v = 1 + level**2
    x = torch.linspace(-9 * math.sqrt(v), 9 * math.sqrt(v), 40001, dtype=torch.float64)
    normal_density = torch.exp(-(x**2) / (2 * v)) / math.sqrt(2 * math.pi * v)
    left, own = 0.5 * math.exp(-(frequency**2) * level**2 / (2 * v)), frequency / v
    ripple, slope = 1 + left * torch.cos(own * x), -left * own * torch.sin(own * x)
    total = float(torch.trapezoid(normal_density * ripple, x))
    return float(torch.trapezoid(normal_density * slope**2 / ripple, x)) / total


def test_injectivity_of_corollary_1_is_not_of_the_noise_schedule_alone():
    """E_t F of images over E_t F of measurements grows without bound with the frequency of the difference."""
    levels = [float(t) for t in LEVELS]
    ratios = []
    for frequency in (1.0, 3.0, 6.0, 9.0):
        images = sum(rippled_divergence(frequency, t) for t in levels)
        measured = sum(rippled_divergence(frequency, math.hypot(t, SIGMA)) for t in levels)
        ratios.append(images / measured)
    assert all(later > 3 * earlier for earlier, later in pairwise(ratios))
    assert ratios[-1] > 1e4
