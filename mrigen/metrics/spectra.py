"""Statistics of images against those of references: radial power spectra, whole and of the head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrigen import seeds
from mrigen.fourier import fft
from mrigen.metrics.frechet import Statistics, bootstrap_interval, frechet_distance, statistics
from mrigen.metrics.principal import MOST, PrincipalComponents, held_out
from mrigen.tensors import evenly_spaced

HEAD = "_head"
HIGH = 0.25
FLOOR = 1e-12
SMALLEST = 8
EDGES_PER_OCTAVE = 2
TAPER = 1 / 32
BRIGHT = 0.2


@dataclass(frozen=True)
class RadialSpectrum:
    """Mean power of reference images by distance from the centre of k-space.

    Power is |FFT|² of pixels, of magnitudes where images are complex. Bands are half octaves of |k| in cycles
    per shorter side N of the image, [1, √2), [√2, 2) ... and all beyond N / 2, without the centre.

    Attributes:
        power: mean power (bands,) of the references, float64.
        high: their mean power beyond |k| = 1/4 per pixel (k = 8 for 32 x 32).
        weight: what images are multiplied with first, (H, W) or (1,); 1 for whole images.
    """

    power: Tensor
    high: float
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
        return cls(power.mean(0), float(high.mean()), weight)

    def ratios(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Power of each image over the references' mean: in each band, (n, bands), and beyond N/4, (n,).

        The means are 1 where sets are alike; the second is more for noise and less for blur. Less than 1e-12,
        in squared units of the images, counts as that: rounding of constant images is no power.
        """
        power, high = band_power(images, self.weight)
        return power.clamp(min=FLOOR) / self.power.clamp(min=FLOOR), high.clamp(min=FLOOR) / max(
            self.high, FLOOR
        )


def log_distance(ratios: Tensor) -> float:
    """Log-spectral distance: root mean square over bands of 10 log₁₀ of mean ratios (n, bands), in dB."""
    return float((10 * ratios.mean(0).log10()).square().mean().sqrt())


def band_power(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean power of each image (n, C, H, W) in each band, (n, bands), and beyond |k| = N/4, (n,); float64."""
    grey = (images.abs() if images.is_complex() else images).cpu().double() * weight
    power = fft(grey).abs().square().mean(1).flatten(1)
    height, width = images.shape[-2:]
    rows, columns = ((torch.arange(n) - n // 2).double() / n for n in (height, width))
    radius = torch.hypot(*torch.meshgrid(rows, columns, indexing="ij")).flatten()
    octave = (radius * min(height, width)).clamp(0.5, min(height, width) / 2).log2() + 1e-9
    band = (EDGES_PER_OCTAVE * octave).floor().long()
    members = torch.stack([band == number for number in range(int(band.max()) + 1)]).double()
    members = members[members.sum(1) > 0]
    return power @ (members / members.sum(1, keepdim=True)).T, power[:, radius > HIGH].mean(1)


def head_weight(references: Tensor) -> Tensor:
    """A weight (H, W) in [0, 1] for the part of the image that the references fill.

    Pixels whose mean magnitude is above a fifth of its 95th percentile, with holes filled; the edge is
    smoothed by a Gaussian of a 32nd of the shorter side, so that it adds little to spectra. The weight
    belongs to the references: it is the same for all images that are compared with them.

    Args:
        references: images (n, C, H, W).
    """
    from scipy.ndimage import binary_fill_holes, gaussian_filter

    mean = references.abs().cpu().double().mean((0, 1)).numpy()
    mask = binary_fill_holes(mean > BRIGHT * np.quantile(mean, 0.95))
    return torch.from_numpy(gaussian_filter(mask.astype(np.float64), min(mask.shape) * TAPER))


@dataclass(frozen=True)
class ImageStatistics:
    """Numbers of sets of images that no network sees: spectra and principal components of references.

    For magnitudes of MR images each number has a twin ``NAME_head`` of the part that heads fill (see
    ``head_weight``), which the noise of the background is not in.

    Attributes:
        components: of the references, whole and, for complex ones, of the head.
        spectra: the same of their spectra.
        held_out: mean energy of left-out references outside components of the others, by name.
        features: statistics of the references' features (of the head), where there is a head.
    """

    components: dict[str, PrincipalComponents]
    spectra: dict[str, RadialSpectrum]
    held_out: dict[str, float]
    features: Statistics | None

    @classmethod
    def of(cls, references: Tensor) -> ImageStatistics | None:
        """Of references (n, C, H, W), 1,000 evenly over more; None for fewer than 8 pixels on a side.

        Raises:
            ValueError: fewer than two references, or a pixel that is not finite.
        """
        if min(references.shape[-2:]) < SMALLEST:
            return None
        references = references[evenly_spaced(len(references), MOST)]
        weights: dict[str, Tensor | None] = {"": None}
        if references.is_complex():
            weights[HEAD] = head_weight(references)
        components, spectra, energy, features = {}, {}, {}, None
        for part, weight in weights.items():
            components[part] = PrincipalComponents.of(references, weight=weight)
            spectra[part] = RadialSpectrum.of(references, weight)
            own, outside = held_out(references, components[part])
            energy[f"energy_outside{part}"] = float(outside.mean())
            features = statistics(own) if part == HEAD else None
        return cls(components, spectra, energy, features)

    def row(self, batches: Iterable[Tensor], resamples: int = 0, seed: int = 0) -> dict[str, Any]:
        """Numbers of images by name, and bootstrap intervals of 95 % under ``NAME_interval``.

        ``energy_outside``: mean fraction of an image's energy outside 200 principal components of the
        references. ``high_frequency_ratio``: mean power beyond |k| = N/4 over the references'.
        ``log_spectral_distance``: in dB. ``fd_pca_head``: Fréchet distance of features of the head.

        Args:
            batches: images (B, C, H, W).
            resamples: bootstrap sets, 0 for no interval.
            seed: key of the draws.
        """
        parts: dict[str, list[Tensor]] = {}
        for images in batches:
            for part, spectrum in self.spectra.items():
                ratios, high = spectrum.ratios(images)
                numbers = {
                    f"energy_outside{part}": self.components[part].energy_outside(images),
                    f"high_frequency_ratio{part}": high,
                    f"log_spectral_distance{part}": ratios,
                }
                if part == HEAD:
                    numbers[f"fd_pca{part}"] = self.components[part].features(images)
                for name, values in numbers.items():
                    parts.setdefault(name, []).append(values)
        row: dict[str, Any] = {}
        for name, listed in parts.items():
            values = torch.cat(listed)
            rng = seeds.seeded_rng(seed, "bootstrap", name)
            if name.startswith("fd_") and self.features is not None:
                row[name] = frechet_distance(statistics(values), self.features)
                interval = partial(bootstrap_interval, values, self.features, resamples, rng)
            else:
                number = log_distance if name.startswith("log") else _mean
                row[name] = number(values)
                interval = partial(_interval, values, number, resamples, rng)
            if resamples:
                row[f"{name}_interval"] = interval()
        return row


def _mean(values: Tensor) -> float:
    return float(values.mean())


def _interval(
    values: Tensor,
    number: Callable[[Tensor], float],
    resamples: int,
    rng: torch.Generator,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentiles of a number of images drawn with replacement, moved to have the number as their median."""
    draws = torch.randint(len(values), (resamples, len(values)), generator=rng)
    drawn = np.array([number(values[index]) for index in draws])
    low, high = np.quantile(drawn - np.median(drawn), [(1 - level) / 2, (1 + level) / 2])
    return max(0.0, number(values) + float(low)), number(values) + float(high)
