"""What the fake score is trained on, and the domain of the further mask, by invariances and closed forms."""

import pytest
import torch
from gaussians import Given, denoising, objective

from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.schedules import edm_weight
from mrigen.losses import LOSSES
from mrigen.losses.base import DiffusedBatch
from mrigen.operators.inpainting import PixelMask

SHAPE = (1, 4, 4)
SHOWN = torch.tensor([1, 1, 0, 1] * 4, dtype=torch.bool).view(1, *SHAPE)
FURTHER = torch.tensor([1, 0, 0, 1] * 4, dtype=torch.bool).view(1, *SHAPE)


class Hiding(Given):
    """A of one mask, Ã of another."""

    def corrupt_further(self, operator, generator):
        return PixelMask(FURTHER, 1)


def losses(name="sid", **constants):
    corruption = Hiding(PixelMask(SHOWN, 1))
    return LOSSES.build({"name": name, **constants}, objective=objective("ambient", corruption)), corruption


def images(seed, count=3):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_the_released_fake_loss_sees_what_the_further_mask_shows():
    """With N replaced by Ñ a denoiser that is right there has loss 0, whatever it says elsewhere."""
    loss, corruption = losses()
    x = images(0)

    def value(by, wrong):
        estimate = torch.where(wrong, x + 1, x)
        draws = torch.Generator().manual_seed(1)
        return loss.fake_score_loss(lambda *_: estimate, x, corruption, draws, by=by)

    assert value("further", ~FURTHER).abs().max() < 1e-12
    assert value("measurement", ~SHOWN).abs().max() < 1e-12
    hidden = SHOWN & ~FURTHER
    assert value("measurement", hidden).min() > 1e-3


def test_both_fake_losses_show_the_network_the_same():
    """Noise level, what is seen and the noise are those of the same draws."""
    loss, corruption = losses()
    seen = []
    for by in ("measurement", "further"):
        draws = torch.Generator().manual_seed(2)
        loss.fake_score_loss(lambda x, s, *_: seen.append((x, s)) or x, images(0), corruption, draws, by=by)
    torch.testing.assert_close(seen[0][0], seen[1][0])
    torch.testing.assert_close(seen[0][1], seen[1][1])


@pytest.mark.parametrize("name", ["sid", "dmd", "sds"])
def test_the_further_domain_is_blind_to_what_the_further_mask_hides(name):
    """P = Ñ: scores may differ there; the loss is that of the measurement domain with A = Ã."""
    loss, _ = losses(name, domain="further")
    measured, _ = losses(name)
    A, further, x = PixelMask(SHOWN, 1), PixelMask(FURTHER, 1), images(0)
    sigma, noise = torch.full((3,), 0.7), images(1)

    def value(form, operator, teacher, fake):
        x_g = x.clone().requires_grad_()
        found = form.generator_loss_at(
            lambda *_: teacher, lambda *_: fake, DiffusedBatch(x_g, operator, further, sigma, noise)
        )
        (gradient,) = torch.autograd.grad(found.sum(), x_g)
        return found.detach(), gradient

    teacher, fake = images(3), images(4)
    same = value(measured, further, teacher, fake)
    for one, other in zip(value(loss, A, teacher, fake), same, strict=True):
        torch.testing.assert_close(one, other)
    assert not value(loss, A, teacher, fake)[1][:, ~FURTHER[0]].any()
    elsewhere = ~FURTHER * images(5)
    for one, other in zip(value(loss, A, teacher + elsewhere, fake - elsewhere), same, strict=True):
        torch.testing.assert_close(one, other)
    changed = value(measured, A, teacher + elsewhere, fake - elsewhere)[1]
    assert not torch.allclose(changed, value(measured, A, teacher, fake)[1])


def test_generated_images_are_transformed_before_they_are_measured():
    """The network sees the transformed image, A of it, at almost no noise, and its labels."""
    corruption = denoising(SHAPE)
    loss = LOSSES.build({"name": "sid"}, objective=objective("standard", corruption, sigma=1e-6))
    augmentation, x, seen = Augmentation(0.8), images(0, 40), []

    def fake(noisy, sigma, conditioning=None, labels=None, augment=None):
        seen.append((noisy, augment))
        return noisy

    loss.fake_score_loss(fake, x, corruption, torch.Generator().manual_seed(6), augmentation=augmentation)
    expected, labels = augmentation(x, torch.Generator().manual_seed(6))
    torch.testing.assert_close(seen[0][0], expected, atol=1e-4, rtol=0)
    assert torch.equal(seen[0][1], labels)
    assert (expected - x).abs().flatten(1).amax(1).gt(0.1).sum() > 20
    masked, law = losses()
    masked.fake_score_loss(fake, x, law, torch.Generator().manual_seed(6), augmentation=augmentation)
    assert not seen[1][0][:, ~FURTHER[0]].any()
    assert torch.equal(seen[1][1], labels)
    loss.fake_score_loss(fake, x, corruption, torch.Generator().manual_seed(6))
    assert seen[2][1] is None


def test_the_denoising_loss_is_the_weighted_difference_of_both_denoisers():
    """At one level σ: λ(σ) (a − b)² Σ |s + σ ε|² over what Ã shows, for denoisers a x and b x."""
    corruption, sigma = Hiding(PixelMask(SHOWN, 1)), 0.6
    loss = LOSSES.build({"name": "sid"}, objective=objective("ambient", corruption, sigma))
    x, draws = images(0, 4000).requires_grad_(), torch.Generator().manual_seed(1)
    a = torch.tensor(0.7, requires_grad=True)
    seen = []
    value = loss.denoising_loss(
        lambda x, *_: seen.append(x) or 0.2 * x, lambda x, *_: a * x, x, corruption, draws
    )
    weight = float(edm_weight(torch.tensor(sigma), 0.5))
    torch.testing.assert_close(value, weight * 0.25 * seen[0].square().flatten(1).sum(1), rtol=1e-4, atol=0)
    assert seen[0][FURTHER.logical_not().expand_as(seen[0])].abs().max() == 0
    value.mean().backward()
    mean = value.detach().mean().item()
    assert mean == pytest.approx(weight * 0.25 * 8 * (1 + sigma**2), rel=0.03)
    assert x.grad is None
    assert a.grad.item() == pytest.approx(mean * 2 / 0.5, rel=1e-4)


def test_the_denoising_loss_leaves_out_levels_that_the_teacher_was_not_trained_at():
    """Of measurements with noise σ a Tweedie teacher knows levels above σ alone."""
    noisy = denoising(SHAPE, 0.5)
    form = objective("tweedie", noisy)
    loss = LOSSES.build({"name": "sid"}, objective=form)
    seen = []
    loss.denoising_loss(
        lambda x, *_: x, lambda x, s, *_: seen.append(s) or x, images(0, 500), noisy, torch.Generator()
    )
    assert seen[0].min() >= form.floor == 0.5
    assert seen[0].max() > 2
