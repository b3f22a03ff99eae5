"""The closed table of names that a checkpoint's pickle may mention, and what each one becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mrigen.checkpoints.stored import DTYPES, STORAGES, DType, Persistent, Storage, StoredTensor
from mrigen.pickles.plain import Builder, MalformedError, Record, checked_key, printable

T = TypeVar("T")

PATHS = ("", "Posix", "PurePosix", "Windows", "PureWindows", "Pure")
RECORDS = (
    ("torch.nn.modules.container", "ModuleDict"),
    ("torch.nn.modules.container", "ModuleList"),
    ("torch.nn.modules.container", "Sequential"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    *((module, kind + "Path") for module in ("pathlib", "pathlib._local") for kind in PATHS),
)
DICTIONARIES = (
    ("collections", "OrderedDict"),
    ("dnnlib.util", "EasyDict"),
    ("builtins", "dict"),
    ("__builtin__", "dict"),
)


def table(load_bytes: Callable[[memoryview], object]) -> dict[tuple[str, str], object]:
    """(module, name) to a builder or constant.

    Args:
        load_bytes: reader of the pickle that ``torch.storage`` nests into a plain one.
    """
    names: dict[tuple[str, str], object] = {
        ("torch._utils", "_rebuild_tensor"): Builder("tensor", _tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Builder("tensor", _tensor),
        ("torch._utils", "_rebuild_tensor_v3"): Builder("tensor", _tensor_with_dtype),
        ("torch._utils", "_rebuild_parameter"): Builder("parameter", _parameter),
        ("torch._utils", "_rebuild_parameter_with_state"): Builder("parameter", _parameter),
        ("torch.storage", "_load_from_bytes"): Builder("storage", lambda data: _storage(load_bytes, data)),
        ("torch", "Size"): Builder("size", lambda size=(): _sequence(size, tuple)),
        ("torch", "device"): Builder(
            "device", lambda *parts: ":".join(str(part) for part in parts if _plain(part))
        ),
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): Builder("object", _persistent),
        ("_codecs", "encode"): Builder("bytes", _encode),
    }
    for module in ("builtins", "__builtin__"):
        names[module, "set"] = Builder(
            "set", lambda items=(): {checked_key(i) for i in _sequence(items, list)}
        )
    for module, name in DICTIONARIES:
        names[module, name] = Builder(name, _dictionary)
    for module in ("builtins", "__builtin__"):
        names[module, "list"] = Builder("list", lambda items=(): _sequence(items, list))
        names[module, "tuple"] = Builder("tuple", lambda items=(): _sequence(items, tuple))
        for kind in ("int", "float", "bool", "str"):
            names[module, kind] = Builder(kind, _recorder(kind))
    names["collections", "defaultdict"] = Builder("defaultdict", _defaults)
    for module, name in RECORDS:
        names[module, name] = Builder(name, _recorder(name))
    for name in DTYPES:
        names["torch", name] = DType(name)
    for name, dtype in STORAGES.items():
        names["torch", name] = names["torch.storage", name] = DType(dtype)
    return names


def _plain(value: object) -> bool:
    if isinstance(value, str | int):
        return True
    raise MalformedError("describes a device with something else than text and numbers")


def _sequence(items: object, kind: Callable[[tuple[object, ...]], T]) -> T:
    if not isinstance(items, list | tuple):
        raise MalformedError(f"makes a collection of a {type(items).__name__}")
    return kind(tuple(items))


def _recorder(name: str) -> Callable[..., Record]:
    def build(*arguments: object) -> Record:
        return Record(name, {"arguments": arguments})

    return build


def _defaults(factory: object = None, items: object = ()) -> dict[object, object]:
    del factory
    return _dictionary(items)


def _dictionary(items: object = ()) -> dict[object, object]:
    if isinstance(items, dict):
        return dict(items)
    mapping = {}
    for pair in _sequence(items, tuple):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise MalformedError("makes a dictionary of something else than pairs")
        mapping[checked_key(pair[0])] = pair[1]
    return mapping


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in {"latin1", "latin-1"}:
        raise MalformedError("encodes bytes in an unknown way")
    return text.encode("latin-1")


def _storage(load_bytes: Callable[[memoryview], object], data: object) -> Storage:
    if not isinstance(data, bytes | memoryview):
        raise MalformedError("nests a storage that is not made of bytes")
    storage = load_bytes(memoryview(data))
    if not isinstance(storage, Storage):
        raise MalformedError(f"nests a {type(storage).__name__} where a storage belongs")
    return storage


def _tensor(storage: object, offset: int, shape: object, strides: object, *_: object) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise MalformedError(f"makes a tensor of a {type(storage).__name__}")
    return StoredTensor(storage, storage.dtype, offset, _sequence(shape, _ints), _sequence(strides, _ints))


def _tensor_with_dtype(
    storage: object,
    offset: int,
    shape: object,
    strides: object,
    grad: object,
    hooks: object,
    dtype: object,
    *_: object,
) -> StoredTensor:
    del grad, hooks
    if not isinstance(storage, Storage) or not isinstance(dtype, DType):
        raise MalformedError(f"makes a tensor of a {type(storage).__name__}")
    return StoredTensor(storage, dtype.name, offset, _sequence(shape, _ints), _sequence(strides, _ints))


def _ints(items: tuple[object, ...]) -> tuple[int, ...]:
    if not all(type(item) is int for item in items):
        raise MalformedError("has a tensor whose shape is not made of numbers")
    return items  # type: ignore[return-value]


def _parameter(data: object, *_: object) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise MalformedError(f"makes a parameter of a {type(data).__name__}")
    return data


def _persistent(meta: object) -> Persistent:
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise MalformedError("has a persistent object without description")
    name, state = meta.get("class_name"), meta.get("state")
    if not isinstance(name, str) or not isinstance(state, dict):
        raise MalformedError("has a persistent object without class name or state")
    return Persistent(printable(name), state)
