"""Batches of measurements with their operators."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import Operator, fault_of_shape
from mrigen.tensors import ArrayLike, TensorRecord, batch_size, tensor_of


@dataclass(frozen=True, eq=False, init=False)
class Measurements(TensorRecord):
    """A batch of measurements y = A x + σ ε with their operators; the clean x is nowhere in it.

    Indexing gives a batch of fewer samples, ``len`` counts them, ``concatenate`` joins batches.

    Attributes:
        y: measurements, shaped as A.forward gives them, zero where A does not measure.
        operator: A, one per sample.
        sigma: standard deviation of the noise per real component, in the units of the image;
            a tensor (B,), zero for noiseless data.
        labels: class labels (B, classes) one-hot, or None.
        further: Ã of each sample where it was fixed with the data; None to draw it at every step.
        augment: augmentation labels (B, 9), or None where nothing was augmented.
        levels: noise levels (B,) at which a denoiser learns from the samples; None to draw them.
        reconstructed_from: the operators whose measurements y was reconstructed from, where y is a
            reconstruction under A = I; None where y was measured.

    Args:
        y: tensor or numpy array.
        operator: A.
        sigma: one number for all samples, or (B,).
        labels: see above.
        further: see above.
        augment: see above.
        levels: see above.
        reconstructed_from: see above.

    Raises:
        UsageError: y is not shaped as A's measurements, or is on another device, or σ has another shape.

    Examples:
        >>> import mrigen
        >>> A = mrigen.operators.MultiCoilMRI.example()
        >>> data = mrigen.Measurements(A(A.zero_image()), A, sigma=0.1)
        >>> len(data), data[1].y.shape, data[[1, 0]].sigma
        (2, torch.Size([1, 3, 12, 9]), tensor([0.1000, 0.1000]))
    """

    y: Tensor
    operator: Operator
    sigma: Tensor
    labels: Tensor | None = None
    further: Operator | None = None
    augment: Tensor | None = None
    levels: Tensor | None = None
    reconstructed_from: Operator | None = None

    def __init__(
        self,
        y: ArrayLike,
        operator: Operator,
        sigma: ArrayLike | float = 0.0,
        labels: ArrayLike | None = None,
        further: Operator | None = None,
        augment: ArrayLike | None = None,
        levels: ArrayLike | None = None,
        reconstructed_from: Operator | None = None,
    ) -> None:
        values = _measured(tensor_of(y), operator)
        fields = {
            "y": values,
            "operator": operator,
            "sigma": noise_levels(sigma, values),
            "labels": None if labels is None else tensor_of(labels),
            "further": further,
            "augment": None if augment is None else tensor_of(augment),
            "levels": None if levels is None else tensor_of(levels),
            "reconstructed_from": reconstructed_from,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def replaced(self, values: Mapping[str, object]) -> Measurements:
        """Copies of checked fields, whose shapes still fit: nothing is measured anew."""
        record = object.__new__(Measurements)
        for name, value in values.items():
            object.__setattr__(record, name, value)
        return record

    def __len__(self) -> int:
        return len(self.y)

    def mask_further(self, further: Callable[[Operator], Operator]) -> Measurements:
        """The same with Ã drawn for each A, unless it was fixed with the data."""
        return self if self.further is not None else dataclasses.replace(self, further=further(self.operator))

    def noisier(self, added: Tensor, rng: torch.Generator) -> Measurements:
        """The same with further noise of standard deviations (B,)."""
        y = self.y + self.operator.noise(self.y, added, rng)
        return dataclasses.replace(self, y=y, sigma=(self.sigma.square() + added.square()).sqrt())

    def unpack(self) -> Measurements:
        """These: nothing is packed."""
        return self


def _measured(y: Tensor, operator: Operator) -> Tensor:
    """y, if it is shaped as measurements of the operator are.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(operator, Operator):
        raise UsageError(
            "measurements need the operator that they are of, such as mrigen.MultiCoilMRI(maps, mask), "
            f"not {type(operator).__name__}"
        )
    what = f"measurements of {type(operator).__name__}"
    shape, like = operator.measured
    if fault := fault_of_shape(y, shape, like):
        raise UsageError(f"{what} {fault}")
    if (count := batch_size(operator)) not in (1, len(y)):
        raise UsageError(f"{len(y)} measurements do not fit operators of {count} samples")
    if like.is_complex() and not y.is_complex():
        raise UsageError(f"{what} are complex, not {str(y.dtype).removeprefix('torch.')}")
    if y.device != like.device:
        raise UsageError(f"{what} are on {like.device} as it is, not on {y.device}: move one of them")
    return y


def noise_levels(sigma: ArrayLike | float, y: Tensor) -> Tensor:
    """Standard deviations (B,) of noise, from one for all samples or as many as there are.

    Args:
        sigma: a number, or a tensor or array of one or of B.
        y: the B samples.

    Raises:
        UsageError: they are another number, or one is negative or not finite.
    """
    if isinstance(sigma, int | float | np.number):
        levels = torch.full((len(y),), float(sigma), device=y.device)
        wrong = not 0 <= float(sigma) < math.inf
    else:
        levels = tensor_of(sigma)
        if levels.numel() != 1 and tuple(levels.shape) != (len(y),):
            raise UsageError(
                f"sigma must be one number or ({len(y)},), one for each sample, not {tuple(levels.shape)}"
            )
        wrong = levels.device.type == "cpu" and not bool(((levels >= 0) & levels.isfinite()).all())
        levels = levels.reshape(-1).expand(len(y))
    if wrong:
        raise UsageError(f"sigma must be finite and not negative, not {sigma}")
    return levels
