"""Networks compiled by torch.compile."""

from __future__ import annotations

import os
import shutil
from typing import cast

import torch
from torch import nn
from torch.utils._triton import has_triton

from mrigen.errors import UsageError
from mrigen.networks import Preconditioner


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Compile a preconditioned network in place at its first use; names of its weights stay the same.

    A copy of it is not compiled.

    Raises:
        UsageError: nothing here could compile it.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UsageError(
            f"compile: there is no C++ compiler {compiler} here; install it or leave compile out"
        )
    if device.type == "cuda" and not has_triton():
        raise UsageError("compile: Triton does not run on this GPU; leave compile out")
    cast("Preconditioner", network).network.compile()
