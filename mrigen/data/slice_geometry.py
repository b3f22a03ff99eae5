"""Where the slices of a volume lie in the patient, and the affine of NIfTI that follows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrigen.registry import Params

Vector = tuple[float, float, float]
Double = NDArray[np.float64]
EVEN_MM = 0.05
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


class SliceGeometry(Params):
    """Positions and directions of slices in the patient's coordinates of DICOM and ISMRMRD.

    The axes are L, P, S: x grows to the patient's left, y to the back, z to the head, in mm. The pixel in row
    h and column w of slice s lies at

        centres[s] + (h − H // 2) · spacing[0] · rows + (w − W // 2) · spacing[1] · columns,

    because a discrete Fourier transform with DC at H // 2 puts the middle of the field of view at pixel
    H // 2. Cropping an image about that pixel changes nothing of this.

    Attributes:
        rows: unit vector along which the row number h grows, the readout.
        columns: unit vector along which the column number w grows, the phase encode.
        normal: unit vector along the slice number, as the header says, or rows × columns.
        spacing: size of a pixel along H and W in mm.
        centres: position of pixel (H // 2, W // 2) of each slice.
        thickness: of a slice in mm; None where nobody says.
    """

    rows: Vector
    columns: Vector
    normal: Vector
    spacing: tuple[float, float]
    centres: tuple[Vector, ...]
    thickness: float | None = None

    def chosen(self, slices: list[int]) -> SliceGeometry:
        """The geometry of some of the slices."""
        return self.model_copy(update={"centres": tuple(self.centres[s] for s in slices)})

    @property
    def step(self) -> Double | None:
        """Vector from one slice to the next in LPS; None where the slices are not evenly spaced."""
        centres = np.asarray(self.centres)
        if len(centres) == 1:
            return (self.thickness or 1.0) * np.asarray(self.normal)
        step = (centres[-1] - centres[0]) / (len(centres) - 1)
        even = centres[0] + np.arange(len(centres))[:, None] * step
        if np.abs(even - centres).max() > EVEN_MM or not np.linalg.norm(step):
            return None
        return np.asarray(step)

    @property
    def gap(self) -> float | None:
        """Distance of the slices' centres along the normal minus their thickness, in mm; None if unknown."""
        step = self.step
        if self.thickness is None or step is None or len(self.centres) == 1:
            return None
        return float(abs(step @ np.asarray(self.normal)) - self.thickness)

    def affine(self, height: int, width: int) -> Double | None:
        """Voxel (column, row, slice) to RAS millimetres, (4, 4), for images of ``height`` x ``width``.

        None where the slices are not evenly spaced, which no affine can say.
        """
        step = self.step
        if step is None:
            return None
        along_h, along_w = (
            s * np.asarray(v) for s, v in zip(self.spacing, (self.rows, self.columns), strict=True)
        )
        first = np.asarray(self.centres[0]) - (height // 2) * along_h - (width // 2) * along_w
        affine = np.eye(4)
        affine[:3] = LPS_TO_RAS @ np.stack([along_w, along_h, step, first], axis=1)
        return affine

    @property
    def plane(self) -> str:
        """``axial``, ``coronal`` or ``sagittal``; ``oblique`` too where the normal is over 1° off an axis."""
        normal = np.abs(np.cross(self.rows, self.columns))
        name = ("sagittal", "coronal", "axial")[int(normal.argmax())]
        return name if normal.max() > np.cos(np.deg2rad(1)) else f"oblique {name}"

    def axis_codes(self) -> str:
        """Letters of the directions in which columns, rows and slices grow, ``LPS`` for example."""
        step = self.step
        along = np.asarray(self.normal) if step is None else step
        letters = []
        for vector in (np.asarray(self.columns), np.asarray(self.rows), along):
            axis = int(np.abs(vector).argmax())
            letters.append("LPS"[axis] if vector[axis] > 0 else "RAI"[axis])
        return "".join(letters)


def along_lines(
    centres: Double,
    rows: Double,
    columns: Double,
    normal: Double,
    spacing: tuple[float, float],
    thickness: float | None,
) -> SliceGeometry:
    """A geometry from arrays; directions are normalised.

    Args:
        centres: (slices, 3) in LPS mm.
        rows: direction of the readout.
        columns: direction of the phase encode.
        normal: direction of the slices; zeros for rows × columns.
        spacing: size of a pixel along H and W in mm.
        thickness: of a slice in mm, or None.
    """
    across = normal if np.linalg.norm(normal) > 0 else np.cross(rows, columns)
    return SliceGeometry(
        rows=_unit(rows),
        columns=_unit(columns),
        normal=_unit(across),
        spacing=spacing,
        centres=tuple((float(x), float(y), float(z)) for x, y, z in centres),
        thickness=thickness,
    )


def _unit(vector: Double) -> Vector:
    x, y, z = (vector / np.linalg.norm(vector)).tolist()
    return x, y, z
