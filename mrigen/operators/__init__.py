"""Forward models A, and corruptions: distributions over forward models."""

from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.blur import Blur
from mrigen.operators.composition import Composition, LinearComposition, compose
from mrigen.operators.compressed_sensing import Rows
from mrigen.operators.corruption import CORRUPTIONS, Corruption, ImageCorruption, make_corruption
from mrigen.operators.deepinv_bridge import from_deepinv, to_deepinv
from mrigen.operators.fourier_masks import FourierMask
from mrigen.operators.identity import Identity
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MRICorruption, MultiCoilMRI
from mrigen.operators.noise import Noise
from mrigen.operators.non_cartesian import NonCartesianMRI
from mrigen.operators.nonlinear import Clip, FourierMagnitude
from mrigen.operators.recoverability import Recoverability, recoverability
from mrigen.operators.sigpy_bridge import SigpyOperator, from_sigpy, to_sigpy
from mrigen.operators.super_resolution import Separable
from mrigen.operators.vlbi import ClosureQuantities, Visibilities
from mrigen.tensors import concatenate

__all__ = [
    "CORRUPTIONS",
    "Blur",
    "Clip",
    "ClosureQuantities",
    "Composition",
    "Corruption",
    "FourierMagnitude",
    "FourierMask",
    "Identity",
    "ImageCorruption",
    "LinearComposition",
    "LinearOperator",
    "MRICorruption",
    "Measurements",
    "MultiCoilMRI",
    "Noise",
    "NonCartesianMRI",
    "Operator",
    "PixelMask",
    "Recoverability",
    "Rows",
    "Separable",
    "SigpyOperator",
    "Visibilities",
    "compose",
    "concatenate",
    "from_deepinv",
    "from_sigpy",
    "make_corruption",
    "recoverability",
    "to_deepinv",
    "to_sigpy",
]
