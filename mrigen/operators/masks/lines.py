"""Masks of phase-encode lines: exactly random, those of the fastMRI challenge, those of the data."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.masks.base import MASKS, MaskDistribution, random_subset


@MASKS.register("exact-random")
class ExactRandom(MaskDistribution):
    """Exactly floor(n / R) of n acquired lines: the ACS lines and uniformly random others.

    Every non-ACS line is measured with the same probability, whatever the further mask shows, so
    that theorem 4.1 of Ambient Diffusion holds.
    """

    def draw(self, acquired: Tensor, rng: torch.Generator) -> Tensor:
        """Draw masks with exactly floor(n / R) lines each; see ``MaskDistribution.draw``."""
        acs = self.acs(1, acquired.shape[1]) & acquired
        budget = torch.tensor([int(n // self.params.acceleration) for n in acquired.sum(1).tolist()])
        return acs | random_subset(acquired & ~acs, budget - acs.sum(1), rng)


class FastMRIMask(MaskDistribution):
    """A ``fastmri.data.subsample.MaskFunc`` as a mask distribution.

    fastMRI takes the centre as a fraction and rounds it to lines; the fraction that gives exactly
    ``params.centre(W)`` lines is passed on. Lines in an unmeasured edge are dropped, as fastMRI does.
    """

    function: ClassVar[str]

    def draw(self, acquired: Tensor, rng: torch.Generator) -> Tensor:
        """Draw masks; the seeds of fastMRI's numpy generator come from ``rng``."""
        count, width = acquired.shape
        function = self._function(width)
        seeds = torch.randint(2**31 - 1, (count,), generator=rng).tolist()
        masks = [function((1, width, 2), seed=seed)[0].reshape(width) > 0 for seed in seeds]
        return torch.stack(masks) & acquired

    def _function(self, width: int) -> Any:
        from fastmri.data import subsample

        fraction = self.params.centre(width) / width
        return getattr(subsample, self.function)([fraction], [self.params.acceleration])


@MASKS.register("random")
class Random(FastMRIMask):
    """Every non-ACS line independently with the same probability; W / R lines on average."""

    function = "RandomMaskFunc"


@MASKS.register("equispaced")
class Equispaced(FastMRIMask):
    """Every R-th line from a random offset (fastMRI's equispaced fraction)."""

    function = "EquispacedMaskFractionFunc"
    ambient_obstacle = "the surviving lines of an equispaced mask reveal its offset; use exact-random masks"


@MASKS.register("magic")
class Magic(FastMRIMask):
    """Offset equispaced lines that exploit conjugate symmetry (Defazio 2019); R is a whole number."""

    function = "MagicMaskFunc"
    ambient_obstacle = "the surviving lines of a magic mask reveal its offset; use exact-random masks"

    def check(self, acquired: Tensor, height: int = 1, *, further: bool = True) -> None:
        """See ``MaskDistribution.check``; a magic mask also needs a whole acceleration."""
        super().check(acquired, height, further=further)
        if not float(self.params.acceleration).is_integer():
            raise UsageError(f"magic masks need a whole acceleration, not {self.params.acceleration:g}")

    def _function(self, width: int) -> Any:
        from fastmri.data import subsample

        fraction = self.params.centre(width) / width
        return subsample.MagicMaskFunc([fraction], [int(self.params.acceleration)])


@MASKS.register("measured")
class Measured(MaskDistribution):
    """Each slice's own mask, of lines or of points; only the further corruption is ours.

    ``acceleration`` and ``acs_lines`` describe the masks that were found. Whether theorem 4.1 of
    Ambient Diffusion holds is up to the scanner: every point must have been measured in some slice.
    """

    def draw(self, acquired: Tensor, rng: torch.Generator) -> Tensor:
        """Refuse: another mask would ask for lines that were not measured."""
        del acquired, rng
        raise UsageError(
            "these data were undersampled at the scanner: no new masks can be drawn; "
            "take maps and masks together from the store (fresh masks: false)"
        )
