"""What a pickle may become here: plain data, records of known names, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_OPCODES = 1_000_000
MAX_STRINGS = 1 << 26
MAX_KEY = 1 << 31


class MalformedError(Exception):
    """The file is damaged, or holds what no checkpoint needs; the message says which."""


@dataclass
class Budget:
    """What all pickles of one file together may still use, nested ones included."""

    opcodes: int = MAX_OPCODES
    strings: int = MAX_STRINGS

    def spend(self, opcodes: int = 0, strings: int = 0) -> None:
        """Take from the budget.

        Raises:
            MalformedError: nothing is left.
        """
        self.opcodes -= opcodes
        self.strings -= strings
        if self.opcodes < 0:
            raise MalformedError(f"has more than {MAX_OPCODES} pickle instructions")
        if self.strings < 0:
            raise MalformedError(f"has more than {MAX_STRINGS >> 20} MiB of text")


@dataclass(frozen=True)
class Builder:
    """A name of the table that can be called: arguments in, plain data out."""

    name: str
    build: Callable[..., Any]


class Record:
    """An object whose class is known by name only; ``state`` is what the file says of it."""

    __slots__ = ("name", "state")

    def __init__(self, name: str, state: dict[Any, Any] | None = None) -> None:
        self.name = name
        self.state: dict[Any, Any] = {} if state is None else state

    def set_state(self, state: object) -> None:
        """Take what a BUILD instruction brings: attributes; the tuples of numpy's types are dropped."""
        if not isinstance(state, dict | tuple):
            raise MalformedError(f"gives {self.name} a state that is not a dictionary")
        if isinstance(state, dict):
            self.state = state


def printable(text: str) -> str:
    """At most 80 characters of a text from a file, safe to print on one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:80])


def checked_key(key: object) -> Any:
    """A dictionary key or set element: text, a small integer, a boolean or None."""
    if key is None or isinstance(key, str | bool) or (isinstance(key, int) and abs(key) < MAX_KEY):
        return key
    raise MalformedError(f"uses a {type(key).__name__} as a dictionary key")
