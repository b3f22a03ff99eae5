"""Images from seeds: what an image depends on, and the fixed-mask sampler by its closed form."""

import threading
from types import SimpleNamespace

import pytest
import torch
from gaussians import Given, covariance, denoising, exact, objective
from torch import nn

from mrigen import seeds
from mrigen.channels import ChannelLayout
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.engine import sampling
from mrigen.engine.sampling import StudentSampler, TeacherSampler, random_labels, seeded_labels
from mrigen.errors import UsageError
from mrigen.losses import Generator
from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.operators.corruption import make_corruption
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.noise import Noise

SHAPE = (1, 2, 2)
COV = covariance(4, seed=8)


def denoiser(mask_channels=1, classes=0, preconditioning="edm"):
    conventions = ChannelLayout(
        image="real", image_channels=1, mask_channels=mask_channels, ones_channel=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NETWORKS.build(
            {
                "name": "mlp",
                "resolution": 2,
                "in_channels": conventions.network_channels,
                "out_channels": 2 if preconditioning == "iddpm" else 1,
                "label_dim": classes,
                "hidden": 16,
                "num_blocks": 2,
            }
        )
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
        model = PRECONDITIONERS.build({"name": preconditioning}, network=network)
    return NetworkDenoiser(model, conventions)


class ExactNetwork(nn.Module):
    """E[x | M (x + σ ε), M] of Gaussian images, called as a network."""

    def __init__(self):
        super().__init__()
        self.network = SimpleNamespace(params=SimpleNamespace(label_dim=0))
        self.dummy = nn.Parameter(torch.zeros(()))
        self.nearest_level = float

    def forward(self, channels, sigma, labels, augment):
        return exact(COV)(channels[:, :1], sigma, PixelMask(channels[:, 1:] > 0, 1))


def inpainting(noise=0.0):
    return make_corruption({"name": "inpainting", "missing": 0.3}, SHAPE, Noise(low=noise))


def teacher_sampler(spec, batch, classes=0, label=None):
    corruption = inpainting()
    form = objective("ambient", corruption)
    return TeacherSampler(
        denoiser(classes=classes), form, corruption, SAMPLERS.build(spec), SHAPE, batch, label
    )


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "heun", "steps": 5},
        {"name": "euler", "steps": 5, "churn": 10},
        {"name": "guided", "steps": 5, "weight": 0.05},
        {"name": "measurement", "steps": 5, "masks": 2},
    ],
)
def test_image_depends_on_its_seed_alone(spec):
    """Whatever the batch and the seeds beside it; noise, masks and classes belong to the seed."""
    wanted = [3, 11, 4, 0, 7]
    whole = torch.cat(list(teacher_sampler(spec, 5, classes=3)(wanted)))
    for batch in (1, 2):
        parts = torch.cat(list(teacher_sampler(spec, batch, classes=3)(wanted)))
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    turned = torch.cat(list(teacher_sampler(spec, 3, classes=3)(wanted[::-1])))
    torch.testing.assert_close(turned.flip(0), whole, atol=1e-5, rtol=1e-5)
    assert torch.pdist(whole.flatten(1)).min() > 1e-3


