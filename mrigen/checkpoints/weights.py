"""Safetensors files, written tensor by tensor and read as views of the mapped file."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.files import atomic

if TYPE_CHECKING:
    from torch import Tensor, nn

CODES = {"float32": "F32", "int64": "I64", "bool": "BOOL"}


@dataclass(frozen=True)
class Entry:
    """One tensor to write.

    Attributes:
        name: its name.
        shape: its shape.
        parts: makes the arrays that, one after the other in memory, are the tensor; called when it is
            the tensor's turn, so that no two are in memory at once.
        dtype: numpy's name of the element type.
    """

    name: str
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[NDArray[np.generic]]]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def write_weights(path: Path, entries: Sequence[Entry], metadata: dict[str, str] | None = None) -> str:
    """Write a safetensors file atomically and return its SHA-256.

    Only one tensor is in memory at a time, which the safetensors package's own writer cannot do.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for entry in entries:
        start, end = end, end + entry.size
        header[entry.name] = {
            "dtype": CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with atomic(path) as temporary, temporary.open("wb") as file:

        def put(data: bytes | memoryview) -> None:
            file.write(data)
            digest.update(data)

        put(struct.pack("<Q", len(text)) + text)
        for entry in entries:
            written = 0
            for part in entry.parts():
                data = np.ascontiguousarray(part, entry.dtype).reshape(-1).view(np.uint8).data
                written += len(data)
                put(data)
            if written != entry.size:
                raise ValueError(f"{entry.name} has {written} bytes, its shape says {entry.size}")
    return digest.hexdigest()


def module_entries(module: nn.Module) -> list[Entry]:
    """The state of a module, real numbers as float32."""
    return [_entry(name, tensor) for name, tensor in module.state_dict().items()]


def _entry(name: str, tensor: Tensor) -> Entry:
    dtype = "float32" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")

    def parts() -> list[NDArray[np.generic]]:
        wanted = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        return [wanted.cpu().numpy()]

    return Entry(name, tuple(tensor.shape), parts, dtype)


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
