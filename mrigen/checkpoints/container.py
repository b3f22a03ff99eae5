"""The ways in which a checkpoint is wrapped: plain pickle, old torch.save, zipped torch.save, safetensors."""

from __future__ import annotations

import io
import json
import math
import mmap
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrigen.checkpoints.pickle_allowlist import table
from mrigen.checkpoints.stored import DTYPES, SAFETENSORS, DType, Storage, StoredTensor
from mrigen.errors import UsageError
from mrigen.pickles.machine import Machine
from mrigen.pickles.plain import Budget, MalformedError, printable

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
ZIP_MAGIC = b"PK\x03\x04"
MAX_NESTING = 2
NESTING_COST = 20
MAX_DIRECTORY = 1 << 21
LOCAL_HEADER = 30
METADATA = "__metadata__"
MAX_HEADER = 1 << 25


def read_checkpoint(path: Path) -> Any:
    """Contents of a pickle, torch.save or safetensors file as plain data; nothing in it is executed.

    Dictionaries, lists, tuples, sets, text and numbers become themselves, tensors ``StoredTensor``
    views of the mapped file, and known objects ``Record`` or ``Persistent``. The tensors of a safetensors
    file are its ``state_dict``, and its text ``__metadata__``.

    Raises:
        UsageError: the file is missing, damaged, or holds anything else; names what.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give the .pkl or .pt file in it")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file: give a .pkl or .pt file")
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist: check the path of the checkpoint") from None
    except ValueError:
        raise UsageError(f"{path} is empty: download it again") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    try:
        return safetensors(data) if is_safetensors(data) else _Reader(data, Budget()).read()
    except MalformedError as error:
        raise UsageError(
            f"{path} {error}; nothing of it was executed: download it again, or ask its author for a "
            "state_dict"
        ) from None


def is_safetensors(data: memoryview) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON object, and the object."""
    return len(data) > 9 and bytes(data[8:9]) == b"{" and struct.unpack("<Q", data[:8])[0] <= len(data) - 8


def safetensors(data: memoryview) -> dict[str, Any]:
    """Tensors and metadata of a safetensors file, as views of it.

    Raises:
        MalformedError: the header is not JSON, or declares tensors that the file does not hold.
    """
    (length,) = struct.unpack("<Q", data[:8])
    if length > MAX_HEADER:
        raise MalformedError(f"has a header of more than {MAX_HEADER >> 20} MiB")
    try:
        header = json.loads(bytes(data[8 : 8 + length]).decode())
    except (ValueError, RecursionError) as error:
        raise MalformedError("has a header that is not JSON") from error
    metadata = header.pop(METADATA, {})
    tensors = {name: _stored_tensor(name, entry, data[8 + length :]) for name, entry in header.items()}
    return {"state_dict": tensors, METADATA: metadata}


def _stored_tensor(name: str, entry: Any, body: memoryview) -> StoredTensor:
    try:
        dtype, shape = SAFETENSORS[entry["dtype"]], tuple(entry["shape"])
        first, last = entry["data_offsets"]
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        storage = Storage(dtype, math.prod(shape))
        data = body[first:last] if 0 <= first <= last else body[:0]
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedError(f"declares the tensor {printable(name)!r} in an unknown way") from error
    tensor = StoredTensor(storage, dtype, 0, shape, tuple(strides))
    storage.fill(data)
    return tensor


