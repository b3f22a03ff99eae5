"""Safetensors files: written whole or not at all, read as views of the mapped file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mrigen.errors import UsageError
from mrigen.files import atomic, sha256

if TYPE_CHECKING:
    from torch import Tensor, nn


def write_weights(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """Write a safetensors file atomically and return its SHA-256.

    Raises:
        UsageError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        try:
            save_file(dict(tensors), temporary, {"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{path}: {reason}; check its permissions and the free space") from error
        return sha256(temporary)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module on the CPU, real numbers as float32."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def state_digest(module: nn.Module) -> str:
    """SHA-256 of the names and values of a module's state."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_weights(module: nn.Module, path: Path) -> None:
    """Give a module on the meta device its weights: views of the mapped file, read when used.

    Raises:
        UsageError: the file is damaged, or its tensors are not those of the module.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing: copy the whole model folder") from error
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is damaged ({reason}): copy or write the model again") from error
    expected = module.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        what = "lacks" if name in expected else "has an unknown tensor"
        raise UsageError(f"{path} {what} {name!r}: it does not belong to the model.json beside it")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise UsageError(
                f"{path}: {name} is {tuple(tensor.shape)} {tensor.dtype}, the model.json beside it says "
                f"{tuple(expected[name].shape)} {expected[name].dtype}"
            )
    module.load_state_dict(tensors, assign=True)
