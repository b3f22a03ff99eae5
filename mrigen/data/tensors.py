"""The tensors of an operator by name, and the same operator with other tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from mrigen.tensors import TensorRecord

R = TypeVar("R", bound=TensorRecord)


def tensors_of(record: TensorRecord, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a record and of the records in it, by field names joined with dots."""
    found: dict[str, Tensor] = {}
    for name, value in _fields(record).items():
        if isinstance(value, Tensor):
            found[f"{prefix}{name}"] = value
        elif isinstance(value, TensorRecord):
            found.update(tensors_of(value, f"{prefix}{name}."))
    return found


def with_tensors(record: R, tensors: Mapping[str, Tensor], prefix: str = "") -> R:
    """Copy of a record in which some tensors, named as ``tensors_of`` does, are replaced."""
    changed: dict[str, Any] = {}
    for name, value in _fields(record).items():
        if isinstance(value, TensorRecord):
            changed[name] = with_tensors(value, tensors, f"{prefix}{name}.")
        elif f"{prefix}{name}" in tensors:
            changed[name] = tensors[f"{prefix}{name}"]
    return dataclasses.replace(record, **changed)  # type: ignore[type-var]


def varying(record: TensorRecord, batch: int) -> list[str]:
    """Names of the tensors that have one entry per sample of a record of ``batch`` > 1 samples."""
    return [name for name, tensor in tensors_of(record).items() if len(tensor) == batch]


def _fields(record: TensorRecord) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}  # type: ignore[arg-type]