@dataclass
class _Reader:
    """One container, possibly nested in another one's bytes."""

    data: memoryview
    budget: Budget
    nesting: int = 0
    storages: dict[str, Storage] = field(default_factory=dict)

    def read(self) -> Any:
        if self.data[:4] == ZIP_MAGIC:
            return self._zip()
        machine = Machine(self.data, table(self._nested), self.budget, self._persistent)
        first = machine.load()
        return self._legacy(machine) if first == LEGACY_MAGIC else first

    def _nested(self, data: memoryview) -> Any:
        if self.nesting + 1 >= MAX_NESTING:
            raise MalformedError("nests pickles in pickles in pickles")
        self.budget.spend(opcodes=NESTING_COST)
        return _Reader(data, self.budget, self.nesting + 1).read()

    def _persistent(self, identity: object) -> Storage:
        """('storage', type, key, location, count, view) of torch.save; the device is of no interest."""
        if not isinstance(identity, tuple) or len(identity) not in {5, 6} or identity[0] != "storage":
            raise MalformedError("refers to data in an unknown way")
        _, dtype, key, _, count, *view = identity
        if not isinstance(dtype, DType) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise MalformedError("refers to a storage of unknown type")
        if any(part is not None for part in view):
            raise MalformedError("has a storage that is a view of another: save it with a newer torch")
        storage = self.storages.setdefault(key, Storage(dtype.name, count))
        if (storage.dtype, storage.count) != (dtype.name, count):
            raise MalformedError(f"contradicts itself about storage {printable(key)}")
        return storage

    def _legacy(self, machine: Machine) -> Any:
        """Magic number, protocol, system, object, storage keys; then count and bytes of each storage."""
        protocol, system, content, keys = (machine.load() for _ in range(4))
        if (
            protocol != LEGACY_PROTOCOL
            or not isinstance(system, dict)
            or not system.get("little_endian", True)
        ):
            raise MalformedError("was written by an unknown version of torch.save or on a big-endian machine")
        for key in keys if isinstance(keys, list) else ():
            (count,) = struct.unpack("<q", machine.take(8))
            if not isinstance(key, str) or key not in self.storages or count != self.storages[key].count:
                raise MalformedError("lists storages that it does not use")
            storage = self.storages[key]
            storage.fill(machine.take(count * DTYPES[storage.dtype].itemsize))
        return content

    def _zip(self) -> Any:
        members = _stored_members(self.data)
        self.budget.spend(opcodes=len(members))
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise MalformedError("is a zip archive without a data.pkl: not written by torch.save")
        root = pickles[0].removesuffix("data.pkl")
        if root + "constants.pkl" in members:
            raise MalformedError("is a TorchScript program: only saved weights can be imported")
        if bytes(members.get(root + "byteorder", memoryview(b"little"))) != b"little":
            raise MalformedError("was written on a big-endian machine")
        machine = Machine(members[pickles[0]], table(self._nested), self.budget, self._persistent)
        content = machine.load()
        for key, storage in self.storages.items():
            if f"{root}data/{key}" not in members:
                raise MalformedError(f"lacks its storage {printable(key)}")
            storage.fill(members[f"{root}data/{key}"])
        return content


class _View(io.RawIOBase):
    """What ``zipfile`` needs of a file, over a buffer, with reads of a bounded size."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, len(self._data))[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        rest = max(0, len(self._data) - self._position)
        size = rest if size < 0 else min(size, rest)
        if size > MAX_DIRECTORY:
            raise MalformedError("is a zip archive with an absurd directory")
        start, self._position = self._position, self._position + size
        return bytes(self._data[start : start + size])


def _stored_members(data: memoryview) -> dict[str, memoryview]:
    """Members of a zip archive, which torch.save never compresses; so no bomb can unfold."""
    try:
        with zipfile.ZipFile(_View(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise MalformedError("is a damaged or cut off zip archive") from error
    members: dict[str, memoryview] = {}
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise MalformedError("is a compressed zip archive: torch.save writes uncompressed ones")
        header = bytes(data[entry.header_offset : entry.header_offset + LOCAL_HEADER])
        if len(header) < LOCAL_HEADER or header[:4] != ZIP_MAGIC:
            raise MalformedError("is a damaged zip archive")
        name, extra = struct.unpack("<HH", header[26:30])
        start = entry.header_offset + LOCAL_HEADER + name + extra
        if start + entry.file_size > len(data) or entry.filename in members:
            raise MalformedError("is a damaged zip archive")
        members[entry.filename] = data[start : start + entry.file_size]
    return members
