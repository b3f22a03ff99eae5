"""Class labels of generated images."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from mrigen import seeds
from mrigen.denoiser import NetworkDenoiser
from mrigen.errors import UsageError
from mrigen.networks import Preconditioner


def classes(denoiser: NetworkDenoiser) -> int:
    """Number of classes that a denoiser's network knows, 0 for an unconditional one."""
    return cast("Preconditioner", denoiser.network).network.params.label_dim


def random_labels(count: int, batch: int, rng: torch.Generator) -> Tensor | None:
    """Labels (batch, count), each class as likely as the others; None where there are no classes."""
    if not count:
        return None
    return one_hot(torch.randint(count, (batch,), generator=rng), count)


def seeded_labels(count: int, wanted: list[int], label: int | None) -> Tensor | None:
    """Labels of seeds: ``label`` for all, or a class that depends on the seed alone.

    Raises:
        UsageError: there is no such class.
    """
    if label is not None and not 0 <= label < count:
        raise UsageError(
            f"class {label}: this model knows {count} classes" + (f" (0 to {count - 1})" * bool(count))
        )
    if not count:
        return None
    if label is not None:
        return one_hot(torch.full((len(wanted),), label), count)
    drawn = [int(torch.randint(count, (), generator=seeds.seeded_rng(s, "class"))) for s in wanted]
    return one_hot(torch.tensor(drawn, dtype=torch.int64), count)


def one_hot(index: Tensor, count: int) -> Tensor:
    """Class indices (B,) as float32 (B, count)."""
    return functional.one_hot(index, count).float()
