"""Networks in lower precision, and networks compiled by torch.compile."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Callable
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn
from torch.utils._triton import has_triton

from mrigen import ranks
from mrigen.errors import UsageError
from mrigen.files import cache_folder
from mrigen.networks import Preconditioner
from mrigen.tensors import triton_kernels_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric


TRAINED, EVALUATED = 500_000, 50_000  # images from which compilation may save more time than it takes
TYPICAL = 64 * 64  # pixels of these
GRAPHS = 64


Compile = bool | Literal["graphs"]
"""Whether to compile networks, and to replay them as CUDA graphs."""


def use_network_precision(fabric: Fabric) -> None:
    """Replace Fabric's mixed precision, which rounds inputs as well."""
    from lightning_fabric.plugins.precision import MixedPrecision

    class NetworkPrecision(MixedPrecision):  # type: ignore[misc]
        """Autocast within a network's forward pass; what goes in stays float32.

        The preconditioner adds c_skip x to the network's output: x rounded to bfloat16 would have an error
        of 0.4 % at every noise level, and so would σ.
        """

        def convert_input(self, data: Any) -> Any:
            """Images and noise levels as they are."""
            return data

    precision = fabric.strategy.precision
    if type(precision) is MixedPrecision:
        fabric.strategy.precision = NetworkPrecision(precision.precision, precision.device, precision.scaler)


class AutocastModule(nn.Module):
    """A preconditioned network that is not trained, in the precision of those that are.

    Args:
        module: called as it is.
        fabric: whose precision.
    """

    def __init__(self, module: nn.Module, fabric: Fabric) -> None:
        super().__init__()
        self.module, self._fabric = module, fabric

    @property
    def network(self) -> Any:
        """The network that is preconditioned."""
        return self.module.network

    def nearest_level(self, sigma: float) -> float:
        """The module's noise level nearest to σ."""
        return cast("Preconditioner", self.module).nearest_level(sigma)

    def forward(self, *inputs: Any) -> Any:
        """The module's output."""
        with self._fabric.strategy.precision.forward_context():
            return self.module(*inputs)


def compiles(asked: Compile | None, device: torch.device, images: int, least: int) -> Compile:
    """Whether networks are to be compiled: as asked, or else on one GPU for many images.

    Args:
        asked: None where nobody said.
        device: of the networks.
        images: that go through a network.
        least: so many are worth it, ``TRAINED`` or ``EVALUATED``.
    """
    if asked is not None:
        return asked
    if device.type != "cuda" or ranks.world_size() > 1 or images < least:
        return False
    if triton_kernels_of(device) is None:
        warnings.warn("compile: Triton does not run on this GPU; networks stay as they are", stacklevel=2)
        return False
    return True


def typical_images(count: int, shape: tuple[int, ...]) -> int:
    """As many images of 64 x 64 as so many of a shape (C, H, W) have pixels."""
    return count * math.prod(shape[-2:]) // TYPICAL


def compile_network(
    network: nn.Module, device: torch.device, *, graphs: bool = False, retained: bool = False
) -> None:
    """Compile a preconditioned network in place at its first use; names of its weights stay the same.

    A copy of it is not compiled, and each size of batch is compiled anew. What was compiled is
    kept in ``$XDG_CACHE_HOME/mrigen/inductor`` for the next process, unless
    ``TORCHINDUCTOR_CACHE_DIR`` names another folder.

    Args:
        network: preconditioned.
        device: where it is called.
        graphs: replay all kernels of a pass at once (CUDA graphs): faster where they are small, and memory of
            every pass is kept.
        retained: gradients of one forward pass are taken several times.

    A compiler that fails, on the forward pass or on the gradient's, is told in one line, and the network is
    called as it is.

    Raises:
        UsageError: nothing here could compile it, or graphs without a GPU.
    """
    if graphs and device.type != "cuda":
        raise UsageError("compile: graphs are for NVIDIA's GPUs; set compile: true, or leave it out")
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UsageError(
            f"compile: there is no C++ compiler {compiler} here; install it or leave compile out"
        )
    if device.type == "cuda" and not has_triton():
        raise UsageError("compile: Triton does not run on this GPU; leave compile out")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    # Networks of one run share the code of their forward passes: teacher, fake score and generator, each with
    # and without gradients.
    from torch._dynamo import config
    from torch._functorch import config as gradients
    from torch._inductor import config as kernels

    config.recompile_limit = max(GRAPHS, config.recompile_limit)
    if retained:
        gradients.donated_buffer = False  # else a first gradient may overwrite what the second needs
    if hasattr(gradients, "force_non_lazy_backward_lowering"):
        # Otherwise the gradient is compiled at the first backward pass, where nothing can take its place.
        gradients.force_non_lazy_backward_lowering = True
    if torch.are_deterministic_algorithms_enabled() and hasattr(kernels, "deterministic"):
        kernels.deterministic = True  # none is chosen by measuring
    # The compiler looks at the gradient of an input that is computed from others, of which torch then warns.
    warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
    options: dict[str, Any] = {}
    if device.type == "cuda":
        # Weights are channels last, and torch's own rule would have small networks convert every activation.
        options = {"force_layout_optimization": True, "triton.cudagraphs": graphs}
    inner = cast("Preconditioner", network).network
    inner.compile(dynamic=False, options=options)
    compiled = inner._compiled_call_impl  # noqa: SLF001
    assert compiled is not None
    inner._compiled_call_impl = _or_as_it_is(inner, compiled)  # noqa: SLF001


def _or_as_it_is(module: nn.Module, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Calls what was compiled; if the compiler fails, says so once and goes on without it."""
    from torch._dynamo.exc import TorchDynamoException

    def call(*inputs: Any, **named: Any) -> Any:
        try:
            return compiled(*inputs, **named)
        except TorchDynamoException as error:
            paragraph = str(error).strip().partition("\n\n")[0]
            reason = shorten(paragraph, 300, placeholder=" ...")
            warnings.warn(f"compile: failed ({reason}); the network runs as it is", stacklevel=2)
            module._compiled_call_impl = None  # noqa: SLF001
            return module(*inputs, **named)

    return call
