"""What a reconstruction starts from, whatever file it is: batches of measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrigen.data.slice_geometry import SliceGeometry
from mrigen.inverse import Task
from mrigen.inverse.task import square
from mrigen.operators.measurements import Measurements
from mrigen.prep.kspace.steps import mismatch_note

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some slices, or images.

    Attributes:
        positions: which of the source's slices they are.
        data: measurements in the units that models are trained in.
        scale: the measurement was divided by this; results are multiplied with it, (n,).
        mismatch: ‖y − A x‖ / ‖y‖ of the image that explains the measurement best, (n,): noise, motion and
            what the maps miss; None where nothing is known.
        reference: the true images in the same units, (n, C, H, W), or None.
        phase: e^{iφ} that images are multiplied with to have the scan's own phase, (n, 1, H, W), or None.
    """

    positions: list[int]
    data: Measurements
    scale: Tensor
    mismatch: Tensor | None = None
    reference: Tensor | None = None
    phase: Tensor | None = None

    def with_sigma(self, sigma: float | None) -> Batch:
        """The batch with a noise level.

        Args:
            sigma: standard deviation per real component in the data's own units, which are divided by
                ``scale`` as the data were; None for what is known: the data's own, or else the level at
                which noise alone would explain the mismatch.
        """
        if sigma is not None:
            return replace(self, data=replace(self.data, sigma=sigma / self.scale))
        if self.mismatch is None or bool((self.data.sigma > 0).all()):
            return self
        ones = torch.ones_like(self.scale)
        components = Task(replace(self.data, sigma=ones), [0] * len(self.data)).noise_energy()
        explained = self.mismatch * (square(self.data.y) / components).sqrt()
        return replace(
            self, data=replace(self.data, sigma=self.data.sigma.where(self.data.sigma > 0, explained))
        )

    def unexplained(self) -> tuple[Tensor, Tensor] | None:
        """Mismatch of the slices, and ‖noise‖ / ‖y‖ that their σ lets expect, 0 where it is unknown."""
        if self.mismatch is None:
            return None
        noise = Task(self.data, [0] * len(self.positions)).noise_energy() / square(self.data.y)
        return self.mismatch, noise.sqrt()


class Source(ABC):
    """Measurements that are reconstructed together.

    Attributes:
        name: for titles and messages.
        labels: what each slice is called, a volume's slice number for example.
        volumes: name of each slice's volume; empty for pictures, which stand alone.
        places: volume, frame and slice of each; empty for pictures.
        shape: (C, H, W) of an image.
        complex_valued: whether images are complex.
        voxel: size of a voxel along H, W and the slices in mm; None where nobody says.
        has_reference: whether batches come with true images.
        geometry: where the slices lie in the patient; None where nobody says.
        acquisition: contrast, ``AXT2`` for example; None where nobody says.
        notes: what a user should know about the source, one line each.
    """

    name: str
    labels: list[str]
    volumes: Sequence[str] = ()
    places: Sequence[tuple[str, int, int]] = ()
    shape: Shape
    complex_valued: bool = True
    voxel: tuple[float, float, float] | None = None
    has_reference: bool = False
    geometry: SliceGeometry | None = None
    acquisition: str | None = None
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batches(self, size: int) -> Iterator[Batch]:
        """All slices in order, at most ``size`` at a time."""


def unexplained_note(mismatches: Sequence[tuple[Tensor, Tensor] | None]) -> str | None:
    """A line where the data of all batches are explained too badly, see ``mismatch_note``."""
    known = [one for one in mismatches if one is not None]
    if not known:
        return None
    mismatch, noise = (torch.cat(parts) for parts in zip(*known, strict=True))
    return mismatch_note(mismatch, noise if bool((noise > 0).all()) else None)


def voxel_of(header: dict[str, object]) -> tuple[float, float, float] | None:
    """Voxel size along H (readout), W (phase encode) and the slices from a header's encoded space.

    Cropping the image, of the oversampled readout for example, leaves it as it is.
    """
    matrix, fov = header.get("encoded_matrix"), header.get("encoded_fov")
    if not isinstance(matrix, (list, tuple)) or not isinstance(fov, (list, tuple)):
        return None
    sizes = [float(f) / int(n) if int(n) > 0 else 0.0 for f, n in zip(fov, matrix, strict=True)]
    return (sizes[0], sizes[1], sizes[2]) if min(sizes) > 0 else None
