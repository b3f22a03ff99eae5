"""A measurement store of tensors in memory: k-space, coil maps and masks of any number of slices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mrigen
from mrigen.data.mri_manifest import MRIManifest
from mrigen.errors import UsageError
from mrigen.operators.masks import MASKS, MaskDistribution
from mrigen.operators.masks.base import sampled_centre
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MRICorruption, MultiCoilMRI
from mrigen.tensors import ArrayLike, tensor_of


class TensorStore:
    """Undersampled k-space of n slices in memory, with the interface of a ``MeasurementStore``.

    Args:
        y: measured k-space, complex (n, coils, H, W), DC in the centre, kept in single precision as in files;
            what the masks leave out counts as not measured.
        maps: coil sensitivities, complex (n or 1, coils, H, W), or (coils, H, W) for all slices.
        mask: sampled lines or points, as ``MultiCoilMRI`` takes them.
        mask_distribution: distribution that the masks were drawn from,
            ``{"name": "exact-random", "acceleration": 4,
            "acs_lines": 20}``: training may draw new ones from it. None for masks of a scanner: each slice
            keeps its own, and only further masks are drawn.
        acquired: lines that the scanner can measure, bool (W,); all by default.
        sigma: standard deviation of the scanner's noise per real component of y, one number or (n,); 0
            where it is unknown.
        further: further masks fixed with the data, like ``mask``; None to draw them while training.

    Raises:
        UsageError: shapes that do not fit together, no slice, values that are not finite, a mask without
            a fully sampled centre, or masks that the distribution cannot have drawn.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=3)
        >>> store = mg.TensorStore(A.H.zero_image(), A.maps, mask)
        >>> len(store), store.image_shape, store.measurements([1]).y.shape
        (2, (1, 12, 9), torch.Size([1, 3, 12, 9]))
    """

    complex_valued = True
    classes = 0
    folder = Path("in memory")

    def __init__(
        self,
        y: ArrayLike,
        maps: ArrayLike,
        mask: ArrayLike,
        *,
        mask_distribution: Mapping[str, Any] | None = None,
        acquired: ArrayLike | None = None,
        sigma: ArrayLike | float = 0.0,
        further: ArrayLike | None = None,
    ) -> None:
        kspace = tensor_of(y)
        if kspace.ndim != 4 or not kspace.is_complex() or not len(kspace):
            raise UsageError(
                f"TensorStore: y must be complex (n, coils, H, W), not {str(kspace.dtype)[6:]} "
                f"{tuple(kspace.shape)}"
            )
        kspace = kspace.to(torch.complex64)
        operator = MultiCoilMRI(maps, mask).to(dtype=torch.float32)
        expected = (operator.maps.shape[1:], {len(operator.maps), len(operator.mask)} - {1, len(kspace)})
        if expected != (kspace.shape[1:], set()):
            raise UsageError(
                f"TensorStore: y {tuple(kspace.shape)}, maps {tuple(operator.maps.shape)} and masks "
                f"{tuple(operator.mask.shape)} do not fit together"
            )
        if not (kspace.isfinite().all() and operator.maps.isfinite().all()):
            raise UsageError("TensorStore: y or maps have NaN or infinite values; leave those slices out")
        count, width = len(kspace), kspace.shape[-1]
        self.maps = operator.maps.expand(count, -1, -1, -1)
        self.masks = operator.mask.expand(count, -1, -1, -1)
        self.y = kspace * self.masks
        self._noise = Measurements(kspace, operator, sigma).sigma.float()
        lines = torch.ones(width) if acquired is None else tensor_of(acquired)
        if tuple(lines.shape) != (width,):
            raise UsageError(f"TensorStore: acquired must be ({width},), not {tuple(lines.shape)}")
        self._acquired = (lines != 0).expand(count, -1)
        self._further = (
            None if further is None else MultiCoilMRI(maps, further).mask.expand(count, -1, -1, -1)
        )
        if self._further is not None and (self._further & ~self.masks).any():
            raise UsageError("TensorStore: further masks have points that the masks lack")
        self._mask_distribution = MASKS.canonical(
            mask_distribution if mask_distribution is not None else _measured(self.masks, self._acquired)
        )
        self.fresh = mask_distribution is not None
        self.mask_distribution.check(self._acquired[0], kspace.shape[-2], further=self.fresh)

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        coils, height, width = self.y.shape[1:]
        masks = self._mask_distribution["name"]
        return f"TensorStore({len(self)} slices of {coils} coils, {height} x {width}, masks {masks})"

    @property
    def mask_distribution(self) -> MaskDistribution:
        """The distribution of the masks, and of the further masks."""
        mask_distribution: MaskDistribution = MASKS.build(self._mask_distribution)
        return mask_distribution

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything in it: a training continues only with the same data."""
        digest = hashlib.sha256(
            json.dumps([self._mask_distribution, self.fresh, list(self.y.shape)]).encode()
        )
        tensors = [self.y, self.maps, self.masks, self._noise, self._acquired, self._further]
        for row in range(len(self)):
            for tensor in tensors:
                if tensor is not None:
                    digest.update(tensor[row].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (1, H, W)."""
        return (1, self.y.shape[-2], self.y.shape[-1])

    @property
    def manifest(self) -> MRIManifest:
        """The manifest of a store that has no files."""
        return MRIManifest(
            kind="measurements",
            created_by=f"mrigen {mrigen.__version__}",
            parameters={},
            mask=self._mask_distribution,
            fresh_masks=self.fresh,
            volumes=[],
        )

    def measurements(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """A batch of measured k-space with its operators, see ``MeasurementStore.measurements``.

        Raises:
            UsageError: ``fixed_further`` although there are no further masks.
        """
        if fixed_further and self._further is None:
            raise UsageError("TensorStore: has no fixed further masks; give further=")
        operator = MultiCoilMRI(self.maps[indices], self.masks[indices])
        hidden = (
            operator.with_mask(self._further[indices])
            if fixed_further and self._further is not None
            else None
        )
        return Measurements(self.y[indices], operator, self._noise[indices], further=hidden)

    def packed(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """The same: nothing is packed."""
        return self.measurements(indices, fixed_further=fixed_further)

    def noise_levels(self, indices: list[int]) -> Tensor:
        """σ (n,) of the scanner's noise per real component of some slices' k-space; 0 where unknown."""
        return self._noise[indices]

    def maps_and_masks(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (n, coils, H, W), masks (n, 1, 1 or H, W) and acquired lines (n, W) of some slices."""
        return self.maps[indices], self.masks[indices], self._acquired[indices]

    def described(self) -> dict[str, Any]:
        """The corruption in words, for a model's description."""
        return {"mask": MASKS.pinned(self._mask_distribution), "fresh_masks": self.fresh}

    def corruption(self, *, described: Mapping[str, Any] | None = None) -> MRICorruption:
        """The corruption of this data, see ``MeasurementStore.corruption``.

        Raises:
            UsageError: the described masks do not fit the data's width.
        """
        mask = (described or {}).get("mask")
        if mask is None or MASKS.canonical(mask) == self._mask_distribution:
            return MRICorruption(self, self.mask_distribution, fresh=self.fresh)
        mask_distribution = MASKS.build(mask)
        mask_distribution.check(self._acquired[0], self.y.shape[-2])
        return MRICorruption(self, mask_distribution)


def _measured(masks: Tensor, acquired: Tensor) -> dict[str, Any]:
    """The masks of a scanner as a distribution that offers further masks only."""
    rows = masks.shape[-2]
    side = sampled_centre(masks.all(0)[0])
    possible, points = rows * int(acquired.sum()), int(masks.sum())
    if not side or possible <= points:
        raise UsageError(
            "TensorStore: the masks have no fully sampled centre that they share, or leave nothing out"
        )
    return {"name": "measured", "acceleration": round(possible / points, 4), "acs_lines": side}
