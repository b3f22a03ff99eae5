"""Very long baseline interferometry: visibilities with station gains, and what does not depend on these."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params

STATIONS = {
    "ALMA": (-23.03, -67.76),
    "LMT": (18.99, -97.31),
    "SMT": (32.70, -109.89),
    "SMA": (19.82, -155.48),
    "PV": (37.07, -3.39),
    "NOEMA": (44.63, 5.91),
}
"""Latitude and longitude east, in degrees, of telescopes of the Event Horizon Telescope."""
EARTH_RADIUS, WAVELENGTH = 6.371e6, 1.3e-3  # metres
LOWEST = math.sin(math.radians(10))  # sine of the lowest elevation of a telescope
MICROARCSECOND = math.radians(1 / 3600) * 1e-6
LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Visibilities(LinearOperator):
    """(A x)_j = g_a conj(g_b) (HW)^{-1/2} Σ_n x_n exp(−2πi u_j · n), stations a and b of baseline j.

    DCD eq. 16: g = |g| exp(−iφ) is a station's gain, another one at every time, of amplitude |g| and
    atmospheric phase φ; u is the baseline in wavelengths times the field of view, in cycles per field of
    view, and n the place of a pixel from the centre in fields of view, rows first. Images are real
    (B, 1, H, W), measurements complex (B, m), and the adjoint is Re Aᴴ y.

    As an image the measurement is the dirty image √(HW)/m Re Σ_j y_j exp(2πi u_j · n), as if all gains were
    1: nobody knows them before they are calibrated.

    Attributes:
        points: u, (B or 1, m, 2).
        gains: g_a conj(g_b), complex (B or 1, m).
        baselines: number of the time, a and b of each visibility, (1, m, 3).
        like: a zero image (B or 1, 1, H, W) that says shape and device.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.Visibilities.example()
        >>> A(A.zero_image() + 1).dtype
        torch.complex64
    """

    points: Tensor
    gains: Tensor
    baselines: Tensor
    like: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """G F x."""
        rows, columns = self._waves
        lines = rows @ x[:, 0].to(rows.dtype)
        return (lines * columns).sum(-1) * self.gains

    def adjoint(self, y: Tensor) -> Tensor:
        """Re Fᴴ Gᴴ y."""
        return self._spread(self.gains.conj() * y)

    def as_image(self, y: Tensor) -> Tensor:
        """The dirty image."""
        pixels = self.like.shape[-2] * self.like.shape[-1]
        return self._spread(y) * (pixels / self.points.shape[1])

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    def _spread(self, y: Tensor) -> Tensor:
        """Re Fᴴ y."""
        rows, columns = self._waves
        image = (rows.conj().mT * y[:, None, :]) @ columns.conj()
        return image.real[:, None]

    @cached_property
    def _waves(self) -> tuple[Tensor, Tensor]:
        """H^{-1/2} exp(−2πi u n) along rows and the same along columns, (B or 1, m, H) and (B or 1, m, W)."""
        waves = []
        for axis, length in enumerate(self.like.shape[-2:]):
            places = (torch.arange(length, device=self.like.device) - length // 2) / length
            angle = -2 * math.pi * self.points[..., axis, None] * places
            waves.append(torch.polar(torch.full_like(angle, length**-0.5), angle))
        return waves[0], waves[1]

    @classmethod
    def example(cls) -> Visibilities:
        """Two images of odd size, four stations at two times, other gains for each image."""
        rng = torch.Generator().manual_seed(0)
        pairs = [(time, a, b) for time in range(2) for a, b in combinations(range(4), 2)]
        gains = torch.randn(2, 12, dtype=torch.complex64, generator=rng)
        points = 6 * torch.rand(1, 12, 2, generator=rng) - 3
        return cls(points, gains, torch.tensor([pairs]), torch.zeros(2, 1, 9, 8))


@dataclass(frozen=True, eq=False)
class ClosureQuantities(Operator):
    """Closure phases and logarithms of closure amplitudes of visibilities V, not linear.

    Of every three stations at a time ψ = arg V_ab V_bc V_ca, as cos ψ and sin ψ, and of every four the two
    ln |V_ab V_cd| / |V_ac V_bd| and ln |V_ab V_cd| / |V_ad V_bc|, in which the gains of the stations cancel
    (Chael et al. 2018). V is of the brightness (1 + x) / 2 of images x in [−1, 1]. Measurements are real
    (B, 2 triangles + amplitudes).

    As an image they are the dirty image of the visibilities with these closures whose phases and log
    amplitudes have the least norm; the position of the source and its flux are lost.

    Attributes:
        of: the visibilities.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.ClosureQuantities(mg.operators.Visibilities.example())
        >>> A(A.zero_image()).shape  # 8 triangles, 4 amplitudes
        torch.Size([2, 20])
    """

    of: Visibilities

    def forward(self, x: Tensor) -> Tensor:
        """Cosines and sines of ψ and the logarithms, of brightness (1 + x) / 2."""
        return self.quantities(self.of.forward((1 + x) / 2))

    def quantities(self, visibilities: Tensor) -> Tensor:
        """The same of measured visibilities (B, m)."""
        triangles, amplitudes = self._closures
        phase = visibilities.angle() @ triangles.mT
        logs = visibilities.abs().clamp(min=LEAST).log() @ amplitudes.mT
        return torch.cat([phase.cos(), phase.sin(), logs], 1)

    def as_image(self, y: Tensor) -> Tensor:
        """The dirty image of the least phases and log amplitudes."""
        triangles, amplitudes = self._closures
        cosine, sine, logs = y.split([len(triangles), len(triangles), len(amplitudes)], 1)
        phase = torch.atan2(sine, cosine) @ torch.linalg.pinv(triangles).mT
        size = (logs @ torch.linalg.pinv(amplitudes).mT).exp()
        return self.of.as_image(torch.polar(size, phase))

    def zero_image(self) -> Tensor:
        """Zeros of the shape of the visibilities' images."""
        return self.of.zero_image()

    @cached_property
    def _closures(self) -> tuple[Tensor, Tensor]:
        """Rows of ±1 that add phases to closure phases, and log amplitudes to log closure amplitudes."""
        numbers = {tuple(key): j for j, key in enumerate(self.of.baselines[0].tolist())}
        phases, amplitudes = list(_triangles(numbers)), list(_quadrangles(numbers))
        return tuple(  # type: ignore[return-value]
            torch.tensor([[row.get(j, 0) for j in range(len(numbers))] for row in rows]).to(self.of.points)
            for rows in (phases, amplitudes)
        )

    @classmethod
    def example(cls) -> ClosureQuantities:
        """Of the example of the visibilities."""
        return cls(Visibilities.example())


