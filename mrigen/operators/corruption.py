"""A corruption: a distribution p(A) over forward models, with the noise level of the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Measurements
from mrigen.operators.masks import MaskLaw
from mrigen.operators.mri import MultiCoilMRI


class Corruption(ABC):
    """Distribution over operators A, and over operators Ã that see a little less than A.

    Attributes:
        sigma: standard deviation of the measurement noise per real component, in image units.
    """

    sigma: float = 0.0

    @abstractmethod
    def draw(self, batch: int, generator: torch.Generator) -> LinearOperator:
        """A ~ p(A), one per sample."""

    @abstractmethod
    def further(self, operator: LinearOperator, generator: torch.Generator) -> LinearOperator:
        """Ã ~ p(Ã | A), one per sample; the operator itself where nothing needs to be dropped."""

    def require_admissible(self) -> None:
        """Refuse a corruption with which ambient training cannot work (Ambient Diffusion, theorem 4.1).

        Raises:
            UsageError: names the reason.
        """
        return

    def measure(self, x: Tensor, generator: torch.Generator) -> Measurements:
        """Corrupt clean images as the data are: y = A x + σ ε with a fresh A per sample."""
        operator = self.draw(len(x), generator).to(device=x.device)
        y = operator.forward(x)
        if self.sigma > 0:
            y = y + operator.noise(y, self.sigma, generator)
        return Measurements(y, operator, torch.full((len(x),), self.sigma, device=x.device))


class MapBank(Protocol):
    """Slices to take coil maps and masks from, a ``MeasurementStore`` for example."""

    def __len__(self) -> int: ...

    def bank(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (n, coils, H, W), masks (n, 1, 1 or H, W) and acquired lines (n, W) of some slices."""
        ...


class MRICorruption(Corruption):
    """Coil maps drawn from a bank, masks drawn from a law, or both drawn together from the bank.

    Args:
        bank: where maps come from.
        law: mask law, also of the further corruption.
        fresh: draw new masks from the law; otherwise take the slice's own (the only way for data
            that were undersampled at the scanner).
        sigma: noise level of the data in image units.
    """

    def __init__(self, bank: MapBank, law: MaskLaw, *, fresh: bool = True, sigma: float = 0.0) -> None:
        self.maps = bank
        self.law = law
        self.fresh = fresh
        self.sigma = sigma

    def draw(self, batch: int, generator: torch.Generator) -> MultiCoilMRI:
        """Maps of a random slice; its own mask or a fresh one."""
        index = torch.randint(len(self.maps), (batch,), generator=generator).tolist()
        maps, masks, acquired = self.maps.bank(index)
        if self.fresh:
            masks = self.law.draw(acquired, generator)[:, None, None]
        return MultiCoilMRI(maps, masks)

    def further(self, operator: LinearOperator, generator: torch.Generator) -> MultiCoilMRI:
        """Drop a few points outside the ACS of each mask."""
        if not isinstance(operator, MultiCoilMRI):
            raise TypeError(f"MRICorruption cannot corrupt a {type(operator).__name__} further")
        mask = self.law.further(operator.mask.cpu(), generator)
        return operator.with_mask(mask.to(operator.mask.device))

    def require_admissible(self) -> None:
        """Equispaced and magic masks are refused."""
        if not self.law.admissible:
            raise UsageError(f"ambient training cannot use these masks: {self.law.reason}; use exact-random")
