"""The adversarial term: values by hand, what it compares and where its gradients go."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_jobs import distill_job, fabric, tiny_denoiser, tiny_store
from torch.nn import functional

import mrigen as mg
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.engine.distillation import DistillJob
from mrigen.errors import UsageError
from mrigen.losses.adversary import Adversary, AdversaryParams
from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.operators.corruption import make_corruption
from mrigen.operators.noise import Noise


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class Encoder:
    """A denoiser whose features are a function of what it is shown."""

    def __init__(self, features):
        self.features, self.shown = features, []

    def encode(self, x, sigma, A_tilde=None, labels=None):
        self.shown.append((x, sigma, A_tilde, labels))
        return self.features(x)


def pixels(missing=0.5, batch=6, sigma=0.0, name="ambient"):
    """Measurements of random images behind pixel masks, and the adversary of such data."""
    corruption = make_corruption({"name": "inpainting", "missing": missing}, (1, 4, 4), Noise(low=sigma))
    A = corruption.draw(batch, rng(1))
    data = corruption.measure_by(A, torch.randn(batch, 1, 4, 4, generator=rng(2)), rng(3))
    objective = OBJECTIVES.build({"name": name}, corruption=corruption)
    return data, Adversary(AdversaryParams(weight=0.25), objective)


def test_constant_logits_by_hand():
    """D = c everywhere: softplus(−c) + softplus(c), and w C H W softplus(−c)."""
    data, adversary = pixels()
    fake = Encoder(lambda x: torch.full((len(x), 3, 2, 2), 0.7))
    x_g = torch.randn(6, 1, 4, 4, generator=rng(4))
    both = math.log1p(math.exp(-0.7)) + math.log1p(math.exp(0.7))
    torch.testing.assert_close(adversary.fake_loss(fake, data, x_g, rng()), torch.full((6,), both))
    own = 0.25 * 16 * math.log1p(math.exp(-0.7))
    torch.testing.assert_close(adversary.generator_loss(fake, data, x_g, rng()), torch.full((6,), own))


def test_logits_are_means_over_channels_and_losses_over_positions():
    data, adversary = pixels()
    table = torch.randn(6, 5, 2, 3, generator=rng(5))
    loss = adversary.generator_loss(Encoder(lambda x: table), data, torch.zeros(6, 1, 4, 4), rng())
    expected = 0.25 * 16 * functional.softplus(-table.mean(1)).flatten(1).mean(1)
    torch.testing.assert_close(loss, expected)


def test_generated_images_are_measured_as_the_data_are():
    """A perfect generator: with y's own image as x_g both are shown the same image, noise aside."""
    data, adversary = pixels(sigma=0.3, name="standard")
    quiet = replace(data, sigma=torch.zeros(6))
    fake = Encoder(lambda x: x)
    x_g = torch.randn(6, 1, 4, 4, generator=rng(6))
    adversary.fake_loss(fake, replace(quiet, y=data.operator.forward(x_g)), x_g, rng())
    (real, at, *_), (generated, later, *_) = fake.shown
    noise = [shown - data.operator.forward(x_g) for shown in (real, generated)]
    levels = [part.flatten(1).std(1) / sigma for part, sigma in zip(noise, (at, later), strict=True)]
    torch.testing.assert_close(levels[0].mean(), levels[1].mean(), rtol=0.35, atol=0)
    fake.shown.clear()
    adversary.generator_loss(fake, data, x_g, rng(7))
    adversary.generator_loss(fake, quiet, x_g, rng(7))
    (noisy, *_), (clean, *_) = fake.shown
    added = (noisy - clean)[data.operator.mask.expand_as(noisy).bool()]
    assert added.std() == pytest.approx(0.3, rel=0.25)
    hidden = (noisy - clean)[~data.operator.mask.expand_as(noisy).bool()]
    assert hidden.abs().max() < 1e-6


def test_an_ambient_teacher_sees_noise_behind_the_mask_and_is_given_it():
    data, adversary = pixels()
    fake = Encoder(lambda x: x)
    adversary.fake_loss(fake, data, torch.zeros(6, 1, 4, 4), rng())
    hidden = ~data.operator.mask.expand(6, 1, 4, 4).bool()
    for shown, _, A_tilde, _ in fake.shown:
        assert A_tilde is data.operator
        assert shown[hidden].abs().max() == 0


def test_the_discriminator_does_not_train_the_generator():
    data, adversary = pixels()
    x_g = torch.randn(6, 1, 4, 4, generator=rng(8), requires_grad=True)
    fake = Encoder(lambda x: x)
    assert not adversary.fake_loss(fake, data, x_g, rng()).requires_grad
    adversary.generator_loss(fake, data, x_g, rng()).sum().backward()
    measured = data.operator.mask.expand(6, 1, 4, 4).bool()
    assert x_g.grad[~measured].abs().max() == 0, "what A does not measure is not judged"
    assert x_g.grad[measured].abs().min() > 0


