"""Which k-space lines a scanner acquired, and which of them a store calls measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.masks import MaskDistribution
from mrigen.operators.masks.base import sampled_centre
from mrigen.operators.masks.lines import Measured

Randomness = Callable[..., torch.Generator]


@dataclass(frozen=True, eq=False)
class Sampling:
    """The masks of a volume's slices.

    Attributes:
        acquired: lines that the scanner can measure, bool (W,).
        masks: measured lines or points, bool (slices, 1 or H, W).
        acs: rows and columns of the fully sampled centre that the masks share.
        further: a further mask per slice, of the same shape, or None.
    """

    acquired: Tensor
    masks: Tensor
    acs: tuple[slice, slice]
    further: Tensor | None = None

    @property
    def acs_lines(self) -> int:
        """Fully sampled lines around DC."""
        return int(self.acs[1].stop - self.acs[1].start)

    @property
    def acs_mask(self) -> Tensor:
        """The fully sampled centre, bool (1 or H, W)."""
        mask = torch.zeros(self.masks.shape[1:], dtype=torch.bool)
        mask[self.acs if len(mask) > 1 else (slice(None), self.acs[1])] = True
        return mask


def lines_with_data(kspace: Tensor) -> Tensor:
    """Lines that are not exactly zero in every coil: (n, coils, H, W) to bool (n, W).

    Most are told by their middle.
    """
    seen = (kspace[:, :, kspace.shape[2] // 2] != 0).any(1)
    rest = ~seen.all(0)
    seen[:, rest] |= (kspace[..., rest] != 0).any(2).any(1)
    return seen


def acquired_lines(seen: Tensor, padding: tuple[int, int] | None) -> Tensor:
    """Lines that the scanner acquired: those between the zero-padded edges.

    Args:
        seen: lines that hold data in some slice, bool (W,).
        padding: first and one past the last line that is not padded, by the header.

    Returns:
        bool (W,), contiguous.

    Raises:
        UsageError: lines between the edges hold no data.
    """
    left, right = padding or (0, len(seen))
    seen = seen & between(len(seen), left, right)
    if not seen.any():
        raise UsageError("kspace is zero; leave this file out")
    index = seen.nonzero().flatten()
    acquired = between(len(seen), int(index[0]), int(index[-1]) + 1)
    empty = (acquired & ~seen).nonzero().flatten().tolist()
    if empty:
        raise UsageError(
            f"{len(empty)} lines of kspace (the first is {empty[0]}) are zero, as if undersampled, "
            "but the file has no mask; add a dataset `mask` (W,)"
        )
    if not acquired[len(acquired) // 2]:
        raise UsageError("the line at DC was not acquired; check the encoding limits in the header")
    return acquired


def after_crop(acquired: Tensor, width: int) -> Tensor:
    """Lines of the same frequencies after the image was cropped to ``width`` along the phase encode.

    Line j of W has frequency (j - W // 2) / W; a line of the cropped image counts as acquired when
    its frequency lies between the acquired ones, or beyond them on a side without padding.
    """
    before = len(acquired)
    if width == before:
        return acquired
    index = acquired.nonzero().flatten() - before // 2
    lines = (torch.arange(width) - width // 2) * before
    above = (lines >= int(index[0]) * width) | acquired[0]
    return above & ((lines <= int(index[-1]) * width) | acquired[-1])


def retrospective(
    law: MaskDistribution,
    acquired: Tensor,
    height: int,
    slices: list[int],
    random: Randomness,
    *,
    further: bool,
) -> Sampling:
    """Draw a mask per slice for fully sampled data.

    Args:
        law: the mask distribution.
        acquired: lines that the scanner acquired, bool (W,).
        height: rows of k-space, for masks of points.
        slices: indices in the source volume, which key the randomness.
        random: generator for a purpose and a slice.
        further: also draw a further mask per slice.

    Raises:
        UsageError: the law does not fit these lines.
    """
    law.check(acquired, height)
    draws = [law.sample(acquired[None], height, random("mask", s))[0, 0] for s in slices]
    centre = law.acs(law.rows(height), len(acquired)) & acquired
    if not centre.any():
        raise UsageError("the masks have no ACS lines to compute maps from; give --acs-lines")
    rows, columns = (centre.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    acs = (
        slice(None) if len(centre) == 1 else slice(rows[0], rows[-1] + 1),
        slice(columns[0], columns[-1] + 1),
    )
    return _with_further(law, Sampling(acquired, torch.stack(draws), acs), slices, random, further=further)


def complete(acquired: Tensor, slices: int, lines: int) -> Sampling:
    """Fully sampled data, as they are.

    Args:
        acquired: lines that the scanner acquired, bool (W,).
        slices: number of slices.
        lines: how many around DC serve for calibration, at most.
    """
    width = len(acquired)
    centre = between(width, (width - lines + 1) // 2, (width - lines + 1) // 2 + lines) & acquired
    columns = centre.nonzero().flatten().tolist()
    return Sampling(
        acquired, acquired.expand(slices, 1, -1), (slice(None), slice(columns[0], columns[-1] + 1))
    )


def measured(
    mask: Tensor,
    acquired: Tensor,
    slices: list[int],
    random: Randomness,
    lines: int | None = None,
    *,
    further: bool,
) -> Sampling:
    """The scanner's own masks.

    Args:
        mask: lines or points that hold data, bool (slices, 1 or H, W).
        acquired: lines that the scanner acquired, bool (W,).
        slices: indices in the source volume.
        random: generator for a purpose and a slice.
        lines: how many lines around DC count as fully sampled; None for all that are.
        further: also draw a further mask per slice.

    Raises:
        UsageError: the centre is not fully sampled, or in fewer lines, or the mask leaves nothing out.
    """
    planes = mask & acquired
    height, width = planes.shape[1:]
    block = sampled_centre(planes.all(0))
    if block == 0:
        raise UsageError("the mask has no fully sampled centre to compute maps from")
    if lines is not None and lines > block:
        raise UsageError(
            f"--acs-lines {lines}: the mask has {block} fully sampled lines around DC; give fewer"
        )
    block = lines or block
    first = (width - block + 1) // 2
    rows = slice(None) if height == 1 else slice((height - block + 1) // 2, (height - block + 1) // 2 + block)
    acceleration = height * int(acquired.sum()) / float(planes.sum((1, 2)).float().mean())
    if acceleration <= 1:
        raise UsageError("the mask leaves nothing out; remove it from the file and give --acceleration")
    law = Measured(Measured.Params(acceleration=acceleration, acs_lines=block))
    sampling = Sampling(acquired, planes, (rows, slice(first, first + block)))
    return _with_further(law, sampling, slices, random, further=further)


def _with_further(
    law: MaskDistribution, sampling: Sampling, slices: list[int], random: Randomness, *, further: bool
) -> Sampling:
    if not further:
        return sampling
    masks = zip(slices, sampling.masks, strict=True)
    drawn = [law.corrupt_further(mask[None, None], random("further", s))[0, 0] for s, mask in masks]
    return Sampling(sampling.acquired, sampling.masks, sampling.acs, torch.stack(drawn))


def between(width: int, left: int, right: int) -> Tensor:
    """Lines from ``left`` to one before ``right``, bool (width,)."""
    index = torch.arange(width)
    return (index >= left) & (index < right)
