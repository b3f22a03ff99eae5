"""What is wrong with a stranger's k-space, in one line each."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.errors import UsageError


def require_centred(kspace: Tensor, where: str) -> None:
    """Refuse k-space whose energy does not peak near its centre, where DC belongs.

    Args:
        kspace: complex (n, coils, H, W).
        where: for messages.

    Raises:
        UsageError: the peak is farther from (H // 2, W // 2) than an eighth of a side.
    """
    energy = torch.view_as_real(kspace).square().sum((0, 1, 4))
    height, width = energy.shape
    row, column = divmod(int(energy.argmax()), width)
    near = [max(2, side // 8) for side in (height, width)]
    offset = [row - height // 2, column - width // 2]
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


def require_agreement(kspace: Tensor, mask: Tensor, where: str) -> None:
    """Refuse a mask that the data contradict.

    Zero-padded lines at the edges may be called measured, as fastMRI's masks do.

    Args:
        kspace: complex (n, coils, H, W).
        mask: what was measured, bool (W,) or (H, W).
        where: for messages.

    Raises:
        UsageError: there are data where nothing was measured, or none where something was.
    """
    holds = (kspace != 0).any(1).any(0)
    full = mask.expand(holds.shape)
    extra = int((holds & ~full).sum())
    if extra:
        raise UsageError(
            f"{where}: mask and data disagree: {extra} points hold data that the mask calls not measured; "
            "mend or leave out the mask"
        )
    columns = holds.any(0).nonzero().flatten()
    inside = torch.zeros_like(holds)
    if len(columns):
        inside[:, int(columns[0]) : int(columns[-1]) + 1] = True
    rows = holds.any(1)
    missing = int((full & inside & ~holds & rows[:, None]).sum())
    if missing:
        raise UsageError(
            f"{where}: mask and data disagree: {missing} points are zero that the mask calls measured; "
            "mend or leave out the mask"
        )
