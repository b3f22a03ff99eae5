"""Stages that run once: finished ones are skipped, changed ones are refused, interrupted ones continue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mrigen.engine.processes import is_rank_zero, on_rank_zero
from mrigen.errors import UsageError
from mrigen.files import write_json

NAME = "stage.json"


@dataclass(frozen=True)
class Stage:
    """A folder and the settings that made it.

    Args:
        name: word for messages.
        folder: where its results lie.
        settings: everything that decides the results, JSON values only; includes the fingerprints of
            the stages that it builds on.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Digest of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def run(self, action: Callable[[], None], console: Console) -> bool:
        """Do the stage unless it is finished; returns whether anything was done.

        Several processes do it together; the first one keeps the record.

        Raises:
            UsageError: the folder holds results of other settings, or what ``action`` raises; if it did
                nothing yet, the folder is removed again.
        """
        finished, new = on_rank_zero(lambda: self._begin(console))
        if finished:
            return False
        try:
            action()
        except UsageError:
            if new and is_rank_zero():
                self._withdraw()
            raise
        on_rank_zero(
            lambda: write_json(self.folder / NAME, {"finished": True, "settings": dict(self.settings)})
        )
        return True

    def _begin(self, console: Console) -> tuple[bool, bool]:
        """Check and write the record; whether the stage is finished, and whether it is new."""
        record = self._record()
        if record is not None and record["settings"] != json.loads(json.dumps(self.settings)):
            raise UsageError(
                f"{self.folder}: was made with other settings "
                f"({_difference(record['settings'], self.settings)}); "
                "choose another --out or delete this folder"
            )
        if record is not None and record["finished"]:
            console.print(
                f"{self.name}: finished before, skipped ({self.folder})", highlight=False, markup=False
            )
            return True, False
        write_json(self.folder / NAME, {"finished": False, "settings": dict(self.settings)})
        return False, record is None

    def _withdraw(self) -> None:
        """Forget a stage that a mistake ended before it had anything: the corrected command is another."""
        log = self.folder / "log.jsonl"
        if {path.name for path in self.folder.iterdir()} <= {NAME, log.name}:
            (self.folder / NAME).unlink()
            log.unlink(missing_ok=True)
            self.folder.rmdir()

    def _record(self) -> dict[str, Any] | None:
        path = self.folder / NAME
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: damaged ({error}); delete {self.folder} and run again") from error
        if not isinstance(record, dict) or not {"finished", "settings"} <= set(record):
            raise UsageError(f"{path}: no record of a stage; delete {self.folder} and run again")
        return record


def _difference(old: Any, new: Any, prefix: str = "") -> str:
    """The first few settings that differ, ``key: old → new``."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, Mapping):
            inner = _difference(a, b, f"{prefix}{key}.")
            if inner:
                found.append(inner)
        elif json.dumps(a) != json.dumps(b):
            found.append(f"{prefix}{key}: {a} → {b}")
    return ", ".join(found[:3])
