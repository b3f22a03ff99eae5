"""Elementwise work of multi-coil MRI in one pass over a GPU's memory, by Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 256  # that one program of the GPU combines


@triton.jit  # type: ignore[untyped-decorator]
def combine_kernel(
    maps: tl.tensor,
    images: tl.tensor,
    combined: tl.tensor,
    coils: tl.constexpr,
    pixels: tl.tensor,
    maps_sample: tl.tensor,
    maps_coil: tl.tensor,
    block: tl.constexpr,
) -> None:
    """One block of pixels of one sample; numbers are interleaved real and imaginary parts."""
    sample = tl.program_id(1).to(tl.int64)
    number = 2 * tl.program_id(0) * block + tl.arange(0, 2 * block)
    inside = number < 2 * pixels
    real = tl.zeros((block,), tl.float32)
    imag = tl.zeros((block,), tl.float32)
    for coil in range(coils):
        at = 2 * (sample * maps_sample + coil * maps_coil) + number
        of = 2 * (sample * coils + coil) * pixels + number
        map_pair = tl.load(maps + at, mask=inside, other=0.0)
        image_pair = tl.load(images + of, mask=inside, other=0.0)
        map_real, map_imag = tl.split(tl.reshape(map_pair, (block, 2)))
        image_real, image_imag = tl.split(tl.reshape(image_pair, (block, 2)))
        real += map_real * image_real + map_imag * image_imag
        imag += map_real * image_imag - map_imag * image_real
    pair = tl.reshape(tl.join(real, imag), (2 * block,))
    tl.store(combined + 2 * sample * pixels + number, pair, mask=inside)


def combine(maps: Tensor, images: Tensor) -> Tensor:
    """Σ_c conj(S_c) x_c; torch alone would write and read conj(S) and the products too.

    Args:
        maps: complex64 (B, coils, H, W); may be expanded along B.
        images: complex64 (B, coils, H, W).

    Returns:
        complex64 (B, 1, H, W).
    """
    batch, coils, height, width = images.shape
    combined = images.new_empty(batch, 1, height, width)
    pixels = height * width
    if maps.stride()[2:] != (width, 1):
        maps = maps.contiguous()
    parts = [torch.view_as_real(t.resolve_conj()) for t in (maps, images.contiguous(), combined)]
    blocks = (triton.cdiv(pixels, PIXELS), batch)
    combine_kernel[blocks](*parts, coils, pixels, *maps.stride()[:2], PIXELS)
    return combined


def works(device: torch.device) -> bool:
    """Whether ``combine`` runs on a GPU: Triton needs a C compiler and Python's headers beside it."""
    ones = torch.ones(1, 2, 1, 1, dtype=torch.complex64, device=device)
    try:
        return bool((combine(ones, ones) == 2).all())
    except Exception:  # noqa: BLE001 (whatever its compilers raise)
        return False
