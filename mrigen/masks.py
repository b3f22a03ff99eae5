"""Sampling masks of k-space as functions: bool tensors with DC in the centre.

Masks of lines are (W,), masks of points (H, W); ``mrigen.operators.MultiCoilMRI`` takes both. The
distributions behind them, with their further corruption, are ``mrigen.operators.masks``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.operators.masks import MASKS, MaskDistribution

__all__ = ["draw", "equispaced", "exact_random", "magic", "poisson_disc", "random", "random_points"]


def draw(name: str, shape: int | tuple[int, int], *, seed: int = 0, **params: Any) -> Tensor:
    """A mask of any registered distribution, or of a class in a file of yours.

    Args:
        name: see ``mrigen list masks``; or ``mine.py:Mask``.
        shape: W for lines, (H, W) for points.
        seed: of the draw.
        params: parameters of the distribution.

    Returns:
        bool (W,) of lines, or (H, W) of points.

    Raises:
        UsageError: unknown name or parameter, or more fully sampled points than the acceleration allows.

    Examples:
        >>> draw("exact-random", 12, acceleration=3, acs_lines=2).sum()
        tensor(4)
    """
    if not isinstance(name, str):
        raise UsageError(
            f"masks: {name!r} is no name; write draw('random', 320, acceleration=4), "
            "or draw(shape=320, **mapping)"
        )
    mask_distribution: MaskDistribution = MASKS.build({"name": name, **params})
    lines = isinstance(shape, int | np.integer)
    sizes = (1, shape) if isinstance(shape, int | np.integer) else shape
    if (
        not isinstance(sizes, tuple)
        or len(sizes) != 2
        or not all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0 for n in sizes)
    ):
        raise UsageError(f"masks: {shape} is no size of a k-space; give W, or (H, W) for points")
    height, width = int(sizes[0]), int(sizes[1])
    acquired = torch.ones(width, dtype=torch.bool)
    if mask_distribution.rows(2) == 2 and lines:
        raise UsageError(f"masks: {name} draws points; give (H, W), not {shape}")
    mask_distribution.check(acquired, height, further=False)
    mask = mask_distribution.sample(acquired[None], height, seeds.seeded_rng(seed, "mask"))[0, 0]
    return mask[0] if len(mask) == 1 and lines else mask


def exact_random(
    width: int, acceleration: float = 4, acs_lines: int | None = None, *, seed: int = 0
) -> Tensor:
    """Exactly floor(W / R) lines: the ACS lines and uniformly random others (Aali et al. 2025).

    Args:
        width: W, number of phase-encode lines.
        acceleration: R.
        acs_lines: fully sampled lines around DC; by default 0.32 W / R.
        seed: of the draw.

    Returns:
        bool (W,).

    Raises:
        UsageError: more ACS lines than floor(W / R).

    Examples:
        >>> mask = exact_random(width=320, acceleration=4, acs_lines=20, seed=0)
        >>> mask.shape, int(mask.sum()), bool(mask[150:170].all())
        (torch.Size([320]), 80, True)
    """
    return draw("exact-random", width, seed=seed, acceleration=acceleration, acs_lines=acs_lines)


def random(width: int, acceleration: float = 4, acs_lines: int | None = None, *, seed: int = 0) -> Tensor:
    """FastMRI's random lines, W / R on average; arguments as ``exact_random``.

    Examples:
        >>> random(64, acceleration=4, acs_lines=8)[28:36].all()
        tensor(True)
    """
    return draw("random", width, seed=seed, acceleration=acceleration, acs_lines=acs_lines)


def equispaced(width: int, acceleration: float = 4, acs_lines: int | None = None, *, seed: int = 0) -> Tensor:
    """FastMRI's equispaced lines from a random offset; arguments as ``exact_random``.

    Examples:
        >>> equispaced(64, acceleration=4, acs_lines=8).shape
        torch.Size([64])
    """
    return draw("equispaced", width, seed=seed, acceleration=acceleration, acs_lines=acs_lines)


def magic(width: int, acceleration: int = 4, acs_lines: int | None = None, *, seed: int = 0) -> Tensor:
    """Offset equispaced lines for conjugate symmetry (Defazio 2019); arguments as ``exact_random``.

    Examples:
        >>> magic(64, acceleration=4, acs_lines=8).shape
        torch.Size([64])
    """
    return draw("magic", width, seed=seed, acceleration=acceleration, acs_lines=acs_lines)


def poisson_disc(
    shape: tuple[int, int],
    acceleration: float = 4,
    centre: int | None = None,
    *,
    seed: int = 0,
    uniform: float = 0.0,
    crop_corner: bool = True,
) -> Tensor:
    """Exactly floor(HW / R) Poisson-disc points around a fully sampled square, for two phase encodes.

    Args:
        shape: (H, W).
        acceleration: R.
        centre: side of the square; by default 0.32 W / R.
        seed: of the pattern.
        uniform: share of the points outside the square that are thrown uniformly; ambient training
            needs some, see ``mrigen.operators.masks.points``.
        crop_corner: leave out the corners of k-space.

    Returns:
        bool (H, W).

    Raises:
        UsageError: the centre does not fit.

    Examples:
        >>> mask = poisson_disc((24, 32), acceleration=4, centre=6)
        >>> mask.shape, int(mask.sum())
        (torch.Size([24, 32]), 192)
    """
    own = {"uniform": uniform, "crop_corner": crop_corner, "patterns": 4096}
    return draw("poisson-disc", shape, seed=seed, acceleration=acceleration, acs_lines=centre, **own)


def random_points(
    shape: tuple[int, int], acceleration: float = 4, centre: int | None = None, *, seed: int = 0
) -> Tensor:
    """Exactly floor(HW / R) uniformly random points around a fully sampled square; see ``poisson_disc``.

    Examples:
        >>> int(random_points((24, 32), acceleration=4, centre=6).sum())
        192
    """
    return draw("random-points", shape, seed=seed, acceleration=acceleration, acs_lines=centre)
