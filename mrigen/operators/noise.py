"""How strong the measurement noise is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from pydantic import ValidationError, model_validator
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.registry import Params, describe

UNKNOWN = "unknown"


class Noise(Params):
    """σ of each sample: one value, or uniform between two; zero for noiseless data.

    Attributes:
        low: smallest standard deviation per real component, in image units.
        high: largest; None for ``low`` always.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> sigma = mg.operators.Noise(low=0.1, high=0.2).draw(100, torch.Generator().manual_seed(0))
        >>> bool((sigma >= 0.1).all() and (sigma <= 0.2).all())
        True
    """

    low: float = 0.0
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Noise:
        if not 0 <= self.low <= self.top < math.inf:
            raise ValueError("noise levels must be finite and not negative, the lower first")
        return self

    def __bool__(self) -> bool:
        return self.top > 0

    @property
    def top(self) -> float:
        """The largest standard deviation."""
        return self.low if self.high is None else self.high

    def draw(self, batch: int, rng: torch.Generator) -> Tensor:
        """σ of each sample, (batch,)."""
        if self.high is None:
            return torch.full((batch,), self.low)
        return self.low + (self.high - self.low) * torch.rand(batch, generator=rng)


class NoiseLevels(Noise):
    """σ of each sample: one of a number of levels, all equally likely.

    Attributes:
        levels: the levels.
    """

    levels: tuple[float, ...] = ()

    @classmethod
    def of(cls, levels: Tensor) -> NoiseLevels:
        """The law of some levels (n,)."""
        values = levels.tolist()
        return cls(low=min(values), high=max(values), levels=tuple(values))

    def draw(self, batch: int, rng: torch.Generator) -> Tensor:
        """σ of each sample, (batch,)."""
        return torch.tensor(self.levels)[torch.randint(len(self.levels), (batch,), generator=rng)]


def parse_noise(value: object) -> Noise | None:
    """A recipe's word for the noise.

    Args:
        value: σ as a number or its text; two numbers [a, b] for σ ~ U[a, b]; a mapping with ``low`` and
            ``high``, and ``levels`` where these are all; or ``"unknown"``.

    Returns:
        The law of σ, or None for ``"unknown"``: it has to be estimated from the measurements
        (``mrigen.data.noise_estimate``).

    Raises:
        UsageError: anything else.
    """
    if isinstance(value, Noise):
        return value
    if value == UNKNOWN:
        return None
    try:
        if isinstance(value, Mapping):
            return (NoiseLevels if "levels" in value else Noise)(**value)
        if isinstance(value, Sequence) and not isinstance(value, str):
            low, high = value
            return Noise(low=low, high=high)
        return Noise(low=value)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _wrong(value, f" ({describe(error)})") from error
    except (TypeError, ValueError) as error:
        raise _wrong(value) from error


def _wrong(value: object, why: str = "") -> UsageError:
    return UsageError(
        f"noise {value!r}: give σ (0.2), its range [0.1, 0.3] or {UNKNOWN!r}, in the units of the image{why}"
    )
