"""Noise level of every coil, from a noise scan or from where there is air.

Levels are standard deviations per real component of an acquired k-space sample, as σ counts everywhere in
mrigen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen import fourier

SIDE, SHARE = 30, 8
EDGE_SHARE = 16
TOLERANCE = 6.0
"""Standard errors by which a region may exceed the quietest one."""
ROUNDING = 1e-5


def scan_levels(noise: Tensor) -> Tensor:
    """σ of each coil from samples of a noise scan, complex (coils, n)."""
    centred = torch.view_as_real(noise - noise.mean(-1, keepdim=True)).double()
    return (centred.square().sum((-1, -2)) / (2 * (noise.shape[-1] - 1))).sqrt()


def corner_levels(kspace: Tensor, acquired: Tensor | None = None) -> Tensor | None:
    """σ of each coil from the four corners of its images.

    The transform is orthonormal: white noise has the same variance in the image as in k-space, times the
    part of k-space that was acquired. Corners in which there is signal are left out: those whose power
    exceeds the quietest corner's by more than six standard errors.

    Args:
        kspace: fully sampled, complex (n, coils, H, W), DC in the centre; zero-padded lines are zero.
        acquired: lines that are not zero-padded, bool (W,); None for all.

    Returns:
        float64 (coils,); None where the corners hold nothing but rounding error.
    """
    height, width = (min(SIDE, max(1, side // SHARE)) for side in kspace.shape[-2:])
    images = fourier.ifft(kspace)
    rows, columns = (slice(None, height), slice(-height, None)), (slice(None, width), slice(-width, None))
    powers = torch.stack([_power(images[..., r, c]) for r in rows for c in columns])
    share = 1.0 if acquired is None else float(acquired.double().mean())
    return _quietest(powers / share, kspace, len(kspace) * height * width)


def edge_levels(kspace: Tensor, mask: Tensor) -> Tensor | None:
    """σ of each coil from the two ends of the readout, for undersampled lines.

    The readout of every measured line is complete: its transform shows air at the ends of the field of view,
    whatever lines are missing.

    Args:
        kspace: complex (n, coils, H, W).
        mask: measured lines, bool (W,).

    Returns:
        float64 (coils,); None where the ends hold nothing but rounding error.
    """
    side = max(1, kspace.shape[-2] // EDGE_SHARE)
    hybrid = fourier.ifft(kspace[..., mask], (-2,))
    powers = torch.stack([_power(hybrid[..., :side, :]), _power(hybrid[..., -side:, :])])
    return _quietest(powers, kspace, len(kspace) * side * int(mask.sum()))


def _power(region: Tensor) -> Tensor:
    """Mean square of a real component in each coil, (coils,)."""
    values = torch.view_as_real(region).double().square()
    return values.movedim(1, 0).flatten(1).mean(1)


def _quietest(powers: Tensor, kspace: Tensor, count: int) -> Tensor | None:
    """Mean over the regions that are as quiet as the quietest, (regions, coils) to (coils,)."""
    if (powers.min(0).values.sqrt() < ROUNDING * _power(kspace).sqrt()).any():
        return None
    lowest = powers.min(0).values
    quiet = powers <= lowest * (1 + TOLERANCE / count**0.5)
    levels: Tensor = ((powers * quiet).sum(0) / quiet.sum(0)).sqrt()
    return levels
