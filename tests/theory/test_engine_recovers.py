"""The project's own distillation with exact scores has its fixed point at the data's law itself.

Not at (1 + σ²) E Eᵀ as the idealised loss of DCD, theorem 2: the real algorithm compares like with like.
"""

import pytest
import torch
from gaussians import Given, covariance, denoising, exact, gain, objective, sample

from mrigen.losses import LOSSES
from mrigen.operators.corruption import make_corruption
from mrigen.operators.noise import Noise

SHAPE = (1, 2, 3)
SIGMA = 0.5


def subspace(rank=2):
    """E (6, rank) with orthonormal columns."""
    return torch.linalg.eigh(covariance(6, seed=3))[1][:, -rank:]


def distil(form, corruption, teacher, fake_of, *, steps=300, batch=96, lr=0.04, loss=None, start=None):
    """W Wᵀ of the linear generator G(z) = W z, W = U Vᵀ, after distillation.

    The fake score is the exact denoiser of what the generator makes, as after infinitely many of its
    own training steps.

    Args:
        loss: SiD's by default.
        start: U and V (6, 2) of the first generator; random by default.
    """
    loss = LOSSES.build({"name": "sid"}, objective=form) if loss is None else loss
    generator = torch.Generator().manual_seed(0)
    U, V = (0.5 * torch.randn(6, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    if start is not None:
        U, V = start.clone(), start.clone()
    parameters = [U.requires_grad_(), V.requires_grad_()]
    adam = torch.optim.Adam(parameters, lr=lr, betas=(0.0, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, 1e-3)
    for _ in range(steps):
        W = U @ V.mT
        z = torch.randn(batch, 6, dtype=torch.float64, generator=generator)
        x_g = (z @ W.mT).view(batch, *SHAPE).float()
        law = (W @ W.mT).detach()
        value = loss.generator_loss(teacher, fake_of(law), x_g, corruption, generator).mean()
        adam.zero_grad()
        value.backward()
        adam.step()
        schedule.step()
    return law


def recovers(found):
    E = subspace()
    return float((found - E @ E.mT).abs().max())


def matrix(operator):
    """A of a linear operator on one image, (6, 6)."""
    basis = torch.eye(6, dtype=torch.float64).view(6, *SHAPE)
    return operator.to(dtype=torch.float64).forward(basis).flatten(1).mT


def seen_through(A):
    """Denoiser of A x for x of a law, as a teacher without mask learns it."""
    return lambda law: exact(A @ law @ A.mT)


def test_denoising():
    """A = I with noise: Tweedie teacher, generated images compared without noise."""
    corruption, E = denoising(SHAPE, SIGMA), subspace()
    found = distil(objective("tweedie", corruption), corruption, exact(E @ E.mT), exact)
    assert recovers(found) < 0.01


def test_denoising_with_matched_noise():
    """A = I: a teacher of the noisy law, and noise on generated images too."""
    corruption, E = denoising(SHAPE, SIGMA), subspace()
    extra = SIGMA**2 * torch.eye(6, dtype=torch.float64)
    found = distil(
        objective("standard", corruption), corruption, exact(E @ E.mT + extra), lambda law: exact(law + extra)
    )
    assert recovers(found) < 0.01


def test_blur_with_noise():
    """A x and A G(z) are compared; A is injective, so that E Eᵀ is found behind it."""
    blur = make_corruption({"name": "gaussian-blur", "size": 3, "std": 0.6}, SHAPE, Noise(low=SIGMA))
    A = matrix(blur.draw(1, torch.Generator()))
    E = subspace()
    teacher = seen_through(A)(E @ E.mT)
    found = distil(objective("tweedie", blur), blur, teacher, seen_through(A))
    assert recovers(found) < 0.01
    assert float((A @ E @ E.mT @ A.mT - E @ E.mT).abs().max()) > 0.2


def missing_pixels(noise):
    """A third of the pixels missing, another in each image."""
    law = {"name": "inpainting", "missing": 1 / 3, "further_missing": 0.2}
    return make_corruption(law, SHAPE, Noise(low=noise))


def test_missing_pixels():
    """Differences are judged where each image was measured, yet all of it is found."""
    corruption, E = missing_pixels(0.0), subspace()
    found = distil(objective("ambient", corruption), corruption, exact(E @ E.mT), exact, steps=500)
    assert recovers(found) < 0.01


@pytest.mark.parametrize(("name", "noise"), [("ambient", 0.0), ("ambient-tweedie", SIGMA)])
def test_the_fake_score_is_trained_towards_the_exact_one(name, noise):
    """On masked (and noisy) generated images its loss is stationary at their exact denoiser only."""
    corruption, law, count = missing_pixels(noise), covariance(6, seed=5), 40_000
    loss = LOSSES.build({"name": "sid"}, objective=objective(name, corruption))
    x_g = sample(law, count, SHAPE, torch.Generator().manual_seed(0)).float()

    def stationary(fake):
        """z-scores of the gradient towards some functions of what the fake score sees."""
        scores = []
        for way in (lambda x: x, torch.tanh, lambda x: x.flip(-1), torch.ones_like):
            step = torch.zeros(count, 1, 1, 1, requires_grad=True)
            loss.fake_score_loss(
                lambda x, *told, way=way, step=step: fake(x, *told) + step * way(x),
                x_g,
                corruption,
                torch.Generator().manual_seed(1),
            ).sum().backward()
            scores.append(abs(float(step.grad.mean() / step.grad.std() * count**0.5)))
        return max(scores)

    assert stationary(exact(law)) < 4
    assert stationary(exact(1.5 * law)) > 8


def test_unmatched_noise_is_learnt_too():
    """A teacher of the noisy law and generated images without noise: (1 + σ²) E Eᵀ, as theorem 2 says."""
    corruption, E = denoising(SHAPE, SIGMA), subspace()
    noisy = exact(E @ E.mT + SIGMA**2 * torch.eye(6, dtype=torch.float64))
    found = distil(objective("tweedie", corruption), corruption, noisy, exact)
    assert float((found - (1 + SIGMA**2) * E @ E.mT).abs().max()) < 0.05


def test_one_mask_leaves_what_it_never_shows_undetermined():
    """With a single mask nothing forces the hidden pixel: the seen part is right, the rest is not."""
    from mrigen.operators.inpainting import PixelMask

    mask = torch.tensor([1, 1, 1, 1, 1, 0], dtype=torch.bool)
    corruption, E = Given(PixelMask(mask.view(1, *SHAPE), 1), SIGMA), subspace()
    A = torch.diag(mask.double())
    teacher = seen_through(A)(E @ E.mT)
    found = distil(objective("tweedie", corruption), corruption, teacher, seen_through(A))
    assert float((A @ (found - E @ E.mT) @ A).abs().max()) < 0.01


def test_exact_denoisers_are_exact():
    """gain is C (C + σ² I)⁻¹ where everything is seen."""
    C = covariance(6, seed=1)
    eye = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(gain(C, torch.tensor([0.7]))[0], C @ torch.linalg.inv(C + 0.7**2 * eye))