def test_student_image_depends_on_its_seed_alone():
    student = Generator(denoiser(0, classes=3))
    runs = [torch.cat(list(StudentSampler(student, SHAPE, batch)([5, 1, 9]))) for batch in (1, 2, 3)]
    torch.testing.assert_close(runs[0], runs[2], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(runs[1], runs[2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [TeacherSampler, StudentSampler])
def test_operators_of_the_next_batch_are_drawn_beside_the_network(kind, monkeypatch):
    """In another thread, and the images are those of one batch after the other."""
    real, drawn = sampling.further_operators, []

    def watched(objective, corruption, image_seeds, *purpose):
        drawn.append((tuple(image_seeds), threading.current_thread() is threading.main_thread()))
        return real(objective, corruption, image_seeds, *purpose)

    monkeypatch.setattr(sampling, "further_operators", watched)
    run = teacher_sampler({"name": "heun", "steps": 3}, 2)
    if kind is StudentSampler:
        generator = Generator(run._denoiser, 2.5)
        run = StudentSampler(generator, run.shape, 2, run._objective, run._corruption)
    images = run([5, 6, 7])
    first = next(images)
    assert {part for part, _ in drawn} <= {(5, 6), (7,)}
    together = torch.cat([first, *images])
    assert drawn == [((5, 6), False), ((7,), False)]
    assert torch.equal(together, torch.cat([*run([5, 6]), *run([7])]))


def test_noise_of_a_seed_differs_between_purposes():
    """Latent and churn of one seed are independent draws, the same in every call."""
    draws = [seeds.seeded_noise([4], (1, 500, 2), *p, complex_valued=False) for p in ((), ("churn", 0))]
    again = seeds.seeded_noise([9, 4], (1, 500, 2), complex_valued=False)[1:]
    assert torch.equal(draws[0], again)
    assert abs(float((draws[0] * draws[1]).mean())) < 0.15


def test_fixed_mask_sampler_fills_in_the_conditional_mean():
    """With Ã fixed, x̃ ~ N(0, C̃) and the rest is its conditional mean: covariance C Ã (Ã C Ã)⁺ Ã C."""
    mask = torch.tensor([1, 1, 0, 1], dtype=torch.bool)
    corruption = Given(PixelMask(mask.view(1, *SHAPE), 1))
    form = objective("ambient", corruption)
    conventions = ChannelLayout(image="real", image_channels=1, mask_channels=1, ones_channel=False)
    teacher = NetworkDenoiser(ExactNetwork(), conventions)
    run = TeacherSampler(teacher, form, corruption, SAMPLERS.build({"name": "heun", "steps": 40}), SHAPE, 8)
    images = torch.cat(list(run(list(range(8))))).flatten(1).double()
    seen = COV[mask][:, mask]
    conditional = torch.linalg.solve(seen, COV[mask]).mT
    torch.testing.assert_close(images, images[:, mask] @ conditional.mT, atol=1e-4, rtol=0)
    latents = seeds.seeded_noise(list(range(8)), SHAPE, complex_valued=False).flatten(1).double()[:, mask]
    values, vectors = torch.linalg.eigh(seen)
    root = (vectors * values.sqrt()) @ vectors.mT
    torch.testing.assert_close(images[:, mask], latents @ root, atol=0.03, rtol=0)


def test_a_teacher_of_discrete_levels_is_asked_at_those():
    teacher, corruption = denoiser(preconditioning="iddpm"), inpainting()
    asked, coefficients = set(), teacher.network.coefficients
    teacher.network.coefficients = lambda sigma: asked.update(sigma.tolist()) or coefficients(sigma)
    run = TeacherSampler(
        teacher,
        objective("ambient", corruption),
        corruption,
        SAMPLERS.build({"name": "heun", "steps": 6, "churn": 3.0}),
        SHAPE,
    )
    assert torch.cat(list(run([0, 1]))).isfinite().all()
    assert asked
    assert asked <= set(teacher.network.levels.tolist())


@pytest.mark.parametrize("name", ["guided", "measurement"])
def test_guidance_without_masks_is_refused(name):
    corruption = denoising(SHAPE, 0.2)
    sampler = SAMPLERS.build({"name": name, "steps": 2})
    run = TeacherSampler(denoiser(0), objective("tweedie", corruption), corruption, sampler, SHAPE)
    with pytest.raises(UsageError, match="use heun or tweedie"):
        next(run([0]))


def test_truncation_level_is_the_noise_of_the_data():
    """A Tweedie teacher is sampled down to its data's σ: fewer evaluations than levels."""
    corruption = denoising(SHAPE, 0.5)
    sampler = SAMPLERS.build({"name": "tweedie", "steps": 18})
    run = TeacherSampler(denoiser(0), objective("tweedie", corruption), corruption, sampler, SHAPE)
    assert run.evaluations == 2 * sum(level >= 0.5 for level in sampler.params.grid.steps(18)) - 1
    assert next(run([0])).shape == (1, *SHAPE)


def test_stopped_images_lie_beside_the_others():
    """Channels of the images at each stop, then those of the whole trajectory; seeds alone decide."""
    spec = {"name": "heun", "steps": 12}
    run, stops = teacher_sampler(spec, 2), [0.2, 2.0]
    found = run.early([0.2, 2.0, 100.0])
    assert list(found) == stops
    both = torch.cat(list(run.ladder([3, 1, 2], stops)))
    assert both.shape == (3, 3 * SHAPE[0], *SHAPE[1:])
    torch.testing.assert_close(both[:, 2:], torch.cat(list(run([3, 1, 2]))))
    for number, (stop, evaluations) in enumerate(found.items()):
        own = teacher_sampler({**spec, "stop": stop}, 3)
        torch.testing.assert_close(both[:, number : number + 1], torch.cat(list(own([3, 1, 2]))))
        assert own.evaluations == evaluations


def test_one_class_for_all_images_or_a_class_per_seed():
    chosen = torch.cat(list(teacher_sampler({"name": "euler", "steps": 3}, 4, 3, label=2)([1, 2])))
    own = [
        torch.cat(list(teacher_sampler({"name": "euler", "steps": 3}, 4, 3, label=k)([1]))) for k in range(3)
    ]
    torch.testing.assert_close(chosen[:1], own[2])
    assert not torch.allclose(own[0], own[2])
    classes = seeded_labels(3, list(range(300)), None).argmax(1)
    assert torch.bincount(classes).min() > 60
    assert torch.equal(seeded_labels(3, [17], None)[0], seeded_labels(3, [2, 17], None)[1])


def test_classes_that_a_model_does_not_know_are_refused():
    with pytest.raises(UsageError, match=r"class 3: this model knows 3 classes \(0 to 2\)"):
        teacher_sampler({"name": "euler"}, 4, 3, label=3)
    with pytest.raises(UsageError, match="class 0: this model knows 0 classes"):
        teacher_sampler({"name": "euler"}, 4, 0, label=0)


def test_random_labels_are_one_hot_and_uniform(generator):
    labels = random_labels(4, 4000, generator)
    assert torch.equal(labels.sum(1), torch.ones(4000))
    assert (labels.mean(0) - 0.25).abs().max() < 0.04
    assert random_labels(0, 8, generator) is None
