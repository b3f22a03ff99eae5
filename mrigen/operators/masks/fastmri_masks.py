"""The masks of the fastMRI challenge, by wrapping ``fastmri.data.subsample``."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.masks.base import MASKS, MaskLaw


class FastMRIMask(MaskLaw):
    """A ``fastmri.data.subsample.MaskFunc`` as a mask law.

    fastMRI takes the centre as a fraction and rounds it to lines; the fraction that gives exactly
    ``params.centre(W)`` lines is passed on. Lines in an unmeasured edge are dropped, as fastMRI does.
    """

    function: ClassVar[str]

    def draw(self, acquired: Tensor, generator: torch.Generator) -> Tensor:
        """Draw masks; the seeds of fastMRI's numpy generator come from ``generator``."""
        count, width = acquired.shape
        function = self._function(width)
        seeds = torch.randint(2**31 - 1, (count,), generator=generator).tolist()
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
    reason = "the surviving lines of an equispaced mask reveal its offset; use exact-random masks"


@MASKS.register("magic")
class Magic(FastMRIMask):
    """Offset equispaced lines that exploit conjugate symmetry (Defazio 2019); R is a whole number."""

    function = "MagicMaskFunc"
    reason = "the surviving lines of a magic mask reveal its offset; use exact-random masks"

    def check(self, acquired: Tensor, height: int = 1, *, further: bool = True) -> None:
        """See ``MaskLaw.check``; a magic mask also needs a whole acceleration."""
        super().check(acquired, height, further=further)
        if not float(self.params.acceleration).is_integer():
            raise UsageError(f"magic masks need a whole acceleration, not {self.params.acceleration:g}")

    def _function(self, width: int) -> Any:
        from fastmri.data import subsample

        fraction = self.params.centre(width) / width
        return subsample.MagicMaskFunc([fraction], [int(self.params.acceleration)])