Numbers = dict[tuple[int, ...], int]
"""Number of a visibility by its time and two stations."""


def _groups(numbers: Numbers, size: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Times, and so many stations that all saw the source then."""
    for time in sorted({key[0] for key in numbers}):
        seen = sorted({station for key in numbers if key[0] == time for station in key[1:]})
        for group in combinations(seen, size):
            yield time, group


def _triangles(numbers: Numbers) -> Iterator[dict[int, int]]:
    for time, (a, b, c) in _groups(numbers, 3):
        yield {numbers[time, a, b]: 1, numbers[time, b, c]: 1, numbers[time, a, c]: -1}


def _quadrangles(numbers: Numbers) -> Iterator[dict[int, int]]:
    for time, (a, b, c, d) in _groups(numbers, 4):
        first = {numbers[time, a, b]: 1, numbers[time, c, d]: 1}
        yield {**first, numbers[time, a, c]: -1, numbers[time, b, d]: -1}
        yield {**first, numbers[time, a, d]: -1, numbers[time, b, c]: -1}


class VLBIParams(Params):
    """An observation of a source by telescopes on the Earth.

    Attributes:
        declination: of the source, in degrees; 12.4 is that of M87.
        times: scans, evenly over the twelve hours around the source's transit at 90° west.
        field: side of the image in microarcseconds.
        amplitude_error: standard deviation of ln |g|.
        phase_error: standard deviation of φ, in radians.
    """

    declination: Annotated[float, Field(gt=-90, lt=90)] = 12.4
    times: Annotated[int, Field(ge=1)] = 8
    field: Annotated[float, Field(gt=0)] = 160.0
    amplitude_error: Annotated[float, Field(ge=0)] = 0.1
    phase_error: Annotated[float, Field(ge=0)] = 0.3


@CORRUPTIONS.register("vlbi")
class VLBI(ImageCorruption):
    """Visibilities of six telescopes of the Event Horizon Telescope at 1.3 mm, by random gains.

    As the Earth turns, a baseline (X, Y, Z) in wavelengths, seen at hour angle H from declination δ, is

        u = (sin H X + cos H Y, −sin δ cos H X + sin δ sin H Y + cos δ Z),

    where both telescopes have the source 10° or more above the horizon. Frequencies are the same for all
    images, ln |g| and φ are normal and another for every image, time and station.
    """

    Params = VLBIParams
    params: VLBIParams
    ambient_obstacle = f"an array of telescopes {FIXED}"

    def __init__(self, params: VLBIParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        if shape[0] != 1:
            raise UsageError(f"vlbi needs images of one channel, not {shape[0]}; prepare grey images")
        self._points, self._baselines = self._coverage()
        if not len(self._baselines):
            raise UsageError(
                f"vlbi: no two telescopes see a source at declination {params.declination:g}; choose another"
            )

    def draw(self, batch: int, rng: torch.Generator) -> Visibilities:
        """The same frequencies, gains of each sample's own."""
        shape = (batch, self.params.times, len(STATIONS))
        size = (self.params.amplitude_error * torch.randn(shape, generator=rng)).exp()
        gains = torch.polar(size, -self.params.phase_error * torch.randn(shape, generator=rng))
        time, a, b = self._baselines.unbind(1)
        pairs = gains[:, time, a] * gains[:, time, b].conj()
        return Visibilities(self._points[None], pairs, self._baselines[None], self.zeros(batch))

    def _coverage(self) -> tuple[Tensor, Tensor]:
        """Frequencies (m, 2) in cycles per field of view, rows first, and time and stations (m, 3)."""
        latitude, longitude = torch.tensor(list(STATIONS.values()), dtype=torch.float64).deg2rad().T
        along = latitude.cos()
        places = torch.stack([along * longitude.cos(), along * longitude.sin(), latitude.sin()], 1)
        delta = math.radians(self.params.declination)
        scale = EARTH_RADIUS / WAVELENGTH * self.params.field * MICROARCSECOND
        points, baselines = [], []
        for time in range(self.params.times):
            hour = math.pi * ((time + 0.5) / self.params.times - 0.5) + math.pi / 2  # of Greenwich
            sine, cosine = math.sin(hour), math.cos(hour)
            source = torch.tensor([math.cos(delta) * cosine, -math.cos(delta) * sine, math.sin(delta)])
            east = torch.tensor([sine, cosine, 0.0])
            north = torch.tensor([-math.sin(delta) * cosine, math.sin(delta) * sine, math.cos(delta)])
            seen = (places @ source.double() >= LOWEST).nonzero().flatten().tolist()
            for a, b in combinations(seen, 2):
                baseline = scale * (places[a] - places[b])
                # Rows count southwards, and columns, as on the sky, westwards.
                points.append([-float(baseline @ north.double()), -float(baseline @ east.double())])
                baselines.append([time, a, b])
        return torch.tensor(points).view(-1, 2), torch.tensor(baselines, dtype=torch.long).view(-1, 3)

    @classmethod
    def example(cls) -> Self:
        """Grey images of odd size."""
        return cls(VLBIParams(times=3), (1, 9, 8))
