"""Stages that run once: finished ones are skipped, interrupted and longer ones continue, others not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from mrigen.engine.params import OptimizerParams
from mrigen.engine.processes import is_rank_zero, on_rank_zero
from mrigen.engine.states import saved_images
from mrigen.errors import UsageError
from mrigen.files import write_json

NAME = "stage.json"
ALWAYS = ("snapshot_images", "keep")
WHILE_RUNNING = ("selection.patience", "selection.diverged", "selection.keep")
"""Settings of a training that change none of its weights, in any case and as long as it is not finished."""


Status = Literal["new", "unfinished", "finished", "refused"]
"""A stage has nothing, something that is continued, all that it should, or results of other settings."""


@dataclass(frozen=True)
class Stage:
    """A folder and the settings that made it.

    Args:
        name: word for messages.
        folder: where its results lie.
        settings: everything that decides the results, JSON values only; includes the fingerprints of
            the stages that it builds on.
        section: of the recipe, in ``settings``, if the stage is a training: more images continue it.
        redo: word of ``--redo`` that makes it anew; empty where there is none.
        option: the recipe's own word for the section, for messages, if that is another.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    section: str = ""
    redo: str = ""
    option: str = ""

    @property
    def fingerprint(self) -> str:
        """Digest of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def beside(self) -> Stage:
        """The same stage in the folder that has results of these settings, or in a new one.

        Folders of other settings stay: the first one is called by its name, further ones get the fingerprint.
        """
        others = sorted(self.folder.parent.glob(f"{self.folder.name}.*"))
        for folder in (self.folder, *others):
            record = replace(self, folder=folder).record()
            if record is None or not _differences(record["settings"], self.settings):
                return replace(self, folder=folder)
        return replace(self, folder=self.folder.with_name(f"{self.folder.name}.{self.fingerprint[:8]}"))

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
        on_rank_zero(lambda: self._write(finished=True))
        return True

    @property
    def is_started(self) -> bool:
        """Whether it was begun with exactly these settings and is not finished."""
        record = self.record()
        return record is not None and not record["finished"] and record["settings"] == self._plain

    @property
    def status(self) -> Status:
        """What ``run`` would find."""
        record = self.record()
        if record is None or self._untouched(record):
            return "new"
        try:
            return "finished" if self._change(record).finished else "unfinished"
        except UsageError:
            return "refused"

    @property
    def _option(self) -> str:
        """What the section is called in a recipe."""
        return self.option or self.section

    def _begin(self, console: Console) -> tuple[bool, bool]:
        """Check and write the record; whether the stage is finished, and whether it is new."""
        record = self.record()
        if record is None or self._untouched(record):
            self._write(finished=False)
            return False, record is None
        change = self._change(record)
        if change.finished:
            words = [f"{self.name}: finished before{self._early(record)}, skipped ({self.folder})"]
        else:
            words = change.words
        for line in words:
            console.print(line, highlight=False, markup=False)
        if not change.finished or record["settings"] != self._plain:
            self._write(finished=change.finished)
        return change.finished, False

    @property
    def _plain(self) -> dict[str, Any]:
        """The settings as they come back from a file."""
        plain: dict[str, Any] = json.loads(json.dumps(self.settings))
        return plain

    def _write(self, *, finished: bool) -> None:
        images = saved_images(self.folder) if self.section and finished else None
        record = {"finished": finished, "settings": dict(self.settings)}
        write_json(self.folder / NAME, record if images is None else {**record, "images": images})

    def _untouched(self, record: Mapping[str, Any]) -> bool:
        """Whether a training has begun and has nothing yet: other settings lose nothing."""
        if not self.section or record["finished"] or any(self.folder.glob("*.h5")):
            return False
        return saved_images(self.folder) is None

    def _early(self, record: Mapping[str, Any]) -> str:
        """Words for a training that ended before its images."""
        images = record.get("images")
        length = self.settings[self.section]["images"] if self.section else 0
        return (
            f" after {images:,} of {length:,} images" if isinstance(images, int) and images < length else ""
        )

    def _change(self, record: Mapping[str, Any]) -> _Change:
        """What becomes of results of earlier settings.

        Raises:
            UsageError: they cannot be used.
        """
        finished = bool(record["finished"])
        differences = _differences(record["settings"], self.settings)
        if not self.section:
            if differences:
                raise self._refused(differences)
            return _Change(finished)
        prefix = f"{self.section}."
        length, micro = f"{prefix}images", f"{prefix}micro_batch"
        free = {f"{prefix}{key}" for key in ALWAYS + (() if finished else WHILE_RUNNING)}
        if length in differences:
            finished = self._is_long_enough(record) and finished
            free |= {length}
        if not finished:
            free |= {micro}
        if differences.keys() - free:
            raise self._refused({key: differences[key] for key in differences if key not in free})
        words = []
        if not finished and length in differences:
            words.append(self._continued(*differences[length]))
        if not finished and micro in differences:
            words.append(
                f"{self.name}: {micro} is another from here on ({_difference({micro: differences[micro]})}), "
                "and with it the randomness of every step; what was learnt stays"
            )
        return _Change(finished, words)

    def _is_long_enough(self, record: Mapping[str, Any]) -> bool:
        """Whether a training of another length has seen as many images as are wanted now.

        Raises:
            UsageError: it has seen more, or cannot be continued.
        """
        new, done = self.settings[self.section]["images"], saved_images(self.folder)
        trained = record.get("images", done)
        if trained is not None and new < trained:
            raise UsageError(
                f"{self.folder}: has seen {trained:,} images, more than {self._option}.images={new}: --set "
                f"{self._option}.images={trained} takes it as it is, --redo {self.redo} makes it anew"
            )
        if new != trained and done is None:
            raise UsageError(
                f"{self.folder}: cannot be continued, its states are gone; --redo {self.redo} makes it anew, "
                f"or leave {self._option}.images as it was"
            )
        return bool(new == trained)

    def _continued(self, old: int, new: int) -> str:
        """What a training does whose length has changed on the way."""
        done = saved_images(self.folder) or 0
        words = f"{self.name}: continues after {done:,} images, to {new:,} instead of {old:,}"
        for optimizer in ("optimizer", "generator", "fake"):
            if not self.settings[self.section].get(optimizer):
                continue
            params = OptimizerParams(**self.settings[self.section][optimizer])
            if params.decay != "none" and done > params.decay_from * min(old, new):
                return (
                    f"{words}; its learning rate falls with the length of the run ({params.decay}): so far "
                    f"that of {old:,} images, from here on that of {new:,} "
                    f"({params.rate(done, old):.3g} → {params.rate(done, new):.3g})"
                )
        return f"{words}, exactly as a run of that length"

    def _refused(self, differences: Mapping[str, tuple[Any, Any]]) -> UsageError:
        mend = f"--redo {self.redo} discards it and makes it anew, or " if self.redo else ""
        end = "" if self.redo else " or delete this folder"
        return UsageError(
            f"{self.folder}: was made with other settings ({_difference(differences)}); "
            f"{mend}choose another --out{end}"
        )

    def _withdraw(self) -> None:
        """Forget a stage that a mistake ended before it had anything: the corrected command is another."""
        log = self.folder / "log.jsonl"
        if {path.name for path in self.folder.iterdir()} <= {NAME, log.name}:
            (self.folder / NAME).unlink()
            log.unlink(missing_ok=True)
            self.folder.rmdir()

    def record(self) -> dict[str, Any] | None:
        """What is written of the stage; None if it was not begun.

        Raises:
            UsageError: it is damaged.
        """
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


@dataclass(frozen=True)
class _Change:
    """What becomes of results: they are all there, or continued; what to say of it."""

    finished: bool
    words: list[str] = field(default_factory=list)


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Old and new values of the settings that differ, by their dotted names."""
    changes: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            changes |= _differences(a, b, f"{prefix}{key}.")
        elif json.dumps(a) != json.dumps(b):
            changes[f"{prefix}{key}"] = (a, b)
    return changes


def _difference(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """The first few settings that differ, ``key: old → new``."""
    return ", ".join(f"{key}: {old} → {new}" for key, (old, new) in list(differences.items())[:3])
