"""Blur by any kernel, written into the recipe or kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.blur import Blur, check_reach
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params


def _absolute(value: list[list[float]] | Path) -> list[list[float]] | Path:
    return value.expanduser().resolve() if isinstance(value, Path) else value


class KernelBlurParams(Params):
    """A kernel of odd size.

    Attributes:
        kernel: its rows, or a ``.npy`` file with an array (h, w).
        normalise: divide it by its sum, so that a constant image stays as it is.
    """

    kernel: Annotated[list[list[float]] | Path, AfterValidator(_absolute)]
    normalise: bool = True


@CORRUPTIONS.register("blur")
class KernelBlur(ImageCorruption):
    """The same kernel for every image; nothing is random."""

    Params = KernelBlurParams
    reason = f"a blur {FIXED}"

    def __init__(self, params: KernelBlurParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        kernel = read_kernel(params.kernel)
        check_reach((kernel.shape[0], kernel.shape[1]), shape)
        if params.normalise:
            if abs(kernel.sum()) < 1e-6 * np.abs(kernel).sum():
                raise UsageError(
                    "blur: the kernel sums to zero and cannot be normalised; set normalise: false"
                )
            kernel = kernel / kernel.sum()
        self._kernel: Tensor = torch.from_numpy(kernel).float()[None, None]

    def draw(self, batch: int, generator: torch.Generator) -> Blur:
        """The blur."""
        del generator
        return Blur(self._kernel, self.zeros(batch))

    @classmethod
    def files(cls, params: Any) -> list[Path]:
        """The kernel's file, if it has one."""
        return [params.kernel] if isinstance(params.kernel, Path) else []

    @classmethod
    def example(cls) -> Self:
        """A kernel without any symmetry, on colour images of odd size."""
        return cls(KernelBlurParams(kernel=[[1, 2, 3], [0, 5, 1], [4, 0, 0]]), (3, 7, 5))


def read_kernel(source: list[list[float]] | Path) -> NDArray[np.float64]:
    """A kernel as float64 (h, w), h and w odd.

    Raises:
        UsageError: no such file, or no kernel.
    """
    name = source if isinstance(source, Path) else "blur: the kernel"
    try:
        rows = np.load(source, allow_pickle=False) if isinstance(source, Path) else np.array(source)
        kernel = np.asarray(rows, np.float64)
    except (OSError, ValueError, TypeError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"{name}: {what}; give rows of equal length, or a .npy file") from error
    if kernel.ndim != 2 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise UsageError(f"{name}: needs odd numbers of rows and columns, not shape {kernel.shape}")
    if not np.isfinite(kernel).all() or not kernel.any():
        raise UsageError(f"{name}: holds values that are not finite, or only zeros; give a real kernel")
    return kernel
