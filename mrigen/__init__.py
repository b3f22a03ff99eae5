"""Learn generators of clean images from corrupted measurements only, MRI first.

Heavy names (``load_model``, ``espirit``, ...) are imported on first use, so that
``import mrigen`` and ``mrigen --help`` cost neither torch nor sigpy.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "MeasurementStore": "mrigen.data.store",
    "MultiCoilMRI": "mrigen.operators.mri",
    "espirit": "mrigen.coils.espirit",
    "load_denoiser": "mrigen.checkpoints.folder",
    "load_generator": "mrigen.engine.build",
    "load_model": "mrigen.checkpoints.folder",
}

__all__ = [
    "MeasurementStore",
    "MultiCoilMRI",
    "__version__",
    "espirit",
    "load_denoiser",
    "load_generator",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mrigen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
