"""Diffusion posterior sampling with a teacher that never saw a whole image."""

from __future__ import annotations

from typing import ClassVar, Literal

from mrigen.inverse.base import SOLVERS, SolverParams
from mrigen.inverse.dps import DPS, DPSParams


class AmbientDPSParams(DPSParams):
    """DPS with something to hide.

    Attributes:
        hide: ``fixed`` or ``fresh`` further masks.
    """

    hide: Literal["fixed", "fresh"] = "fixed"


@SOLVERS.register("ambient-dps")
class AmbientDPS(DPS):
    """DPS whose estimate is E[x₀ | Ã x_t, Ã], with an Ã of the training that stays fixed.

    Ambient Diffusion Posterior Sampling (Aali et al. 2025). The data may be measured by any A; Ã has nothing
    to do with it but the coils.
    """

    Params: ClassVar[type[SolverParams]] = AmbientDPSParams
    params: AmbientDPSParams
