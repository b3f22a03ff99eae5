"""DMD and SDS by closed forms of Gaussian images, and by hand."""

import pytest
import torch
from gaussians import Given, covariance, denoising, exact, fixed_mask, objective

from mrigen.denoiser import to_channels, to_complex
from mrigen.errors import UsageError
from mrigen.losses import LOSSES
from mrigen.losses.base import DiffusedBatch, stop_gradient_loss
from mrigen.operators import MultiCoilMRI

N, SHAPE = 4, (1, 2, 2)
DATA = covariance(N, seed=1)
ROOT = torch.linalg.cholesky(covariance(N, seed=2))  # of the generator's law
SIGMA = 0.8


def make(name, form=None, **constants):
    if form is None:
        form = objective("standard", denoising(SHAPE))
    return LOSSES.build({"name": name, **constants}, objective=form)


def unit_draws():
    """z and ε (2N, N) whose joint second moment over the rows is exactly the identity."""
    generator = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(2 * N, 2 * N, dtype=torch.float64, generator=generator)).Q
    both = basis * (2 * N) ** 0.5
    return both[:, :N], both[:, N:]


def kl_gradient(loss, mask=None):
    """E[∂loss/∂x · w / σ² · zᵀ] for x = ROOT z, with exact scores of both laws; and the operator."""
    z, noise = unit_draws()
    x = (z @ ROOT.mT).unflatten(1, SHAPE).requires_grad_()
    sigma = torch.full((len(z),), SIGMA, dtype=torch.float64)
    A = Given(None) if mask is None else fixed_mask(mask, SHAPE)
    operator = A.draw(1, None)
    noise = noise.unflatten(1, SHAPE)
    teacher, fake = exact(DATA), exact(ROOT @ ROOT.mT)
    batch = DiffusedBatch(x, operator, operator, sigma, noise)
    loss.generator_loss_at(teacher, fake, batch).sum().backward()
    with torch.no_grad():
        f_phi = loss.objective.predict(teacher, x + SIGMA * noise, sigma, operator)
        divisor = loss.divisor(batch, f_phi)
    step = x.grad.flatten(1) * divisor[:, None] / SIGMA**2
    return step.mT @ z / len(z)


def test_dmd_follows_the_gradient_of_the_divergence():
    """∇_L KL(N(0, L Lᵀ + σ²) ‖ N(0, C + σ²)) = [(C + σ²)⁻¹ − (L Lᵀ + σ²)⁻¹] L, and by autograd."""
    level = SIGMA**2 * torch.eye(N, dtype=torch.float64)
    found = kl_gradient(make("dmd"))
    torch.testing.assert_close(
        found, (torch.linalg.inv(DATA + level) - torch.linalg.inv(ROOT @ ROOT.mT + level)) @ ROOT
    )
    root = ROOT.clone().requires_grad_()
    noisy = root @ root.mT + level
    ratio = torch.linalg.solve(DATA + level, noisy)
    divergence = 0.5 * (ratio.trace() - N - ratio.logdet())
    divergence.backward()
    torch.testing.assert_close(found, root.grad)


def test_dmd_of_masked_images_follows_the_divergence_of_masked_laws():
    """In the measurement domain, with the mask fixed: the laws of M (x + σ ε) are what is compared."""
    mask = [1, 0, 1, 1]
    kept = torch.tensor(mask, dtype=torch.bool)
    form = objective("ambient", fixed_mask(mask, SHAPE))
    found = kl_gradient(make("dmd", form), mask)
    level = SIGMA**2 * torch.eye(3, dtype=torch.float64)
    own = (ROOT @ ROOT.mT)[kept][:, kept]
    expected = torch.zeros(N, N, dtype=torch.float64)
    expected[kept] = (torch.linalg.inv(DATA[kept][:, kept] + level) - torch.linalg.inv(own + level)) @ ROOT[
        kept
    ]
    torch.testing.assert_close(found, expected)
    whole = kl_gradient(make("dmd", form, domain="image"), mask)
    assert whole[~kept].abs().max() > 0.01


