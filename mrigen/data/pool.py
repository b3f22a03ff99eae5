"""Images that can be read again and again, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

Shape = tuple[int, int, int]
BATCH = 256


@dataclass(frozen=True)
class Pool:
    """Images by batches.

    Attributes:
        name: where they come from, for messages.
        count: their number.
        shape: (C, H, W).
        complex_valued: complex MR images; otherwise natural images in [-1, 1].
        take: images (n, C, H, W) of the positions from ``first`` up to ``last``.
    """

    name: str
    count: int
    shape: Shape
    complex_valued: bool
    take: Callable[[int, int], Tensor]

    def __len__(self) -> int:
        return self.count

    def read(self, batch: int = BATCH) -> Iterator[Tensor]:
        """Batches (B, C, H, W) from the first image to the last."""
        for first in range(0, self.count, batch):
            yield self.take(first, min(first + batch, self.count))

    def first(self, count: int) -> Pool:
        """The first images of these."""
        return Pool(self.name, min(count, self.count), self.shape, self.complex_valued, self.take)
