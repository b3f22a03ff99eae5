"""Batches of measurements with their operators."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import Operator
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

    Args:
        y: tensor or numpy array.
        operator: A.
        sigma: one number for all samples, or (B,).
        labels: see above.
        further: see above.
        augment: see above.

    Raises:
        UsageError: σ has another shape, or y has no sample.

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

    def __init__(
        self,
        y: ArrayLike,
        operator: Operator,
        sigma: ArrayLike | float = 0.0,
        labels: ArrayLike | None = None,
        further: Operator | None = None,
        augment: ArrayLike | None = None,
    ) -> None:
        values = tensor_of(y)
        if values.ndim < 2:
            raise UsageError(f"measurements need a leading axis of samples, not shape {tuple(values.shape)}")
        if isinstance(sigma, int | float | np.number):
            if not 0 <= float(sigma) < math.inf:
                raise UsageError(f"sigma must be finite and not negative, not {sigma}")
            level = torch.full((len(values),), float(sigma), device=values.device)
        else:
            level = tensor_of(sigma)
        if tuple(level.shape) != (len(values),):
            raise UsageError(
                f"sigma must be one number or ({len(values)},), one for each measurement, not "
                f"{tuple(level.shape)}"
            )
        if (count := batch_size(operator)) not in (1, len(values)):
            raise UsageError(f"{len(values)} measurements do not fit operators of {count} samples")
        fields = {
            "y": values,
            "operator": operator,
            "sigma": level,
            "labels": None if labels is None else tensor_of(labels),
            "further": further,
            "augment": None if augment is None else tensor_of(augment),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.y)

    def mask_further(self, further: Callable[[Operator], Operator]) -> Measurements:
        """The same with Ã drawn for each A, unless it was fixed with the data."""
        return self if self.further is not None else dataclasses.replace(self, further=further(self.operator))

    def unpack(self) -> Measurements:
        """These: nothing is packed."""
        return self
