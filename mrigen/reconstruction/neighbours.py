"""Slices, or frames of a series, that take from their neighbours what they did not measure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.inverse.linear import data_consistent
from mrigen.inverse.task import square
from mrigen.operators.base import linear
from mrigen.operators.measurements import Measurements
from mrigen.reconstruction.sources import Batch, Source

SPREAD = 0.03  # standard deviation of an estimate's error per component, where bright tissue is 1
CG_STEPS = 15
MOST_PASSES = 100
Place = tuple[str, int, int]
"""Volume, frame and slice."""


@dataclass(frozen=True, eq=False)
class Solved:
    """Reconstructions of a batch.

    Attributes:
        batch: the slices.
        images: (n, samples, C, H, W) in the units of the batch.
        steps: that each sample took, (n, samples).
        misfit: relative residual of each, (n, samples).
    """

    batch: Batch
    images: Tensor
    steps: Tensor
    misfit: Tensor

    def rows(self) -> Iterator[Solved]:
        """Slice by slice."""
        data, b = self.batch.data, self.batch
        for row, position in enumerate(b.positions):
            one = slice(row, row + 1)
            measured = Measurements(data.y[one], data.operator.select(row), data.sigma[one])
            parts = [None if part is None else part[one] for part in (b.mismatch, b.reference, b.phase)]
            batch = Batch([position], measured, b.scale[one], *parts)
            yield Solved(batch, self.images[one], self.steps[one], self.misfit[one])


def neighbours_of(places: Sequence[Place], *, frames: bool) -> list[list[int]]:
    """Positions of the slices beside each, or, of the same slice, of the frames before and after.

    Examples:
        >>> places = [("a", 0, 3), ("a", 0, 4), ("b", 0, 5), ("a", 0, 5)]
        >>> neighbours_of(places, frames=False)
        [[1], [0, 3], [], [1]]
    """
    at = {place: position for position, place in enumerate(places)}
    beside = []
    for volume, frame, number in places:
        steps = ((volume, frame + d * frames, number + d * (not frames)) for d in (-1, 1))
        beside.append([at[place] for place in steps if place in at])
    return beside


def neighbours_of_source(
    source: Source, along: str, weight: float, passes: int = 1, *, calibrate: bool
) -> list[list[int]]:
    """Positions beside each slice of a source; empty for a weight of 0.

    Args:
        source: what is reconstructed.
        along: ``slices`` or ``frames``.
        weight: of a neighbour.
        passes: number of passes.
        calibrate: the samples' spread is to be calibrated.

    Raises:
        UsageError: there are no neighbours, or their spread is to be calibrated, or frames or passes are
            chosen with a weight of 0.
    """
    if not weight:
        if passes > 1 or along == "frames":
            option = "--passes" if passes > 1 else "--along frames"
            raise UsageError(
                f"{option}: says how neighbours are used; give --neighbours 1 too, or leave {option} out"
            )
        return []
    if calibrate:
        raise UsageError("--neighbours: --calibrate knows slices on their own only; leave one of them out")
    beside = neighbours_of(source.places, frames=along == "frames")
    if not any(beside):
        raise UsageError(
            f"{source.name}: --neighbours: has no neighbouring {along}; take adjoining ones with --slices or "
            "--choose, or leave it out"
        )
    return beside


def coupled(
    solved: Iterable[Solved],
    neighbours: Sequence[Sequence[int]],
    weight: float,
    device: torch.device,
    passes: int = 1,
) -> Iterator[Solved]:
    """Reconstructions x̂ of slices, in order, each brought nearer to its neighbours.

    argmin_x ‖A x − y‖² / σ² + ‖x − c‖² / s², where c = (x̂ + w Σ_n x̂_n) / (1 + w n) is the mean with the n
    neighbours and s = 0.03: what the slice measured decides, and where it measured nothing its neighbours
    have a say, whose masks saw other lines. Neighbours are taken as they were solved, in the slice's units;
    sample j goes with their samples j.

    Each further pass does the same with the images of the pass before, so that k passes reach k neighbours
    on either side: steps towards images that meet their own measurements and differ little from one to the
    next.

    Args:
        solved: of slices, positions from 0 on.
        neighbours: positions beside each position; empty to pass on what comes.
        weight: w.
        device: where it is computed.
        passes: number of passes, at most 100; ``passes`` + 1 slices are kept.
    """
    for _ in range(passes if neighbours else 0):
        solved = _one_pass(solved, neighbours, weight, device)
    yield from solved


def _one_pass(
    solved: Iterable[Solved], neighbours: Sequence[Sequence[int]], weight: float, device: torch.device
) -> Iterator[Solved]:
    kept: dict[int, Solved] = {}
    last_use = [max([p, *beside]) for p, beside in enumerate(neighbours)]
    due = 0
    for one in (row for each in solved for row in each.rows()):
        (position,) = one.batch.positions
        kept[position] = one
        while due in kept and all(n in kept for n in neighbours[due]):
            yield _nearer(kept[due], [kept[n] for n in neighbours[due]], weight, device)
            due += 1
            for finished in [p for p in kept if p < due and last_use[p] < due]:
                del kept[finished]


def _nearer(own: Solved, others: Sequence[Solved], weight: float, device: torch.device) -> Solved:
    if not others:
        return own
    data = own.batch.data.to(device=device)
    A, images, misfits = linear(data.operator), [], []
    for sample in range(own.images.shape[1]):
        centre = own.images[:, sample]
        for other in others:
            centre = centre + weight * other.batch.scale / own.batch.scale * other.images[:, sample]
        centre = (centre / (1 + weight * len(others))).to(device)
        image = data_consistent(A, data.y, centre, (data.sigma / SPREAD) ** 2, CG_STEPS)
        image = data.operator.within_support(image)
        misfits.append((square(A.forward(image) - data.y) / square(data.y)).sqrt().cpu())
        images.append(image.cpu())
    return replace(own, images=torch.stack(images, 1), misfit=torch.stack(misfits, 1))
