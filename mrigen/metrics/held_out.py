"""How well a denoiser predicts what was measured but hidden from it: model choice without clean data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.data.stores import Store
from mrigen.denoiser import Denoiser
from mrigen.errors import UsageError
from mrigen.operators.base import linear
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like, to_device

LEVELS = (0.1, 0.5, 2.0)
BATCH = 64


def held_out_errors(
    denoise: Denoiser,
    batches: Iterable[Measurements],
    corruption: Corruption,
    seed: int,
    levels: Iterable[float] = LEVELS,
) -> dict[float, float]:
    """‖(N − Ñ) f(Ñ(x + σ ε), Ã, σ) − (Aᴴ y − Ãᴴ y)‖² / ‖Aᴴ y − Ãᴴ y‖² for each noise level σ.

    N = Aᴴ A, Ñ = Ãᴴ Ã with Ã ~ p(Ã | A), and N − Ñ keeps what Ã dropped: the pixels or lines that were
    measured and that the network did not see. Ambient Diffusion (appendix C) keeps the checkpoint with
    the lowest such error. Masks and noise depend on the seed alone, the same for every denoiser.

    Args:
        denoise: a denoiser that is given Ã.
        batches: held-out measurements.
        corruption: their corruption, whose further corruption hides.
        seed: key of Ã and of the noise.
        levels: noise levels.

    Raises:
        UsageError: nothing can be hidden from such measurements.
    """
    squared = dict.fromkeys(levels, 0.0)
    power = 0.0
    for number, batch in enumerate(batches):
        A = linear(batch.operator)
        further = linear(corruption.corrupt_further(A, seeds.seeded_rng(seed, "held-out mask", number)))
        hidden = A.adjoint(batch.y) - further.adjoint(batch.y)
        power += _power(hidden)
        for level in squared:
            rng = seeds.seeded_rng(seed, "held-out noise", number, str(level))
            noise = level * to_device(randn_like(hidden.cpu(), rng), hidden.device)
            network_input = further.adjoint(batch.y) + further.normal(noise)
            sigma = torch.full((len(batch),), level, device=network_input.device)
            estimate = denoise(network_input, sigma, further, batch.labels)
            squared[level] += _power(A.normal(estimate) - further.normal(estimate) - hidden)
    if not power:
        raise UsageError(
            "held-out error: the further corruption hid nothing of these data; take a model whose further "
            "corruption hides something"
        )
    return {level: value / power for level, value in squared.items()}


def batches_of(store: Store, device: torch.device, batch: int = BATCH) -> Iterator[Measurements]:
    """All measurements of a store in order."""
    for first in range(0, len(store), batch):
        yield store.measurements(list(range(first, min(first + batch, len(store))))).to(device=device)


def _power(x: Tensor) -> float:
    return float(x.abs().double().square().sum())
