"""ESPIRiT coil sensitivity maps (Uecker et al. 2014), batched."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.coils import ESPIRIT_CROP
from mrigen.coils.calibration import Extent, pixel_samples, region
from mrigen.coils.eigenmaps import PixelMatrices, eigenmaps
from mrigen.errors import UsageError
from mrigen.tensors import ArrayLike, tensor_of

CACHE = 1 << 20  # complex numbers per temporary on a CPU: 8 MiB, so that it stays in the cache
MEMORY = 1 << 29  # and on an accelerator, at most: 4 GiB


def espirit(
    kspace: ArrayLike,
    calib_width: Extent | tuple[Extent, Extent] = 24,
    kernel_width: int = 6,
    thresh: float = 0.02,
    crop: float = ESPIRIT_CROP,
    *,
    maps: int = 1,
) -> Tensor:
    """Coil sensitivity maps from a fully sampled centre of k-space.

    The maps of a pixel are the eigenvectors with eigenvalue 1 of G(r) = K⁻² Σ_i h_i(r) h_i(r)ᴴ (see
    ``mrigen.coils.calibration``). Parameters, the scale of the eigenvalues and the phase reference
    (coil 0 is real and not negative) are those of ``sigpy.mri.app.EspiritCalib``, whose crop is 0.95.
    BART's ``ecalib -m1`` has crop 0.8 and -t 0.001, which is a threshold of *squared* singular values:
    thresh √0.001 here.

    Args:
        kspace: complex (..., coils, H, W), tensor or numpy array, DC at (H // 2, W // 2); leading axes are
            independent slices.
        calib_width: points of the calibration region per axis, around DC and at most the whole axis;
            one number, or (readout, lines). A slice names the points themselves, for example
            ``(384, acs_region(mask))``.
        kernel_width: K, side of the kernel.
        thresh: singular values of the calibration matrix above ``thresh`` times the largest are kept.
        crop: maps are zero where their eigenvalue is not above ``crop``; 0 keeps them everywhere.
        maps: number of map sets; a second one describes what folds into a small field of view.

    Returns:
        complex64 (..., coils, H, W) for one set, otherwise (..., maps, coils, H, W); Σ_c |S_c|² is 1,
        or 0 where cropped.

    Raises:
        UsageError: a parameter is out of range, k-space is not finite, or the calibration region is
            smaller than the kernel or not fully sampled.

    Examples:
        >>> import mrigen
        >>> kspace = torch.randn(2, 16, 16, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        >>> maps = mrigen.espirit(kspace, calib_width=12, kernel_width=3, crop=0)
        >>> maps.shape, torch.allclose(maps.abs().square().sum(0), torch.ones(16, 16), atol=1e-5)
        (torch.Size([2, 16, 16]), True)
    """
    if not 0 <= crop < 1:
        raise UsageError(f"crop {crop} must be at least 0 and below 1")
    sensitivities, values = espirit_eigen(kspace, calib_width, kernel_width, thresh, maps=maps)
    sensitivities.masked_fill_((values <= crop)[..., None, :, :], 0)
    return sensitivities.squeeze(-4) if maps == 1 else sensitivities


@torch.no_grad()
def espirit_eigen(
    kspace: ArrayLike,
    calib_width: Extent | tuple[Extent, Extent] = 24,
    kernel_width: int = 6,
    thresh: float = 0.02,
    *,
    maps: int = 1,
) -> tuple[Tensor, Tensor]:
    """Uncropped maps and their eigenvalues; arguments and errors as for ``espirit``.

    Returns:
        maps, complex64 (..., maps, coils, H, W), and eigenvalues, float32 (..., maps, H, W).
    """
    kspace = tensor_of(kspace)
    _check_kspace(kspace)
    *leading, coils, height, width = kspace.shape
    extents = calib_width if isinstance(calib_width, tuple) else (calib_width, calib_width)
    _check_parameters(coils, extents, kernel_width, thresh, maps)
    calib = kspace[..., region(height, extents[0]), region(width, extents[1])]
    calib = calib.reshape(-1, *calib.shape[-3:])
    _check_calibration(calib, kernel_width)

    tile = _tile(kspace.device)
    at_once = max(1, tile // (maps * coils * height * width * (2 * kernel_width - 1)))
    together = (
        at_once if kspace.device.type == "cpu" else max(1, tile // (8 * (coils * kernel_width**2) ** 2))
    )
    all_maps = kspace.new_empty((len(calib), maps, coils, height, width), dtype=torch.complex64)
    values = kspace.new_empty((len(calib), maps, height, width), dtype=torch.float32)
    for first in range(0, len(calib), together):
        samples = pixel_samples(calib[first : first + together], kernel_width, thresh)
        for number, part in enumerate(samples.split(at_once)):
            start = first + number * at_once
            slices = slice(start, start + len(part))
            eigenmaps(PixelMatrices(part, height, width), all_maps[slices], values[slices], tile)
    return all_maps.view(*leading, *all_maps.shape[1:]), values.view(*leading, *values.shape[1:])


def _tile(device: torch.device) -> int:
    """Complex numbers that a temporary may hold; about eight of this size are in use at once."""
    if device.type == "cpu":
        return CACHE
    free = 8 * MEMORY * 8
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + idle
    return max(CACHE, min(MEMORY, free // 64))


def _check_kspace(kspace: Tensor) -> None:
    if kspace.ndim < 3 or not kspace.is_complex() or kspace.numel() == 0:
        raise UsageError(
            f"kspace must be complex (..., coils, H, W) with at least one coil, "
            f"not {kspace.dtype} {tuple(kspace.shape)}"
        )
    if not torch.stack(torch.view_as_real(kspace).aminmax()).isfinite().all():
        raise UsageError("kspace has NaN or infinite values: mend or leave out the slices that have them")


def _check_parameters(
    coils: int, extents: tuple[Extent, Extent], kernel_width: int, thresh: float, maps: int
) -> None:
    widths = [extent for extent in extents if isinstance(extent, int)]
    if min(widths, default=1) < 1:
        raise UsageError(f"calib_width {min(widths)} must be at least 1")
    if kernel_width < 1:
        raise UsageError(f"kernel_width {kernel_width} must be at least 1")
    if not 0 < thresh < 1:
        raise UsageError(f"thresh {thresh} must lie between 0 and 1")
    if not 1 <= maps <= coils:
        raise UsageError(f"maps {maps} must lie between 1 and the number of coils, {coils}")


def _check_calibration(calib: Tensor, kernel_width: int) -> None:
    height, width = calib.shape[-2:]
    if min(height, width) < kernel_width:
        raise UsageError(
            f"a calibration region of {height} x {width} points cannot host a "
            f"{kernel_width} x {kernel_width} kernel: "
            f"lower kernel_width to {min(height, width)} or measure more ACS lines"
        )
    missing = (calib == 0).all(1).sum((1, 2))
    if missing.any():
        worst = int(missing.argmax())
        raise UsageError(
            f"{int(missing[worst])} of the {height * width} points of the calibration region were not "
            f"measured (zero in all coils, slice {worst}): make calib_width fit the fully sampled centre"
        )
