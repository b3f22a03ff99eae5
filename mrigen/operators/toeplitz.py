"""The normal operator of non-uniform Fourier sampling as a convolution, which needs no gridding.

With k_j in cycles per field of view and real weights w_j of the samples (1 or 0 for what is kept or not, or a
density compensation), Fᴴ W F of pixels n and m depends on n − m alone,

    (Fᴴ W F)_nm = t_(n−m),  t_d = (HW)^{-1} Σ_j w_j exp(2πi (k_j1 d_1 / H + k_j2 d_2 / W)),

so that it is a convolution with t of the image padded with zeros to twice its size (Wajer and Pruessmann
2001, "Major speedup of reconstruction for sensitivity encoding with arbitrary trajectories"). t_(−d) =
conj(t_d) makes the transform λ of t real and the product its own adjoint up to rounding; it is positive
semi-definite up to the accuracy of t. Even and odd frequencies of a padded row of N pixels are transforms
of N pixels, of x_n and of x_n exp(−πi n / N). With φ_p these phases for the four parities p of both axes
and λ_p the part of λ that belongs to them,

    Fᴴ W F = ¼ Σ_p conj(φ_p) F_0ᴴ λ_p F_0 φ_p

with Fourier transforms F_0 of the image's own size: nothing is padded, and coil maps commute with φ_p.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from mrigen import fourier
from mrigen.operators.mri import gram


def response(t: Tensor) -> Tensor:
    """The ``fourier.response`` of λ_p / 4 for each of the four parities.

    Args:
        t: complex (B, 1, 2 H − 1, 2 W − 1), t_0 in the middle.

    Returns:
        Real, of masks (B, 4, H, W).
    """
    height, width = ((n + 1) // 2 for n in t.shape[-2:])
    spectrum = fourier.fft(pad(t, (1, 0, 1, 0))).real * (math.sqrt(height * width) / 2)
    spectrum = spectrum.roll((-(height % 2), -(width % 2)), fourier.PLANE)
    parts = torch.cat([spectrum[..., p::2, q::2] for p, q in product((0, 1), repeat=2)], 1)
    return fourier.response(parts, fourier.PLANE, parts.dtype)


def toeplitz(maps: Tensor, seen: Tensor, x: Tensor) -> Tensor:
    """Σ_c conj(S_c) Fᴴ W F S_c x, and its real part for real x.

    Args:
        maps: complex (B or 1, coils, H, W).
        seen: ``response`` of t in the precision of x, of masks (B or 1, 4, H, W).
        x: real or complex (B or 1, 1, H, W).

    Returns:
        (B, 1, H, W), of the kind of x.
    """
    rows, columns = (_phases(n, maps) for n in maps.shape[-2:])
    parts = []
    for number, (p, q) in enumerate(product((0, 1), repeat=2)):
        phase = rows[p][:, None] * columns[q]
        parts.append(phase.conj() * gram(maps, seen[:, number : number + 1], fourier.PLANE, phase * x))
    total = parts[0] + parts[1] + parts[2] + parts[3]
    return total if x.is_complex() else total.real


def _phases(count: int, like: Tensor) -> Tensor:
    """1 and exp(−πi n / N) of the pixels n along an axis, (2, N)."""
    angle = -torch.pi * torch.arange(count, dtype=torch.float64, device=like.device) / count
    ones = torch.ones_like(angle)
    return torch.stack([ones + 0j, torch.polar(ones, angle)]).to(like.dtype)
