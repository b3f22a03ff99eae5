"""Distillation queues its work on a device and reads nothing back.

Tensors on torch's device ``meta`` have no values: whatever reads one of them fails, on every machine.
"""

import pytest
import torch
from gpu import needs_gpu, noise_of_the_processor, without_waiting

from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.losses import LOSSES
from mrigen.operators.corruption import make_corruption
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption
from mrigen.operators.noise import Noise
from mrigen.tensors import DeviceCopy, randn_like

SHAPE = (2, 8, 8)
SCORES = [name for name in LOSSES.names() if LOSSES[name].uses_score]
SPECS = [
    {"name": "inpainting", "missing": 0.4},
    {"name": "missing-box", "size": 3},
    {"name": "fourier-lines", "mask": {"name": "exact-random", "acceleration": 2, "acs_lines": 2}},
    {"name": "compressed-sensing", "measurements": 20},
]


class Bank:
    """Maps of two slices, of which the first is asked for every time."""

    maps = torch.randn(2, 3, 8, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return 2

    def maps_and_masks(self, indices):
        mask = torch.ones(len(indices), 1, 1, 8, dtype=torch.bool)
        return self.maps[indices], mask, mask[:, 0, 0]


def scanner():
    law = MASKS.build({"name": "exact-random", "acceleration": 2, "acs_lines": 2})
    return MRICorruption(Bank(), law)


CASES = {spec["name"]: (lambda spec=spec: make_corruption(spec, SHAPE), SHAPE) for spec in SPECS}
CASES["mri"] = scanner, (1, 8, 8)


@pytest.fixture(params=CASES)
def case(request):
    """A corruption, and images of its kind on the CPU."""
    make, shape = CASES[request.param]
    dtype = torch.complex64 if request.param == "mri" else torch.float32
    return make(), randn_like(torch.zeros(4, *shape, dtype=dtype), torch.Generator().manual_seed(3))


def halved(x, sigma, A_tilde=None, labels=None, augment=None):
    return 0.5 * x


def losses(name, corruption, x, objective="ambient"):
    """Fake score's and generator's losses per sample, and the latter's gradient."""
    loss = LOSSES.build(
        {"name": name}, objective=OBJECTIVES.build({"name": objective}, corruption=corruption)
    )
    generator = torch.Generator().manual_seed(5)
    x = x.requires_grad_()
    fake = loss.fake_score_loss(halved, x, corruption, generator)
    student = loss.generator_loss(halved, halved, x, corruption, generator)
    return [fake, student.detach(), torch.autograd.grad(student.sum(), x)[0]]


@pytest.mark.parametrize("name", SCORES)
def test_losses_read_nothing_from_the_device(case, name):
    corruption, x = case
    here = losses(name, corruption, x)
    away = losses(name, corruption, x.detach().to("meta"))
    assert [(t.shape, t.dtype) for t in away] == [(t.shape, t.dtype) for t in here]
    assert all(t.is_meta for t in away)


def test_noisy_data_read_nothing_from_the_device():
    corruption = make_corruption(SPECS[0], SHAPE, Noise(low=0.1))
    found = losses("sid", corruption, torch.zeros(4, *SHAPE, device="meta"), "ambient-tweedie")
    assert all(t.is_meta for t in found)


def test_reading_is_noticed():
    """The further masks of an operator that is on the device already, from where they would be read."""
    corruption = scanner()
    operator = corruption.draw(4, torch.Generator().manual_seed(6)).to(device="meta")
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        corruption.corrupt_further(operator, torch.Generator().manual_seed(7))


def test_what_two_operators_share_is_sent_once():
    corruption = scanner()
    A = corruption.draw(4, torch.Generator().manual_seed(8))
    further = corruption.corrupt_further(A, torch.Generator().manual_seed(9))
    send = DeviceCopy(torch.device("meta"))
    there, also = send(A), send(further)
    assert there.maps is also.maps
    assert there.maps.is_meta
    assert there.mask is not also.mask


@needs_gpu
def test_losses_of_a_gpu_do_not_wait_for_it(case):
    corruption, x = case
    here = losses("sid", corruption, x)
    away = x.detach().cuda()
    losses("sid", corruption, away)  # libraries set themselves up
    with without_waiting():
        losses("sid", corruption, away)
    with noise_of_the_processor(), without_waiting():
        found = losses("sid", corruption, away)
    torch.testing.assert_close([t.cpu() for t in found], here, rtol=1e-3, atol=1e-3)
