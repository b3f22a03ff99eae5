"""Learn generators of clean images from corrupted measurements only, MRI first.

Names are imported on first use, so that ``import mrigen`` and ``mrigen --help`` cost neither torch nor
sigpy.

Examples:
    >>> import mrigen as mg
    >>> A = mg.operators.MultiCoilMRI.example()
    >>> x = A.zero_image() + 1
    >>> data = mg.Measurements(A(x), A)
    >>> mg.reconstruct(data, solver="cg-sense", steps=200).shape
    torch.Size([2, 1, 12, 9])
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "losses": "mrigen.losses",
    "masks": "mrigen.masks",
    "metrics": "mrigen.metrics",
    "networks": "mrigen.networks",
    "objectives": "mrigen.diffusion.objectives",
    "operators": "mrigen.operators",
    "samplers": "mrigen.diffusion.samplers",
    "solvers": "mrigen.inverse",
}

_LAZY = {
    "MeasurementStore": "mrigen.data.mri_store",
    "Measurements": "mrigen.operators",
    "MixedStore": "mrigen.data.mixed_store",
    "Model": "mrigen.model",
    "MultiCoilMRI": "mrigen.operators",
    "TensorStore": "mrigen.data.tensor_store",
    "UsageError": "mrigen.errors",
    "compress_coils": "mrigen.coils.compress",
    "distill": "mrigen.learning",
    "espirit": "mrigen.coils.espirit",
    "fft": "mrigen.fourier",
    "from_deepinv": "mrigen.operators",
    "from_sigpy": "mrigen.operators",
    "ifft": "mrigen.fourier",
    "load": "mrigen.model",
    "open_store": "mrigen.data.stores",
    "read_kspace": "mrigen.prep.readers",
    "reconstruct": "mrigen.reconstruction.in_memory",
    "to_deepinv": "mrigen.operators",
    "to_sigpy": "mrigen.operators",
    "train": "mrigen.learning",
    "whiten": "mrigen.coils.whiten",
}

__all__ = [
    "MeasurementStore",
    "Measurements",
    "MixedStore",
    "Model",
    "MultiCoilMRI",
    "TensorStore",
    "UsageError",
    "__version__",
    "compress_coils",
    "distill",
    "espirit",
    "fft",
    "from_deepinv",
    "from_sigpy",
    "ifft",
    "load",
    "losses",
    "masks",
    "metrics",
    "networks",
    "objectives",
    "open_store",
    "operators",
    "read_kspace",
    "reconstruct",
    "samplers",
    "solvers",
    "to_deepinv",
    "to_sigpy",
    "train",
    "whiten",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mrigen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
