"""``manifest.json``: what a folder of prepared data holds and how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import ValidationError

from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.registry import Params, describe

NAME = "manifest.json"


class Manifest(Params):
    """Everything about a store except the arrays; what all kinds of data share.

    Attributes:
        schema_version: version of this schema.
        data: kind of the data, ``mri`` or ``images``.
        kind: ``measurements`` for training, ``reference`` for evaluation only.
        created_by: program and version.
        parameters: all options of the preparation.
    """

    written_by: ClassVar[str] = "mrigen prep-fastmri or prep-images"

    schema_version: Literal[1] = 1
    data: str
    kind: Literal["measurements", "reference"]
    created_by: str
    parameters: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write ``folder/manifest.json`` atomically."""
        write_json(folder / NAME, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``folder/manifest.json``.

        Raises:
            UsageError: the folder is no prepared store, holds another kind of data, or its manifest
                is damaged.
        """
        tree = _tree(folder)
        wanted = cls.model_fields["data"].default
        if tree.get("data", "mri") != wanted:
            raise UsageError(f"{folder}: holds no {wanted} data; give a folder written by {cls.written_by}")
        try:
            return cls(**tree)
        except (ValidationError, TypeError) as error:
            reason = describe(error) if isinstance(error, ValidationError) else str(error)
            raise UsageError(f"{folder / NAME}: {reason}; prepare the data again") from error


def data_kind(folder: Path) -> str:
    """``mri`` or ``images``, as the manifest of a folder says.

    Raises:
        UsageError: the folder is no prepared store.
    """
    return str(_tree(folder).get("data", "mri"))


def _tree(folder: Path) -> dict[str, Any]:
    path = folder / NAME
    if not path.is_file():
        raise UsageError(f"{folder}: no {NAME} here; give a folder written by {Manifest.written_by}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON ({error}); prepare the data again") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: not valid JSON (no mapping); prepare the data again")
    return tree
