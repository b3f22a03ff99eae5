"""Teacher training queues its work on a device and reads nothing back, given a batch that was read ahead.

Tensors on torch's device ``meta`` have no values: whatever reads one of them fails, on every machine.
"""

from functools import partial

import pytest
import torch
from gpu import needs_gpu, noise_of_the_processor, without_waiting

from mrigen.data.mri_store import PackedSlices, pack
from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.operators.corruption import make_corruption
from mrigen.operators.fourier_masks import FourierMask
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption, MultiCoilMRI
from mrigen.operators.noise import Noise
from mrigen.tensors import randn_like

SHAPE = (2, 8, 8)
LINES = {"name": "exact-random", "acceleration": 2, "acs_lines": 2}
MASKED_LINES = {"name": "fourier-lines", "mask": LINES}
INPAINTING = {"name": "inpainting", "missing": 0.4}


def drawn(purpose):
    return torch.Generator().manual_seed(purpose)


def images(spec, objective, noise=None, consistency=None):
    """An objective and a batch of a corruption of images."""
    corruption = make_corruption(spec, SHAPE, noise)
    extra = {} if consistency is None else {"consistency": consistency}
    objective = OBJECTIVES.build({"name": objective, **extra}, corruption=corruption)
    return objective, corruption.measure(torch.randn(4, *SHAPE, generator=drawn(0)), drawn(1))


def scanner():
    """The ambient objective and packed slices of three coils."""
    maps = torch.randn(4, 3, 8, 8, dtype=torch.complex64, generator=drawn(2))
    law = MASKS.build(LINES)
    objective = OBJECTIVES.build({"name": "ambient"}, corruption=MRICorruption(None, law))
    mask = law.draw(torch.ones(4, 8, dtype=torch.bool), drawn(3))[:, None]
    samples = pack(maps.numpy(), mask.numpy())
    return objective, PackedSlices(torch.from_numpy(samples), maps, mask[:, None])


CASES = {
    "mri": scanner,
    "inpainting": partial(images, INPAINTING, "ambient"),
    "lines": partial(images, MASKED_LINES, "ambient"),
    "noisy inpainting": partial(images, INPAINTING, "ambient-tweedie", Noise(low=0.1)),
    "noise": partial(images, {"name": "identity"}, "tweedie", Noise(low=0.1, high=0.3)),
    "noise, consistency": partial(
        images, {"name": "identity"}, "tweedie", Noise(low=0.3), {"weight": 1.0, "images": 2}
    ),
    "blur": partial(images, {"name": "gaussian-blur", "std": 1.0, "size": 3}, "standard"),
}


@pytest.fixture(params=CASES)
def case(request):
    """An objective and what was read for it, Ã included."""
    objective, packed = CASES[request.param]()
    if objective.conditions_on_mask:
        packed = packed.mask_further(lambda A: objective.corrupt_further(A, objective.corruption, drawn(4)))
    return objective, packed


def halved(x, sigma, A_tilde=None, labels=None, augment=None):
    return 0.5 * x


def loss(objective, packed):
    batch = packed.unpack()
    if not isinstance(batch.operator, MultiCoilMRI | FourierMask):  # which have no mirror image
        batch = objective.augment(batch, Augmentation(0.9), drawn(6))
    return objective(halved, batch, drawn(5))


def test_a_teacher_reads_nothing_from_the_device(case):
    objective, packed = case
    here = loss(objective, packed)
    away = loss(objective, packed.to(device="meta"))
    assert away.is_meta
    assert (away.shape, away.dtype) == (here.shape, here.dtype)


@pytest.mark.parametrize("case", ["mri", "inpainting", "lines", "noisy inpainting"], indirect=True)
def test_further_masks_are_part_of_the_masks(case):
    _, packed = case
    batch = packed.unpack()
    x = randn_like(batch.operator.zero_image(), drawn(7))
    hidden, seen = batch.further.normal(x), batch.operator.normal(x)
    shown = batch.further.conditioning() > 0
    assert (batch.operator.conditioning()[shown] == 1).all()
    assert not torch.equal(hidden, seen)
    assert packed.mask_further(None) is packed  # drawn once


@needs_gpu
def test_a_teacher_does_not_wait_for_the_gpu(case):
    objective, packed = case
    here = loss(objective, packed)
    away = packed.to(device="cuda")
    loss(objective, away)  # libraries set themselves up
    with without_waiting():
        loss(objective, away)
    with noise_of_the_processor(), without_waiting():
        found = loss(objective, away)
    torch.testing.assert_close(found.cpu(), here, rtol=1e-3, atol=1e-3)