def test_sds_pulls_every_sample_towards_the_mode():
    """Without noise in the draw the gradient is σ² (C + σ²)⁻¹ x over its divisor, by hand."""
    x = torch.randn(5, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    sigma = torch.full((5,), SIGMA, dtype=torch.float64)
    loss = make("sds")
    batch = DiffusedBatch(x, None, None, sigma, torch.zeros_like(x))
    loss.generator_loss_at(exact(DATA), None, batch).sum().backward()
    away = x.detach().flatten(1) @ torch.linalg.inv(DATA / SIGMA**2 + torch.eye(N, dtype=torch.float64))
    torch.testing.assert_close(x.grad.flatten(1), away / away.abs().mean(1, keepdim=True))


def descend(name, rate, steps, **constants):
    """Covariance that a linear generator L z reaches; its own exact denoiser is the fake score."""
    loss = make(name, **constants)
    root = ROOT.clone().requires_grad_()
    adam = torch.optim.Adam([root], lr=rate)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        z = torch.randn(256, N, dtype=torch.float64, generator=generator)
        sigma = torch.full((256,), (0.3, 0.8, 1.5)[step % 3], dtype=torch.float64)
        noise = torch.randn(256, *SHAPE, dtype=torch.float64, generator=generator)
        x = (z @ root.mT).unflatten(1, SHAPE)
        fake = exact((root @ root.mT).detach())
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        adam.zero_grad()
        loss.generator_loss_at(
            exact(DATA), fake, DiffusedBatch(x, None, None, sigma, noise)
        ).mean().backward()
        adam.step()
    return (root @ root.mT).detach()


@pytest.mark.parametrize("name", ["dmd", "sid"])
def test_matching_losses_end_in_the_law_of_the_data(name):
    assert (ROOT @ ROOT.mT - DATA).norm() > 0.5 * DATA.norm()
    torch.testing.assert_close(descend(name, 0.03, 400), DATA, atol=0.08, rtol=0.05)


def test_sds_ends_in_the_mode():
    """DCD table 14: of the three losses SDS collapses."""
    assert descend("sds", 0.03, 400).trace() < 1e-3 * DATA.trace()


def test_dmd_by_hand_on_undersampled_k_space():
    """Complex images, two coils, A and Ã apart: value and gradient from the formula, channel by channel."""
    generator = torch.Generator().manual_seed(4)
    maps = torch.randn(2, 2, 4, 6, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    lines = torch.tensor([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 1]], dtype=torch.bool)[:, None, None]
    A, further = MultiCoilMRI(maps, lines), MultiCoilMRI(maps, lines & (torch.arange(6) != 3))
    x = torch.randn(2, 1, 4, 6, dtype=torch.complex64, generator=generator)
    noise = torch.randn(2, 1, 4, 6, dtype=torch.complex64, generator=generator)
    sigma = torch.tensor([0.3, 2.0])
    channels = to_channels(x).requires_grad_()

    def linear(a, b):
        def call(seen, sigma, A_tilde=None, labels=None):
            return seen / (a + sigma.view(-1, 1, 1, 1)) + b * A_tilde.conditioning()

        return call

    form = objective("ambient", Given(A))
    batch = DiffusedBatch(to_complex(channels), A, further, sigma, noise)
    value = make("dmd", form).generator_loss_at(linear(1, 0.1), linear(2, 0.3), batch)
    value.sum().backward()
    seen = further.normal(x + sigma.view(-1, 1, 1, 1) * noise)
    estimates = [linear(a, b)(seen, sigma, further) for a, b in ((1, 0.1), (2, 0.3))]
    for row in range(2):
        one = A.select(row)
        gap = to_channels(one.normal(estimates[1][row : row + 1] - estimates[0][row : row + 1]))
        error = to_channels(one.normal(x[row : row + 1] - estimates[0][row : row + 1]))
        step = gap / error.abs().mean()
        torch.testing.assert_close(value[row], 0.5 * step.square().sum())
        back = to_channels(one.normal(to_complex(step)))
        torch.testing.assert_close(channels.grad[row : row + 1], back, atol=1e-5, rtol=1e-4)


def test_follow_has_the_step_for_its_gradient():
    x = torch.randn(3, 2, requires_grad=True)
    step = torch.randn(3, 2)
    value = stop_gradient_loss(x, step)
    value.sum().backward()
    torch.testing.assert_close(x.grad, step)
    torch.testing.assert_close(value, 0.5 * step.square().sum(1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("domain", ["measurement", "image"])
def test_regression_term_by_hand(domain, generator):
    """λ ½ ‖M (x − t)‖² where the mask of the teacher's trajectory counts, ‖x − t‖² where it does not."""
    mask = [1, 0, 1, 0]
    form = objective("ambient", fixed_mask(mask, SHAPE))
    loss = make("dmd", form, domain=domain, regression={"weight": 0.5})
    x, t = torch.randn(2, 3, *SHAPE, generator=generator)
    kept = torch.tensor(mask if domain == "measurement" else [1] * 4).view(SHAPE)
    found = loss.regression(x, t, form.corruption.draw(3, generator), generator)
    torch.testing.assert_close(found, 0.25 * (kept * (x - t).square()).flatten(1).sum(1))


def test_regression_is_optional_and_needs_a_function_of_the_latent():
    assert make("dmd").regression is None
    with pytest.raises(UsageError, match="without churn"):
        make("dmd", regression={"sampler": {"name": "euler", "churn": 5}})


def test_only_sds_does_without_a_fake_score():
    assert [LOSSES[name].uses_fake for name in ("sid", "dmd", "sds")] == [True, True, False]
