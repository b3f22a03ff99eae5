"""What was measured: one reading of masks and zeros for every format and command.

k-space is complex (slices, coils, H, W). A mask comes back as lines (W,), as points (H, W), or, where slices
differ, as (slices, 1, W) or (slices, H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.errors import UsageError

Mask = NDArray[np.bool_]
Read = Callable[[list[int]], Tensor]
Size = tuple[int, int, int, int]
ISOLATED = 0.01  # share of zeros that are taken for values: rounded or noiseless data have some
ROUNDING = 1e-5  # of the largest value: what a transform there and back leaves at points that were zero
PEAK = 30  # times the mean: the energy at DC of an image is above, that of noise nowhere
CHUNK_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a volume.

    Attributes:
        mask: sampled lines or points; None where everything was acquired.
        full: the data hold every acquired point, also those that the mask leaves out.
        inferred: the mask was seen by the zeros of the data.
    """

    mask: Mask | None = None
    full: bool = True
    inferred: bool = False


def measured(
    read: Read, size: Size, padding: tuple[int, int] | None, mask: NDArray[Any] | None, where: str
) -> Measured:
    """What was measured, from the mask beside the data or from their zeros.

    Points that are zero in every coil were not measured. Whole columns of zeros at the edges of otherwise
    complete data are zero-padding, which leaves a scan fully sampled. A mask beside data that hold every
    point is to be applied to them. Values at points that the mask leaves out are rounding where they are
    below 1e-5 of the largest value.

    Args:
        read: k-space of slices.
        size: slices, coils, H and W.
        padding: first and one past the last phase-encode line that is not padded, by the header.
        mask: the mask beside the data, numbers, not 0 where a point was measured: (W,), (H, W), one for
            each slice, or with axes of 1 between; None without.
        where: for messages.

    Raises:
        UsageError: DC is not in the centre, or mask and data disagree.
    """
    slices, coils, height, width = size
    candidates = [] if mask is None else _candidates(mask, size, where)
    order = [slices // 2, *(s for s in range(slices) if s != slices // 2)]
    first, probe = next(((s, k) for s in order if (k := read([s])).any()), (0, None))
    if probe is None:
        raise UsageError(f"{where}: k-space is zero; give another file")
    require_centred(probe, where)
    magnitude = _magnitude(probe)[0]
    whole = complete(magnitude != 0, padding)
    left, right = padding or (0, width)
    if any(one[..., left:right].all() for one in candidates):
        candidates = []
    if not candidates:
        if whole:
            return Measured()
        at_once = max(1, CHUNK_BYTES // (8 * coils * height * width))
        parts = (list(range(slices))[start : start + at_once] for start in range(0, slices, at_once))
        return Measured(
            _smallest(np.concatenate([_magnitude(read(part)) != 0 for part in parts])), False, True
        )
    own = [one[min(first, len(one) - 1)] for one in candidates]
    left_out = [float(np.where(one, 0, magnitude).max()) for one in own]
    best = min(range(len(own)), key=lambda index: (left_out[index], index))
    full = whole and left_out[best] > ROUNDING * float(magnitude.max())
    if full:
        best = 0
    else:
        _require_agreement(magnitude, own[best], f"{where}: slice {first}" if slices > 1 else where)
    return Measured(_smallest(candidates[best]), full)


def complete(holds: Mask, padding: tuple[int, int] | None = None) -> bool:
    """Whether a slice holds every point between its zero-padded outer columns.

    Args:
        holds: points that are not zero, (H, W).
        padding: as for ``measured``.
    """
    left, right = padding or (0, holds.shape[1])
    columns = np.flatnonzero(holds[:, left:right].any(0)) + left
    if not len(columns):
        return False
    inside = holds[:, columns[0] : columns[-1] + 1]
    return bool(inside.any(0).all() and inside.any(1).all() and (~inside).mean() < ISOLATED)


def require_centred(kspace: Tensor, where: str) -> None:
    """Refuse k-space whose energy peaks elsewhere than near its centre, where DC belongs.

    Args:
        kspace: complex (n, coils, H, W), not zero.
        where: for messages.

    Raises:
        UsageError: the peak is farther from (H // 2, W // 2) than an eighth of a side.
    """
    parts = torch.view_as_real(kspace)
    energy = (parts / parts.abs().max()).square().sum((0, 1, 4))
    height, width = energy.shape
    row, column = divmod(int(energy.argmax()), width)
    near = [max(2, side // 8) for side in (height, width)]
    offset = [row - height // 2, column - width // 2]
    if energy.max() < PEAK * energy.mean():
        return
    if all(abs(o) <= n for o, n in zip(offset, near, strict=True)):
        return
    corner = min(row, height - row) <= near[0] and min(column, width - column) <= near[1]
    remedy = (
        "DC is in the corner: apply numpy.fft.fftshift to the last two axes"
        if corner
        else "DC must be in the centre of the last two axes"
    )
    raise UsageError(
        f"{where}: the energy of k-space peaks at ({row}, {column}) and not at the centre "
        f"({height // 2}, {width // 2}): {remedy}"
    )


def _magnitude(kspace: Tensor) -> NDArray[np.float32]:
    """Largest real component of any coil at each point, (n, H, W): 0 where nothing was measured."""
    magnitude: NDArray[np.float32] = torch.view_as_real(kspace).abs().amax((1, 4)).numpy()
    return magnitude


def _candidates(mask: NDArray[Any], size: Size, where: str) -> list[Mask]:
    """What a mask may mean, bool (1 or slices, 1 or H, W), the most likely first.

    Raises:
        UsageError: it is of no such shape, or holds something else than numbers.
    """
    if mask.dtype.kind not in "biuf":
        raise UsageError(
            f"{where}: mask is {mask.dtype}; it must be numbers, not 0 where a point was measured"
        )
    if not np.isfinite(mask).all():
        raise UsageError(f"{where}: mask has values that are not finite; write it again")
    values = np.squeeze(mask) != 0
    if not values.any():
        raise UsageError(f"{where}: mask is 0 everywhere, as if nothing was measured; mend or leave it out")
    candidates = []
    for axes in (axes for count in range(1, 5) for axes in combinations(range(4), count)):
        if {2, 3} & set(axes) and values.shape == tuple(size[a] for a in axes):
            shape = [size[a] if a in axes else 1 for a in range(4)]
            one = values.reshape(shape)
            if (one == one[:, :1]).all():
                candidates.append(
                    (3 not in axes, 1 in axes, np.broadcast_to(one[:, 0], (shape[0], shape[2], size[3])))
                )
    if not candidates:
        slices, _, height, width = size
        raise UsageError(
            f"{where}: mask is {mask.dtype} of shape {mask.shape}; it must be numbers of shape ({width},) "
            f"or ({height}, {width}), or ({slices}, {width}) or ({slices}, {height}, {width}) for every slice"
        )
    return [one for _, _, one in sorted(candidates, key=lambda entry: entry[:2])]


def _require_agreement(magnitude: NDArray[np.float32], mask: Mask, where: str) -> None:
    """Refuse a mask that a slice contradicts; padded edges may be called measured, as fastMRI's masks do.

    Args:
        magnitude: of the data, (H, W).
        mask: (1 or H, W).
        where: for messages.

    Raises:
        UsageError: there are data where nothing was measured, or none where something was.
    """
    plane = np.broadcast_to(mask, magnitude.shape)
    extra = int((~plane & (magnitude > ROUNDING * magnitude.max())).sum())
    if extra:
        raise UsageError(
            f"{where}: mask and data disagree: {extra} points hold data that the mask calls not measured; "
            "mend or leave out the mask"
        )
    holds = (magnitude != 0) & plane
    columns = np.flatnonzero(holds.any(0))
    inside = np.zeros_like(holds)
    if len(columns):
        inside[:, columns[0] : columns[-1] + 1] = True
    missing = int((plane & inside & ~holds & holds.any(1)[:, None]).sum())
    if missing > ISOLATED * plane.sum():
        raise UsageError(
            f"{where}: mask and data disagree: {missing} points are zero that the mask calls measured; "
            "mend or leave out the mask"
        )


def _smallest(holds: Mask) -> Mask:
    """Points (1 or slices, 1 or H, W) as lines where columns are alike, once where slices are alike.

    Slices without any data have the points of the others.
    """
    nonzero = holds.any((1, 2))
    used = holds[nonzero]
    lines: Mask = np.asarray(used.any(1, keepdims=True))
    if (used == lines).all():
        used = lines
    if (used == used[:1]).all():
        one = used[0]
        return np.ascontiguousarray(one[0] if len(one) == 1 else one)
    whole = np.broadcast_to(used.any(0), (len(holds), *used.shape[1:])).copy()
    whole[nonzero] = used
    return whole
