"""The samplers of Tweedie teachers: down to 0, or to the noise level of their data."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from mrigen.diffusion.samplers.base import SAMPLERS, SamplerParams
from mrigen.diffusion.samplers.edm import ChurnParams, Heun
from mrigen.errors import UsageError


class TweedieSamplerParams(ChurnParams):
    """Where to stop.

    Attributes:
        truncate: stop (Teacher-Truncated), at ``stop`` or else at the lowest level at which the teacher was
            trained, the data's (smallest) noise; or go down to 0 (Teacher-Full).
    """

    truncate: bool = True

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if isinstance(values, dict) and "sigma" in values:
            raise ValueError("sigma is called stop now, as with every sampler")
        return values

    @model_validator(mode="after")
    def _fitting(self) -> TweedieSamplerParams:
        if not self.truncate and self.stop is not None:
            raise ValueError("stop without truncate; leave one of them out")
        return self


@SAMPLERS.register("tweedie")
class TweedieSampler(Heun):
    """Heun's steps; truncated, the denoiser's estimate is returned when the next level would be below σ.

    RSD algorithm 3, with EDM's sampler as in DCD.
    """

    Params: ClassVar[type[SamplerParams]] = TweedieSamplerParams
    params: TweedieSamplerParams

    def stop(self, floor: float) -> float | None:
        """The data's noise level, if nothing else is wanted.

        Raises:
            UsageError: the teacher was trained down to level 0.
        """
        if not self.params.truncate or self.params.stop is not None:
            return self.params.stop
        if floor <= 0:
            raise UsageError(
                "sampler tweedie: this teacher was trained down to level 0, there is no noise level of its "
                "data to stop at; set sampler.stop, or use heun"
            )
        return floor
