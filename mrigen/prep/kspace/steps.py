"""The steps of the preparation, each on a batch of slices at once.

k-space is complex64 (n, coils, H, W) with DC in the centre.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mrigen import fourier
from mrigen.operators import MultiCoilMRI
from mrigen.operators.solve import conjugate_gradient

CG_STEPS = 8
MUCH, MUCH_WITH_NOISE = 0.1, 0.2  # of the data; sound scans leave 0.02 to 0.06


def crop_image(kspace: Tensor, size: int, axis: int) -> Tensor:
    """k-space of the image cropped to ``size`` pixels about its centre along ``axis`` (-2 or -1).

    The pixel at n // 2 stays the centre, so that the phase of the image does not change. Nothing
    is touched where the size is already right.
    """
    before = kspace.shape[axis]
    if size == before:
        return kspace
    image = fourier.ifft(kspace, (axis,))
    return fourier.fft(image.narrow(axis, before // 2 - size // 2, size), (axis,))


def acs_scale(acs: Tensor) -> Tensor:
    """99th percentile of the root-sum-of-squares image of the ACS alone, (n,).

    Args:
        acs: k-space that is zero outside the fully sampled centre.
    """
    image = torch.view_as_real(fourier.ifft(acs)).square().sum((1, 4)).sqrt()
    return torch.from_numpy(np.quantile(image.flatten(1).numpy(), 0.99, axis=1).astype(np.float32))


def low_resolution_phase(acs: Tensor, maps: Tensor) -> Tensor:
    """e^{iφ}, φ the phase of Σ_c conj(S_c) Fᴴ k_c of the ACS alone, (n, H, W); 1 where that is zero.

    Args:
        acs: k-space (n, coils, H, W), zero outside the fully sampled centre.
        maps: coil sensitivities S (n, coils, H, W).
    """
    image = (maps.conj() * fourier.ifft(acs)).sum(1)
    magnitude = image.abs()
    return torch.where(magnitude > 0, image / magnitude.clamp(min=torch.finfo(magnitude.dtype).tiny), 1)


def divide(kspace: Tensor, scale: Tensor) -> Tensor:
    """k-space over a real scale per slice: each component is divided once, correctly rounded."""
    shape = (-1, *[1] * kspace.ndim)
    return torch.view_as_complex(torch.view_as_real(kspace) / scale.view(shape))


def mismatch_note(mismatch: Tensor, noise_share: Tensor | None) -> str | None:
    """A line where the model leaves much more unexplained than noise does, in half of the slices or more.

    Args:
        mismatch: of the slices, (n,), see ``mismatch``.
        noise_share: expected ‖noise‖ / ‖k‖ of the slices, (n,); None where it is unknown.
    """
    noise = torch.zeros_like(mismatch) if noise_share is None else noise_share
    excess = (mismatch.square() - noise.square()).clamp(0).sqrt() * (mismatch > 2 * noise)
    share = excess.median().item()
    if share < (MUCH if noise_share is not None else MUCH_WITH_NOISE):
        return None
    unknown = " (noise included, whose level is unknown)" if noise_share is None else ""
    return (
        f"the coil maps leave {share:.0%} of the measured data unexplained{unknown}: are the axes (slices, "
        "coils, H, W)? Otherwise there is motion, or the ACS lines are too few"
    )


def mismatch(kspace: Tensor, operator: MultiCoilMRI) -> Tensor:
    """‖k - A x‖ / ‖k‖ per slice, x from at most 8 steps of conjugate gradients on AᴴA x = Aᴴk.

    So few, because undersampled coils can fit their own noise in the end.

    Args:
        kspace: measured k-space, zero where it was not measured.
        operator: A = M F S with the maps of these slices.

    Returns:
        How far the data are from the model, (n,), float32: noise, motion and what the maps miss.
    """
    x = conjugate_gradient(operator.normal, operator.adjoint(kspace), CG_STEPS)
    rest = kspace - operator.forward(x)
    return (_energy(rest) / _energy(kspace)).sqrt()


def _energy(x: Tensor) -> Tensor:
    """‖x‖² of each slice, (n,)."""
    return torch.view_as_real(x).square().sum((1, 2, 3, 4))
