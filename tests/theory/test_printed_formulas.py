"""What the papers print and what holds: squares, algorithm 6 taken literally, losses of the fake score."""

from dataclasses import replace

import torch
from gaussians import Given, covariance, exact, gain, lbfgs, objective, sample
from ideal import normal, orthonormal
from test_engine_recovers import distil, missing_pixels, subspace

from mrigen.losses import LOSSES
from mrigen.losses.sid import SiD
from mrigen.operators.inpainting import PixelMask

SHAPE = (1, 2, 3)


def test_square_of_lemma_2():
    """RSD's (A e eᵀ Aᵀ + c I)⁻² needs η = (2 c + s) / (c² (c + s)²), s = ‖A e‖²; lemma 2 prints c + s."""
    Ae, c = normal(4, 1, seed=0), 0.5
    s, eye = float(Ae.square().sum()), torch.eye(4, dtype=torch.float64)
    inverse = torch.linalg.inv(Ae @ Ae.mT + c * eye)
    printed, right = ((2 * c + s) / (c**2 * (c + s) ** power) for power in (1, 2))
    torch.testing.assert_close(inverse @ inverse, eye / c**2 - right * Ae @ Ae.mT)
    assert torch.linalg.eigvalsh(eye / c**2 - printed * Ae @ Ae.mT)[0] < 0


def test_square_of_the_woodbury_identity():
    """DCD's C.2.1: (E Eᵀ + c I)⁻¹ = I / c − E Eᵀ / (c (c + 1)); C.2.1 prints c² (c + 1)."""
    E, c = orthonormal(6, 2, seed=0), 0.5
    eye = torch.eye(6, dtype=torch.float64)
    inverse = torch.linalg.inv(E @ E.mT + c * eye)
    torch.testing.assert_close(inverse, eye / c - E @ E.mT / (c * (c + 1)))
    printed = eye / c - E @ E.mT / (c**2 * (c + 1))
    assert (printed - inverse).abs().max() > 0.1
    gamma = torch.linalg.eigvalsh(inverse @ inverse)[0]
    torch.testing.assert_close(gamma, torch.tensor(1 / (1 + c) ** 2, dtype=torch.float64))


class Literal(SiD):
    """RSD's algorithm 6 as it is printed: w_g = A(x_g) is compared with predictions that nothing masks."""

    def generator_loss_at(self, teacher, fake, batch):
        masked = replace(batch, signal=batch.operator.as_image(batch.operator.forward(batch.signal)))
        f_phi, f_psi = self.estimate(teacher, masked), self.estimate(fake, masked)
        d = f_phi - f_psi
        form = (1 - self.params.alpha) * d.square() + d * (f_psi - masked.signal)
        divisor = (masked.signal - f_phi).detach().abs().flatten(1).mean(1).clamp(min=1e-5)
        return form.flatten(1).sum(1) / divisor


def test_algorithm_6_taken_literally_diverges():
    """Exact scores, a start near the data, of power 2: equation 11 comes nearer, algorithm 6 grows."""
    corruption, E = missing_pixels(0.0), subspace()
    form = objective("ambient", corruption)
    losses = LOSSES.build({"name": "sid"}, objective=form), Literal(SiD.Params(), objective=form)
    start, teacher = 1.1 * E, exact(E @ E.mT)
    right, literal = (
        distil(form, corruption, teacher, exact, steps=100, loss=loss, start=start) for loss in losses
    )
    assert abs(float(right.trace()) - 2) < 0.2
    assert float(literal.trace()) > 500


class Hiding(Given):
    """A of one mask, Ã of another."""

    def corrupt_further(self, operator, generator):
        return PixelMask(FURTHER, 1)


SHOWN = torch.tensor([1, 1, 1, 1, 1, 0], dtype=torch.bool).view(1, *SHAPE)
FURTHER = torch.tensor([1, 0, 1, 1, 0, 0], dtype=torch.bool).view(1, *SHAPE)


def fitted(by, law, level):
    """The linear map of masked noisy images that a fake score of its own for this mask ends at."""
    corruption = Hiding(PixelMask(SHOWN, 1))
    loss = LOSSES.build({"name": "sid"}, objective=objective("ambient", corruption, sigma=level))
    x_g = sample(law, 20_000, SHAPE, torch.Generator().manual_seed(0))
    K = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)

    def linear(x, *_):
        return (x.flatten(1).to(K) @ K.mT).view_as(x)

    lbfgs(
        lambda: loss.fake_score_loss(linear, x_g, corruption, torch.Generator().manual_seed(1), by=by).mean(),
        [K],
        max_iter=60,
    )
    return K.detach()


def test_the_released_fake_loss_differs_from_the_teachers_where_nothing_generalises():
    """Generated images of the data's law, a map of its own for each mask: f_φ − f_ψ is 0 with A's loss only.

    With Ñ's loss nothing trains what Ã hides, so that f_ψ stays at its start there (0) and f_φ does not.
    """
    law, level = covariance(6, seed=5), 0.4
    seen, judged = FURTHER.flatten(), SHOWN.flatten()
    teacher = gain(law, torch.tensor([level]), seen[None].double())[0]
    same, released = fitted("measurement", law, level), fitted("further", law, level)
    torch.testing.assert_close(same[judged][:, seen], teacher[judged][:, seen], rtol=0, atol=0.03)
    torch.testing.assert_close(released[seen][:, seen], teacher[seen][:, seen], rtol=0, atol=0.03)
    hidden = judged & ~seen
    assert released[hidden].abs().max() == 0
    eye = torch.eye(6, dtype=torch.float64)
    noisy = seen[:, None] * (law + level**2 * eye) * seen
    assert (teacher @ noisy @ teacher.mT).diagonal()[hidden].min() > 0.05
