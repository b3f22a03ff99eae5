"""ESPIRiT as the paper writes it, in double precision: SVD, full-size Fourier transforms, eigh per pixel."""

import numpy as np


def dense_espirit(
    kspace: np.ndarray, rows: slice, columns: slice, kernel: int, thresh: float
) -> tuple[np.ndarray, np.ndarray]:
    """All eigenvectors (H, W, coils, coils) and eigenvalues (H, W, coils) of G, both descending."""
    coils, height, width = kspace.shape
    calib = kspace[:, rows, columns].astype(np.complex128)
    blocks = np.lib.stride_tricks.sliding_window_view(calib, (kernel, kernel), axis=(1, 2))
    blocks = blocks.transpose(1, 2, 0, 3, 4).reshape(-1, coils * kernel**2)
    _, singular, right = np.linalg.svd(blocks, full_matrices=False)
    kernels = right[singular > thresh * singular[0]].reshape(-1, coils, kernel, kernel)
    padded = np.zeros((len(kernels), coils, height, width), dtype=complex)
    top, left = height // 2 - kernel // 2, width // 2 - kernel // 2
    padded[..., top : top + kernel, left : left + kernel] = kernels
    shifted = np.fft.ifftshift(padded, axes=(-2, -1))
    images = np.fft.fftshift(np.fft.ifft2(shifted), axes=(-2, -1)) * height * width / kernel
    pixels = images.transpose(2, 3, 1, 0)
    values, vectors = np.linalg.eigh(pixels @ pixels.conj().swapaxes(-1, -2))
    return vectors[..., ::-1].copy(), values[..., ::-1].copy()
