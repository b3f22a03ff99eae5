"""Class labels reach the generator, the teacher and the fake score alike."""

import pytest
import torch
from gaussians import denoising, fixed_mask, objective

from mrigen.channels import ChannelLayout
from mrigen.losses import LOSSES, Generator

SHAPE = (1, 2, 2)
LABELS = torch.eye(3)[[2, 0, 1, 1]]


class Recorder:
    """A denoiser that answers a multiple of x and remembers the labels."""

    def __init__(self, factor):
        self.factor, self.seen = factor, []

    def __call__(self, x, sigma, A_tilde=None, labels=None, augment=None):
        self.seen.append(labels)
        assert augment is None
        return self.factor * x


@pytest.mark.parametrize("name", ["sid", "dmd", "sds"])
@pytest.mark.parametrize(
    ("form", "corruption"), [("tweedie", denoising(SHAPE, 0.2)), ("ambient", fixed_mask([1, 1, 0, 1], SHAPE))]
)
def test_both_scores_are_told_the_class(name, form, corruption, generator):
    teacher, fake = Recorder(0.9), Recorder(0.8)
    loss = LOSSES.build({"name": name}, objective=objective(form, corruption))
    x_g = torch.randn(4, *SHAPE, generator=generator, requires_grad=True)
    loss.generator_loss(teacher, fake, x_g, corruption, generator, LABELS).sum().backward()
    assert x_g.grad.abs().max() > 0
    loss.fake_score_loss(fake, x_g, corruption, generator, LABELS)
    seen = teacher.seen + fake.seen
    assert len(teacher.seen) >= 1
    assert len(fake.seen) >= 1
    assert all(torch.equal(labels, LABELS) for labels in seen)


def test_generator_is_told_the_class(generator):
    class Network(torch.nn.Module):
        conventions = ChannelLayout(image="real", image_channels=1, mask_channels=0, ones_channel=False)

        def forward(self, x, sigma, A_tilde=None, labels=None, augment=None):
            return x + labels.argmax(1).view(-1, 1, 1, 1)

    z = torch.randn(4, *SHAPE, generator=generator)
    images = Generator(Network(), 2.5)(z, labels=LABELS)
    torch.testing.assert_close(images - 2.5 * z, LABELS.argmax(1).float().view(4, 1, 1, 1).expand(4, *SHAPE))
