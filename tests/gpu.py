"""What tests of a GPU share; a machine without one leaves them out."""

import sys
import warnings
from contextlib import contextmanager

import pytest
import torch

from mrigen import tensors


def needs_gpu(test):
    """Mark a test ``gpu`` (``pytest -m gpu``), and leave it out where there is none."""
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")(test))


@contextmanager
def without_waiting():
    """What would make the processor wait for the GPU raises."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode")
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@contextmanager
def noise_of_the_processor():
    """A GPU's noise is drawn as a processor draws it, to compare the two."""
    drawn = tensors.randn_like

    def here(x, rng):
        return tensors.to_device(drawn(torch.empty(x.shape, dtype=x.dtype), rng), x.device)

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("mrigen.") and getattr(module, "randn_like", None) is drawn:
                patch.setattr(module, "randn_like", here)
        yield