def test_the_best_discriminator_of_two_gaussians_tells_them_apart():
    """Of N(0, 4) and N(0, 1) the log ratio of densities is 3/8 x² − ln 2, whose loss is the least."""
    data, _ = pixels(missing=0.0, batch=4096, name="standard")
    objective = OBJECTIVES.build(
        {"name": "standard"}, corruption=make_corruption({"name": "identity"}, (1, 4, 4))
    )
    adversary = Adversary(AdversaryParams(noise={"t_max": 1.0}), objective)
    y = torch.randn(4096, 1, 4, 4, generator=rng(9)) * 2
    data = replace(data, y=y)
    x_g = torch.randn(4096, 1, 4, 4, generator=rng(10))

    def loss(factor, offset):
        fake = Encoder(lambda x: factor * x.square() - offset)
        return float(adversary.fake_loss(fake, data, x_g, rng()).mean())

    best = loss(3 / 8, math.log(2))
    points = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    wide, narrow = (torch.exp(-0.5 * (points / s) ** 2) / s / math.sqrt(2 * math.pi) for s in (2.0, 1.0))
    logit = 3 / 8 * points.square() - math.log(2)
    exact = torch.trapezoid(wide * functional.softplus(-logit) + narrow * functional.softplus(logit), points)
    assert best == pytest.approx(float(exact), abs=5e-3)
    others = [
        loss(0.0, 0.0),
        loss(0.3, math.log(2)),
        loss(0.45, math.log(2)),
        loss(3 / 8, 0.4),
        loss(3 / 8, 1.0),
    ]
    assert best < min(others)


@pytest.mark.parametrize("name", ["song-unet", "dhariwal-unet", "mlp"])
def test_encoders_are_the_first_part_of_the_network(name):
    """A change of the decoder's last layer leaves the features; a change of the first layer does not."""
    network = NETWORKS[name].example()
    p = network.params
    x = torch.randn(
        2, p.in_channels, p.resolution, getattr(p, "width", None) or p.resolution, generator=rng(11)
    )
    noise = torch.tensor([0.1, -0.3])
    features = network.encode(x, noise)
    assert features.ndim == 4
    assert len(features) == 2
    parameters = list(network.named_parameters())
    enters = next(value for key, value in parameters if "level0_conv.weight" in key or key == "enter.weight")
    leaves = next(
        value
        for key, value in reversed(parameters)
        if "aux_conv.weight" in key or "out_conv.weight" in key or key == "leave.weight"
    )
    with torch.no_grad():
        leaves.add_(1.0)
        torch.testing.assert_close(network.encode(x, noise), features, rtol=0, atol=0)
        enters.add_(1.0)
    assert (network.encode(x, noise) - features).abs().max() > 1e-3


def test_a_network_without_an_encoder_is_refused():
    class Flat(mg.networks.Network):
        def forward(self, x, noise, labels=None, augment=None):
            return x

        @classmethod
        def example(cls):
            raise NotImplementedError

    params = mg.networks.Network.Params(resolution=4, in_channels=1, out_channels=1)
    model = PRECONDITIONERS.build({"name": "edm"}, network=Flat(params))
    with pytest.raises(UsageError, match="Flat has no method encode"):
        model(torch.zeros(1, 1, 4, 4), torch.ones(1), encode=True)


def test_measurements_are_needed():
    job = distill_job(loss={"name": "sid", "adversary": {}})
    with pytest.raises(UsageError, match="give a store"):
        DistillJob(
            job.params,
            tiny_denoiser(),
            job.loss,
            job.corruption,
            (1, 8, 8),
            fabric(),
            seed=0,
            fresh=tiny_denoiser,
        )


def test_measurements_change_the_generator_and_every_update_sees_others():
    first = distill_job(loss={"name": "sid", "adversary": {}}, fake_steps=2)
    store, seen = tiny_store(), []
    packed = first.store.packed
    first.store.packed = lambda indices: (seen.append(indices), packed(indices))[1]
    first.step(0)
    first.step(1)
    updates = [seen[0], seen[1], seen[3], seen[4]]
    assert sorted(updates[0] + updates[1]) == sorted(updates[2] + updates[3]) == list(range(len(store)))


def test_a_discriminator_alone():
    """The whole job: the generator moves."""
    job = distill_job(loss={"name": "ambient-gan"}, init="random", fake_init="random")
    before = job.student.module.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    logs = job.step(0)
    assert float(logs["fake"]) == pytest.approx(2 * math.log(2), rel=0.2)
    assert any((value != before[name]).any() for name, value in job.student.module.state_dict().items())
    assert set(job.state()) == {"fake", "student", "averages"}
