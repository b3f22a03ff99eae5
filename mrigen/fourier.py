"""The only Fourier transform in the project: centred and orthonormal, as in fastMRI and sigpy.

F x = fftshift(fft(ifftshift(x), norm="ortho")), with DC at index n // 2 of every transformed axis.
"""

import math

import torch
from torch import Tensor

from mrigen.tensors import ArrayLike, tensor_of

Axes = tuple[int, ...]
PLANE: Axes = (-2, -1)


def fft(x: ArrayLike, axes: Axes = PLANE) -> Tensor:
    """Centred orthonormal Fourier transform along ``axes``: image to k-space.

    Examples:
        >>> fft(torch.ones(4, 4)).abs().argmax()  # DC at (2, 2)
        tensor(10)
    """
    x = torch.fft.ifftshift(tensor_of(x), dim=axes)
    k: Tensor = torch.fft.fftshift(torch.fft.fftn(x, dim=axes, norm="ortho"), dim=axes)
    return k


def ifft(k: ArrayLike, axes: Axes = PLANE) -> Tensor:
    """Centred orthonormal inverse Fourier transform along ``axes``: k-space to image.

    Examples:
        >>> x = torch.randn(3, 5, 4, dtype=torch.complex64)
        >>> torch.allclose(ifft(fft(x)), x, atol=1e-6)
        True
    """
    k = torch.fft.ifftshift(tensor_of(k), dim=axes)
    x: Tensor = torch.fft.fftshift(torch.fft.ifftn(k, dim=axes, norm="ortho"), dim=axes)
    return x


def radii(height: int, width: int) -> Tensor:
    """Distance of the points of k-space from DC in periods per image, of its longer side, (H, W).

    Examples:
        >>> radii(4, 2)[2]  # a period across the shorter side is two across the longer one's length
        tensor([2., 0.])
    """
    rows, columns = (torch.arange(side) / side - (side // 2) / side for side in (height, width))
    return torch.hypot(rows[:, None], columns) * max(height, width)


def ifft_first(k: Tensor, count: int, axis: int) -> Tensor:
    """The first ``count`` pixels along ``axis`` of ``ifft`` along it: a product with so many rows of Fᴴ."""
    rows = ifft(torch.eye(k.shape[axis], dtype=torch.complex128, device=k.device), (0,))[:count]
    pixels: Tensor = torch.tensordot(k, rows.to(k.dtype), ([axis], [1]))
    return pixels.movedim(-1, axis)


def response(mask: Tensor, axes: Axes, kind: torch.dtype) -> Tensor:
    """What ``project`` multiplies a transform by: a real mask m with DC first, in numbers of ``kind``.

    On a CPU they are pairs (m, -m) in a last axis, which conjugate the transform too; on a GPU m is divided
    by the number of points, for which cuFFT would take one more pass over the images.
    """
    shifted = torch.fft.ifftshift(mask, dim=axes).to(kind)
    if not mask.is_cuda:
        return torch.stack([shifted, -shifted], -1)
    scaled: Tensor = shifted / math.prod(mask.shape[axis] for axis in axes)
    return scaled


def project(x: Tensor, seen: Tensor, axes: Axes = PLANE) -> Tensor:
    """Fᴴ M F x for the ``response`` of a k-space mask.

    Fᴴ M F is a circular convolution and commutes with the circular shifts of the centred transform,
    so that only the mask has to be shifted. On a CPU conj(Fᴴ M F x) = F conj(M F x) is computed, and what is
    returned is conjugated lazily (``torch.conj``): where products with it are conjugated again, as those with
    coil maps, no pass over the images is needed for that.
    """
    transform = torch.fft.fftn(x, dim=axes)
    if x.is_cuda:
        projected: Tensor = torch.fft.ifftn(transform.mul_(seen), dim=axes, norm="forward")
        return projected
    torch.view_as_real(transform).mul_(seen)
    conjugate: Tensor = torch.fft.fftn(transform, dim=axes, norm="forward")
    return conjugate.conj()
