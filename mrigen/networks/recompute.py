"""Gradients of large images in little memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mrigen.networks.blocks import UNetBlock


def recomputed(network: nn.Module) -> nn.Module:
    """The network, changed to keep only the inputs of its blocks for a gradient.

    What happens inside a block is computed again when its gradient is wanted (Chen et al. 2016), which takes
    about a third more time. Values and gradients stay the same where nothing is dropped at random.

    Args:
        network: in evaluation mode; blocks that were changed before, and networks without U-Net blocks, stay
            as they are.
    """
    for block in network.modules():
        if isinstance(block, UNetBlock) and not isinstance(block.forward, partial):
            block.forward = partial(_again, block.forward)  # type: ignore[method-assign]
    return network


def _again(forward: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*arguments)
    found: Tensor = checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False)
    return found
