"""SURE-Score on Gaussian data: the risk's minimiser, its value, and the law that its score models."""

import pytest
import torch
from gaussians import covariance, denoising, fixed_mask, gain, lbfgs, objective, sample

from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.errors import UsageError

SHAPE, SIGMA, LEVEL = (1, 2, 2), 0.6, 0.9
COV = covariance(4)
EYE = torch.eye(4, dtype=torch.float64)
MEANS = COV @ torch.linalg.inv(COV + SIGMA**2 * EYE) @ COV


class Linear:
    """x ↦ W x at the data's level and V x at all others."""

    def __init__(self):
        self.W, self.V = (torch.zeros(4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def __call__(self, x, sigma, A_tilde=None, labels=None, augment=None):
        assert A_tilde is None
        by = self.W if bool((sigma - SIGMA).abs().max() < 1e-6) else self.V
        return (x.flatten(1) @ by.mT).view_as(x)


def measured(corruption, samples=30_000):
    rng = torch.Generator().manual_seed(0)
    return corruption.measure(sample(COV, samples, SHAPE, rng), rng)


def trained(corruption):
    """W by the risk, beside which the rest is made to vanish, then V given W, both on one large batch."""
    batch, model = measured(corruption), Linear()
    for weight, parameter in ((1e9, model.W), (1.0, model.V)):
        form = objective("sure-score", corruption, LEVEL, risk_weight=weight)

        def loss(form=form, weight=weight):
            return form(model, batch, torch.Generator().manual_seed(1)).mean() / weight

        lbfgs(loss, [parameter], max_iter=20)
    return model


def test_the_minimiser_of_the_risk_is_the_conditional_mean():
    """W = C (C + σ² I)⁻¹ from noisy data alone, and the score is that of the restored images."""
    model = trained(denoising(SHAPE, SIGMA))
    assert (model.W.detach() - gain(COV, torch.tensor([SIGMA]))[0]).abs().max() < 0.03
    assert (model.V.detach() - gain(MEANS, torch.tensor([LEVEL]))[0]).abs().max() < 0.03
    assert (model.V.detach() - gain(COV, torch.tensor([LEVEL]))[0]).abs().max() > 0.05


def test_masked_images_are_learnt_with_their_holes():
    hole = torch.diag(torch.tensor([1.0, 1, 0, 1], dtype=torch.float64))
    model = trained(fixed_mask([1, 1, 0, 1], SHAPE, SIGMA))
    assert (model.W.detach() - gain(hole @ COV @ hole, torch.tensor([SIGMA]))[0]).abs().max() < 0.03


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_the_risk_is_the_squared_error_that_it_estimates(factor):
    """Of f(y) = a y it is (1 − a)² tr C / n + a² σ², which takes no clean image."""
    form = objective("sure-score", denoising(SHAPE, SIGMA), LEVEL, risk_weight=1e6)
    batch = measured(denoising(SHAPE, SIGMA))
    loss = form(lambda x, *given: factor * x, batch, torch.Generator().manual_seed(1)).mean()
    risk = loss / 1e6 / form.weight(torch.tensor(SIGMA, dtype=torch.float64))
    expected = (1 - factor) ** 2 * float(COV.trace()) / 4 + factor**2 * SIGMA**2
    assert float(risk) == pytest.approx(expected, abs=0.02)


def test_the_score_does_not_train_its_target():
    """Where the risk's weight vanishes nothing reaches the denoiser of the data."""
    form = objective("sure-score", denoising(SHAPE, SIGMA), LEVEL, risk_weight=1e-30)
    model = Linear()
    with torch.no_grad():
        model.W += 0.5 * EYE
    form(model, measured(denoising(SHAPE, SIGMA), 100), torch.Generator().manual_seed(1)).sum().backward()
    assert model.W.grad.abs().max() < 1e-20
    assert model.V.grad.abs().max() > 1e-3


def test_data_without_noise_are_refused():
    with pytest.raises(UsageError, match=r"objective sure-score .* no noise .* use standard"):
        OBJECTIVES.build({"name": "sure-score"}, corruption=denoising(SHAPE))
