"""Teachers of natural images: classes, augmentation that does not leak, averages and rates."""

import pytest
import torch
from gaussians import denoising, objective
from lightning_fabric import Fabric
from torch import nn

from mrigen.channels import ChannelLayout
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.augment import LABELS
from mrigen.engine.averages import EMA
from mrigen.engine.loop import fit
from mrigen.engine.micro_batches import MicroBatch
from mrigen.engine.optimizers import Optimizer
from mrigen.engine.params import OptimizerParams, TeacherParams
from mrigen.engine.teacher import TeacherJob
from mrigen.errors import UsageError
from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.operators import Measurements
from mrigen.operators.identity import Identity

SHAPE = (1, 4, 4)
ALL = MicroBatch(0, 1.0, last=True)
LEFT = torch.tensor([1.0, 0.5, 0.0, -0.5]).expand(1, 4, 4)


class TwoPictures:
    """Class 0 is bright on the left, class 1 the same upside down in brightness."""

    image_shape = SHAPE
    classes = 2

    def __init__(self, *, labelled=True):
        self.labelled = labelled

    def __len__(self):
        return 64

    def measurements(self, indices, *, fixed_further=False):
        kind = torch.tensor([i % 2 for i in indices])
        y = LEFT * (1 - 2 * kind.view(-1, 1, 1, 1))
        labels = nn.functional.one_hot(kind, 2).float() if self.labelled else None
        return Measurements(y, Identity(torch.zeros(1, *SHAPE)), torch.zeros(len(y)), labels)

    packed = measurements


def teacher(store, label_dim, **params):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NETWORKS.build(
            {
                "name": "mlp",
                "resolution": 4,
                "in_channels": 1,
                "out_channels": 1,
                "label_dim": label_dim,
                "augment_dim": LABELS if params.get("augment") else 0,
                "hidden": 64,
                "num_blocks": 2,
            }
        )
        model = PRECONDITIONERS.build({"name": "edm"}, network=network)
    conventions = ChannelLayout(image="real", image_channels=1, mask_channels=0, ones_channel=False)
    settings = TeacherParams(
        **{
            "images": 64 * 120,
            "batch": 64,
            "ema_halflife": 500,
            "objective": {"name": "standard"},
            "optimizer": OptimizerParams(lr=5e-3),
            **params,
        }
    )
    form = objective("standard", denoising(SHAPE))
    return TeacherJob(
        settings,
        NetworkDenoiser(model, conventions),
        form,
        store,
        Fabric(accelerator="cpu", devices=1),
        seed=1,
    )


def at_high_noise(job, labels=None, augment=None):
    """E[x | labels]: what is left when the noise hides the image."""
    averaged = NetworkDenoiser(job.result, job.denoiser.conventions)
    noise = 5 * torch.randn(256, *SHAPE, generator=torch.Generator().manual_seed(2))
    told = [None if t is None else t.expand(256, -1) for t in (labels, augment)]
    with torch.no_grad():
        return averaged(noise, torch.full((256,), 5.0), None, *told).mean(0)


def test_class_labels_choose_the_image(tmp_path):
    job = teacher(TwoPictures(), 2)
    fit(job, tmp_path, job.fabric, "teacher")
    for kind, sign in ((0, 1), (1, -1)):
        mean = at_high_noise(job, labels=nn.functional.one_hot(torch.tensor([kind]), 2).float())
        assert (mean - sign * LEFT).abs().max() < 0.15


def test_augmentation_does_not_leak(tmp_path):
    """Half of what the network sees is mirrored, yet without a label it knows the image as it is."""
    job = teacher(TwoPictures(), 2, augment=0.05, images=64 * 220)
    fit(job, tmp_path, job.fabric, "teacher")
    first = torch.tensor([[1.0, 0.0]])
    assert (at_high_noise(job, labels=first) - LEFT).abs().max() < 0.2
    flipped = torch.zeros(1, LABELS)
    flipped[0, 0] = 1
    assert (at_high_noise(job, labels=first, augment=flipped) - LEFT.flip(-1)).abs().max() < 0.25


def test_network_and_data_must_agree_on_the_classes():
    with pytest.raises(UsageError, match="label_dim is 2, but the data have 0 classes"):
        teacher(TwoPictures(labelled=False), 2).step(0)
    with pytest.raises(UsageError, match="label_dim is 3, but the data have 2 classes"):
        teacher(TwoPictures(), 3).step(0)


def test_fixed_further_masks_need_an_objective_that_masks():
    with pytest.raises(UsageError, match="standard hides nothing"):
        teacher(TwoPictures(), 2, fixed_further=True)


def test_average_forgets_half_in_a_half_life():
    """After h images the old weights count 1/2, after 2 h 1/4, whatever the batch size."""
    for batch in (10, 100):
        new = nn.Linear(3, 2)
        ema = EMA(new, halflife=1000)
        with torch.no_grad():
            for old in ema.module.parameters():
                old.zero_()
        for count, left in ((1000, 0.5), (2000, 0.25)):
            for seen in range(count - 1000 + batch, count + 1, batch):
                ema.update(new, 10**6 + seen, batch)
            for mean, weight in zip(ema.module.parameters(), new.parameters(), strict=True):
                torch.testing.assert_close(mean, (1 - left) * weight)


def test_average_is_short_at_the_start():
    """The half-life is at most 5 % of the images seen."""
    new = nn.Linear(3, 2)
    ema = EMA(new, halflife=10**6)
    with torch.no_grad():
        ema.module.weight.zero_()
    ema.update(new, images=2000, batch=100)
    torch.testing.assert_close(ema.module.weight, 0.5 * new.weight)


@pytest.mark.parametrize(
    ("params", "rates"),
    [
        ({"ramp_images": 400}, [0.25, 0.5, 0.75, 1.0, 1.0]),
        ({"decay": "linear"}, [0.9, 0.8, 0.7, 0.6, 0.5]),
        ({}, [1.0] * 5),
    ],
)
def test_learning_rate_follows_the_images(params, rates):
    module = nn.Linear(2, 1)
    optimizer = Optimizer(
        module, OptimizerParams(lr=1e-2, **params), 1000, Fabric(accelerator="cpu", devices=1)
    )
    for number, rate in enumerate(rates):
        loss = optimizer.module(torch.ones(1, 2)).square().sum()
        loss.backward()
        optimizer.step([(ALL, loss.detach())], 100 * (number + 1))
        assert optimizer.adam.param_groups[0]["lr"] == pytest.approx(1e-2 * rate)


def test_gradients_are_clipped_to_the_norm():
    module = nn.Linear(2, 1)
    optimizer = Optimizer(
        module, OptimizerParams(max_grad_norm=1.0), 1000, Fabric(accelerator="cpu", devices=1)
    )
    norms = []
    optimizer.adam.step = lambda: norms.append(
        torch.cat([p.grad.flatten() for p in module.parameters()]).norm().item()
    )
    for scale in (1e3, 1e-3):
        loss = scale * optimizer.module(torch.ones(1, 2)).sum()
        loss.backward()
        optimizer.step([(ALL, loss.detach())], 1)
    assert norms[0] == pytest.approx(1.0, rel=1e-3)
    assert norms[1] < 0.01
