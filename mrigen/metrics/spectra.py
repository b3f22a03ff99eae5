"""Radial power spectra of images against those of references, and the part of the image that heads fill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

HIGH = 0.25
SMALLEST = 8
EDGES_PER_OCTAVE = 2
TAPER = 1 / 32


@dataclass(frozen=True)
class RadialSpectrum:
    """Mean power of reference images by distance from the centre of k-space.

    Power is |FFT|² of pixels, of magnitudes where images are complex. Bands are half octaves of |k| in cycles
    per shorter side N of the image, [1, √2), [√2, 2) ... and all beyond N / 2, without the centre.

    Attributes:
        power: mean power (bands,) of the references, float64.
        high: mean power of the references where |k| is beyond a quarter of the pixels (k = 8 for 32 x 32), float64.
        shape: of an image, (C, H, W).
        weight: what images are multiplied with first, (H, W) or (1,); 1 for whole images.
    """

    power: Tensor
    high: float
    shape: tuple[int, ...]
    weight: Tensor

    @classmethod
    def of(cls, images: Tensor, weight: Tensor | None = None) -> RadialSpectrum:
        """The mean spectrum of images (n, C, H, W).

        Args:
            images: real, or complex, whose magnitudes are taken.
            weight: (H, W), to look at a part of the image only.

        Raises:
            ValueError: images of fewer than 8 pixels on a side, which have no bands to speak of.
        """
        if min(images.shape[-2:]) < SMALLEST:
            raise ValueError(f"a spectrum needs images of at least {SMALLEST} x {SMALLEST} pixels")
        weight = torch.ones(1, dtype=torch.float64) if weight is None else weight.double().cpu()
        power, high = band_power(images, weight)
        return cls(power.mean(0), float(high.mean()), tuple(images.shape[1:]), weight)

    def ratios(self, images: Tensor) -> Tensor:
        """Power of each image over the references' mean, (n, bands): 1 on average where sets are alike."""
        return band_power(images, self.weight)[0] / self.power

    def high_frequency_ratio(self, images: Tensor) -> Tensor:
        """Power of each image beyond a quarter of its pixels over the references' mean, (n,).

        The mean is more than 1 for noise and less for blur.
        """
        return band_power(images, self.weight)[1] / self.high

    def log_distance(self, images: Tensor) -> float:
        """Root mean square over bands of 10 log₁₀ of the ratio of mean powers, in dB."""
        return log_distance(self.ratios(images))


def log_distance(ratios: Tensor) -> float:
    """Root mean square over bands of 10 log₁₀ of mean ratios (n, bands), in dB."""
    return float((10 * ratios.mean(0).log10()).square().mean().sqrt())


def band_power(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean power of each image (n, C, H, W) in each band, (n, bands), and beyond |k| = N/4, (n,); float64."""
    grey = (images.abs() if images.is_complex() else images).cpu().double() * weight
    power = torch.fft.fft2(grey, norm="ortho").abs().square().mean(1).flatten(1)
    height, width = images.shape[-2:]
    radius = torch.hypot(
        torch.fft.fftfreq(height, dtype=torch.float64)[:, None], torch.fft.fftfreq(width, dtype=torch.float64)
    ).flatten()
    octave = (radius * min(height, width)).clamp(0.5, min(height, width) / 2).log2() + 1e-9
    band = (EDGES_PER_OCTAVE * octave).floor().long()
    members = torch.stack([band == number for number in range(int(band.max()) + 1)]).double()
    members = members[members.sum(1) > 0]
    return power @ (members / members.sum(1, keepdim=True)).T, power[:, radius > HIGH].mean(1)


def head_weight(references: Tensor) -> Tensor:
    """A weight (H, W) in [0, 1] for the part of the image that the references fill.

    Pixels whose mean magnitude is above Otsu's threshold of the mean image, with holes filled; the edge is
    smoothed by a Gaussian of a 32nd of the shorter side, so that it adds little to spectra. The weight
    belongs to the references: it is the same for all images that are compared with them.

    Args:
        references: images (n, C, H, W).
    """
    from scipy.ndimage import binary_fill_holes, gaussian_filter
    from skimage.filters import threshold_otsu

    mean = references.abs().cpu().double().mean((0, 1)).numpy()
    mask = binary_fill_holes(mean > threshold_otsu(mean))
    return torch.from_numpy(gaussian_filter(mask.astype(np.float64), min(mask.shape) * TAPER))
