"""Forward models A, one file each, and corruptions: distributions over forward models."""

from mrigen.operators.base import LinearOperator, Measurements
from mrigen.operators.mri import MultiCoilMRI

__all__ = ["LinearOperator", "Measurements", "MultiCoilMRI"]
