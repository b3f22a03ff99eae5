"""Several stores as one: images of different quality in one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from mrigen.data.image_store import described_corruption
from mrigen.data.manifest import Manifest
from mrigen.errors import UsageError
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MapSource, MRICorruption, MultiCoilMRI
from mrigen.operators.noise import Noise, NoiseLevels
from mrigen.tensors import concatenate

if TYPE_CHECKING:
    from mrigen.data.stores import Store

LEVELS = 256


class MixedStore:
    """The images of several stores, each with its own noise and masks, with the interface of a store.

    The first store says what a model is told of its data: folder, operator and law of the masks. Photographs
    of all stores have one operator and may differ in σ, MRI may differ in masks, contrast and noise.

    Args:
        stores: measurements; the first is that of the data which are wanted.
        usable_from: for each store the noise level from which on its images are as good as those that are
            wanted, although they are of another contrast, sharpness or kind: noise of that level is added to
            them (Ambient Diffusion Omni, Daras et al. 2025). 0, the default, for images that are wanted as
            they are. Needs objective ``tweedie`` or ``ambient-tweedie``.

    Raises:
        UsageError: stores of different kinds, sizes, classes, operators or phases.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> law = {"name": "exact-random", "acceleration": 2, "acs_lines": 1}
        >>> y = A(A.zero_image() + 1)
        >>> lines = mg.masks.exact_random(9, acceleration=2, acs_lines=1)
        >>> few = mg.TensorStore(y, A.maps, lines, mask_distribution=law)
        >>> whole = mg.TensorStore(y, A.maps, lines | True, mask_distribution=law)
        >>> store = mg.MixedStore([few, whole])
        >>> len(store), store.measurements([0, 2]).operator.mask.sum((1, 2, 3)).tolist()
        (4, [4, 9])
    """

    def __init__(self, stores: Sequence[Store], usable_from: Sequence[float] | None = None) -> None:
        if not stores:
            raise UsageError("MixedStore: no store; give one or more")
        levels = [0.0] * len(stores) if usable_from is None else [float(level) for level in usable_from]
        if len(levels) != len(stores) or not all(0 <= level < float("inf") for level in levels):
            raise UsageError(f"MixedStore: usable_from {levels} is not one noise level for each store")
        self.stores, self.usable_from = tuple(stores), tuple(levels)
        first = self.stores[0]
        self.folder, self.complex_valued = first.folder, first.complex_valued
        for store in self.stores[1:]:
            for what in ("complex_valued", "image_shape", "classes"):
                mine, other = getattr(first, what), getattr(store, what)
                if mine != other:
                    raise UsageError(
                        f"{store.folder}: its {what} is {other}, and that of {first.folder} {mine}; mix "
                        "stores of one kind, size and number of classes"
                    )
            if _common(store) != _common(first):
                raise UsageError(
                    f"{store.folder}: its images have {_common(store)}, and those of {first.folder} "
                    f"{_common(first)}; prepare them alike"
                )
        part = torch.tensor([number for number, store in enumerate(self.stores) for _ in range(len(store))])
        self._part = part
        self._inside = torch.cat([torch.arange(len(store)) for store in self.stores])

    def __len__(self) -> int:
        return len(self._part)

    def __repr__(self) -> str:
        return f"MixedStore({', '.join(f'{len(store)} of {store.folder}' for store in self.stores)})"

    @property
    def manifest(self) -> Manifest:
        """Of the first store."""
        return self.stores[0].manifest

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        return self.stores[0].image_shape

    @property
    def classes(self) -> int:
        """Number of class labels, 0 where there are none."""
        return self.stores[0].classes

    def measurements(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """A batch of measurements with their operators, in the order of ``indices``.

        Raises:
            UsageError: ``fixed_further`` although a store has none.
        """
        order, parts = self._grouped(indices)
        batches = [self.stores[n].measurements(rows, fixed_further=fixed_further) for n, rows in parts]
        if len(batches) == 1:
            return batches[0]
        return concatenate(batches).map(lambda value: value[order])

    def packed(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """The same: k-space of different masks is not packed alike."""
        return self.measurements(indices, fixed_further=fixed_further)

    def noise_levels(self, indices: list[int]) -> Tensor:
        """σ (n,) that training takes the images to have: their own, and at least ``usable_from``."""
        order, parts = self._grouped(indices)
        levels = [self.stores[n].noise_levels(rows).clamp(min=self.usable_from[n]) for n, rows in parts]
        return torch.cat(levels)[order]

    def maps_and_masks(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (n, coils, H, W), masks (n, 1, 1 or H, W) and acquired lines (n, W) of some slices."""
        order, parts = self._grouped(indices)
        taken = [cast("MapSource", self.stores[n]).maps_and_masks(rows) for n, rows in parts]
        maps, masks, acquired = (torch.cat(each)[order] for each in zip(*taken, strict=True))
        return maps, masks, acquired

    def described(self) -> dict[str, Any]:
        """The first store's corruption in words, with the noise of all."""
        words = self.stores[0].described()
        noise = self._noise
        if "mask" in words and "sigma" not in words:
            return words
        return {**words, "sigma": noise.model_dump(mode="json", exclude_none=True)}

    def corruption(self, *, described: Mapping[str, Any] | None = None) -> Corruption:
        """The first store's law, with maps and noise of all.

        Args:
            described: the corruption that a model was trained under; None for the stores' own.

        Raises:
            UsageError: as the first store's.
        """
        if "mask" not in self.stores[0].described():
            return described_corruption(described or self.described(), self.image_shape)
        law = cast("MRICorruption", self.stores[0].corruption(described=described))
        scanner = None if law.scanner is None else self._noise
        return MixedMasks(self, law.mask_distribution, fresh=law.fresh, scanner=scanner)

    @cached_property
    def _noise(self) -> Noise:
        """The law of σ by at most 256 quantiles."""
        levels = self.noise_levels(list(range(len(self)))).sort().values
        if bool(levels[0] == levels[-1]):
            return Noise(low=float(levels[0]))
        rank = (torch.arange(min(LEVELS, len(levels))) + 0.5) / min(LEVELS, len(levels)) * len(levels)
        return NoiseLevels.of(levels[rank.long()])

    def _grouped(self, indices: list[int]) -> tuple[Tensor, list[tuple[int, list[int]]]]:
        """Rows of each store that is needed, and where each index is in these rows one after another."""
        part, inside = self._part[indices], self._inside[indices]
        parts = [
            (number, inside[part == number].tolist())
            for number in range(len(self.stores))
            if bool((part == number).any())
        ]
        return part.argsort(stable=True).argsort(), parts


class MixedMasks(MRICorruption):
    """Masks of one law for slices that may be measured more densely.

    A slice of a denser mask is shown as little as the others: Ã is drawn from a mask of the law that is
    within its own. Its target is all that was measured.
    """

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> MultiCoilMRI:
        """Ã ~ p(Ã | A)."""
        if not isinstance(operator, MultiCoilMRI):
            return super().corrupt_further(operator, rng)
        own = operator.mask.cpu()
        every = torch.ones(len(own), own.shape[-1], dtype=torch.bool)
        drawn = self.mask_distribution.sample(every, operator.maps.shape[-2], rng)
        count, usual = own.flatten(1).sum(1), drawn.flatten(1).sum(1)
        denser = ((count > usual) & (own | ~drawn).flatten(1).all(1)).view(-1, 1, 1, 1)
        mask = self.mask_distribution.corrupt_further(torch.where(denser, drawn, own), rng)
        return operator.with_mask(mask.to(operator.mask.device))


def _common(store: Store) -> dict[str, Any]:
    """What a model is told of a store's images besides masks and noise."""
    words = store.described()
    return {"operator": words.get("operator"), "phase": words.get("phase", "coil")}
