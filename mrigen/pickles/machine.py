"""A pickle machine that can only build plain data.

Python's own unpickler calls what the file names. This one knows the opcodes that ``pickle.dump`` and
``torch.save`` write for data (protocols 2 to 5, Python 2's strings among them), looks every name up in
a closed table and calls nothing else: no module is imported, no attribute is looked up, no
``__setstate__`` is invoked.
Memory and time are bounded by the size of the file and the limits below, whatever the file claims.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from mrigen.pickles.plain import (
    MAX_OPCODES,
    Budget,
    Builder,
    MalformedError,
    Record,
    checked_key,
    printable,
)

MAX_STACK = 100_000
MAX_MARKS = 1_000
MAX_STRING = 1 << 22


class Machine:
    """Interpreter of one pickle after the other in a buffer.

    Args:
        data: the file or a part of it; strings of bytes stay views of it.
        names: (module, name) to a ``Builder`` or a constant; anything else is refused by name.
        budget: shared by all pickles of a file.
        persistent: turns a persistent id into an object; None refuses them.
    """

    def __init__(
        self,
        data: memoryview,
        names: Mapping[tuple[str, str], object],
        budget: Budget,
        persistent: Callable[[object], object] | None = None,
    ) -> None:
        self.data = data
        self.names = names
        self.budget = budget
        self.persistent = persistent
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Run to the next STOP and return the object; ``position`` is then behind it.

        Raises:
            MalformedError: names the offence.
        """
        self.stack, self.marks, self.memo = [], [], {}
        start = self.position
        try:
            while True:
                opcode = self.data[self.position]
                self.position += 1
                self.budget.spend(opcodes=1)
                if opcode == STOP:
                    return self.stack.pop()
                if opcode not in INSTRUCTIONS:
                    where = self.position - 1
                    raise MalformedError(
                        f"has the pickle instruction {opcode:#04x} at byte {where}, which is not allowed"
                    )
                INSTRUCTIONS[opcode](self)
                if len(self.stack) > MAX_STACK:
                    raise MalformedError(f"piles up more than {MAX_STACK} objects")
        except (LookupError, ValueError, TypeError, OverflowError, struct.error, RecursionError) as error:
            what = "is not a pickle" if self.position == start + 1 else "is damaged or cut off"
            raise MalformedError(f"{what} (at byte {self.position})") from error

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes."""
        if size < 0 or size > len(self.data) - self.position:
            raise MalformedError(f"is cut off or declares an absurd size at byte {self.position}")
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, form: str) -> int:
        """Unsigned or signed integer of a ``struct`` format."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self, size: int) -> str:
        """UTF-8 string of ``size`` bytes."""
        if size > MAX_STRING:
            raise MalformedError(f"declares a text of {size} bytes")
        self.budget.spend(strings=size)
        return str(self.take(size), "utf-8", "surrogatepass")

    def short_string(self) -> str:
        """Python 2 string of at most 255 bytes: there a name, here text."""
        size = self.number("<B")
        self.budget.spend(strings=size)
        return str(self.take(size), "latin-1")

    def line(self) -> str:
        """Text up to the next line feed."""
        window = bytes(self.data[self.position : self.position + 512])
        end = window.index(b"\n")
        self.position += end + 1
        return window[:end].decode("utf-8")

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def top(self, kind: type) -> Any:
        """The uppermost object, which must be of a type."""
        if type(self.stack[-1]) is not kind:
            raise MalformedError(f"fills a {type(self.stack[-1]).__name__} as if it were a {kind.__name__}")
        return self.stack[-1]

    def remember(self, index: int) -> None:
        """Put the uppermost object into the memo."""
        if index >= MAX_OPCODES:
            raise MalformedError(f"uses memo {index}")
        self.memo[index] = self.stack[-1]

    def name(self, module: str, name: str) -> None:
        """Push what the table has for a name."""
        if (module, name) not in self.names:
            raise MalformedError(f"names {printable(module)}.{printable(name)}, which is not allowed")
        self.stack.append(self.names[module, name])

    def call(self, builder: object, arguments: object) -> None:
        """Push what a builder of the table makes of a tuple of arguments."""
        if not isinstance(builder, Builder) or not isinstance(arguments, tuple):
            raise MalformedError("calls something that cannot be called")
        for argument in arguments:  # what a builder copies is paid for
            if isinstance(argument, str):
                self.budget.spend(strings=len(argument))
            elif isinstance(argument, list | tuple | dict):
                self.budget.spend(opcodes=len(argument))
        self.stack.append(builder.build(*arguments))

    def update(self, items: list[Any]) -> None:
        """Put keys and values, alternating, into the dictionary on top."""
        if len(items) % 2:
            raise MalformedError("has a dictionary key without a value")
        mapping = self.top(dict)
        for index in range(0, len(items), 2):
            mapping[checked_key(items[index])] = items[index + 1]


def _mark(m: Machine) -> None:
    if len(m.marks) >= MAX_MARKS:
        raise MalformedError(f"nests more than {MAX_MARKS} objects")
    m.marks.append(m.stack)
    m.stack = []


def _tuple(m: Machine, size: int) -> None:
    items = tuple(m.stack.pop() for _ in range(size))
    m.stack.append(items[::-1])


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def _long(m: Machine) -> None:
    size = m.number("<B")
    m.stack.append(int.from_bytes(m.take(size), "little", signed=True))


def _collect(m: Machine, kind: Callable[[list[Any]], Any]) -> None:
    items = m.pop_mark()
    m.stack.append(kind(items))


def _dict(m: Machine) -> None:
    items = m.pop_mark()
    m.stack.append({})
    m.update(items)


def _setitem(m: Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.update([key, value])


def _append(m: Machine) -> None:
    item = m.stack.pop()
    m.top(list).append(item)


def _extend(m: Machine) -> None:
    items = m.pop_mark()
    m.top(list).extend(items)


def _add(m: Machine) -> None:
    items = m.pop_mark()
    m.top(set).update(checked_key(item) for item in items)


def _global(m: Machine) -> None:
    module = m.line()
    m.name(module, m.line())


def _stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise MalformedError("names something without text")
    m.name(module, name)


def _reduce(m: Machine) -> None:
    arguments, builder = m.stack.pop(), m.stack.pop()
    m.call(builder, arguments)


def _newobj_ex(m: Machine) -> None:
    keywords, arguments, builder = m.stack.pop(), m.stack.pop(), m.stack.pop()
    if keywords:
        raise MalformedError("makes an object with keyword arguments")
    m.call(builder, arguments)


def _build(m: Machine) -> None:
    state = m.stack.pop()
    target = m.stack[-1]
    if isinstance(target, Record):
        target.set_state(state)
    elif not (isinstance(target, dict) and isinstance(state, dict)):
        raise MalformedError(f"sets the state of a {type(target).__name__}")
    # The attributes of a dictionary (a state_dict's version numbers) are of no use here.


def _persid(m: Machine) -> None:
    if m.persistent is None:
        raise MalformedError("refers to data outside itself")
    m.stack.append(m.persistent(m.stack.pop()))


STOP = ord(".")

INSTRUCTIONS: dict[int, Callable[[Machine], Any]] = {
    0x80: lambda m: m.take(1),  # PROTO
    0x95: lambda m: m.take(8),  # FRAME: only a hint for reading ahead
    ord("("): _mark,
    ord("0"): _pop,
    ord("1"): lambda m: m.pop_mark(),  # POP_MARK
    ord("2"): lambda m: m.stack.append(m.stack[-1]),  # DUP
    ord("N"): lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    ord("J"): lambda m: m.stack.append(m.number("<i")),
    ord("K"): lambda m: m.stack.append(m.number("<B")),
    ord("M"): lambda m: m.stack.append(m.number("<H")),
    0x8A: _long,  # LONG1
    ord("G"): lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    ord("X"): lambda m: m.stack.append(m.text(m.number("<I"))),
    0x8C: lambda m: m.stack.append(m.text(m.number("<B"))),  # SHORT_BINUNICODE
    0x8D: lambda m: m.stack.append(m.text(m.number("<Q"))),  # BINUNICODE8
    ord("U"): lambda m: m.stack.append(m.short_string()),
    ord("T"): lambda m: m.stack.append(m.take(m.number("<i"))),  # BINSTRING of Python 2
    ord("B"): lambda m: m.stack.append(m.take(m.number("<I"))),
    ord("C"): lambda m: m.stack.append(m.take(m.number("<B"))),
    0x8E: lambda m: m.stack.append(m.take(m.number("<Q"))),  # BINBYTES8
    0x96: lambda m: m.stack.append(m.take(m.number("<Q"))),  # BYTEARRAY8
    ord(")"): lambda m: m.stack.append(()),
    0x85: lambda m: _tuple(m, 1),
    0x86: lambda m: _tuple(m, 2),
    0x87: lambda m: _tuple(m, 3),
    ord("t"): lambda m: _collect(m, tuple),
    ord("]"): lambda m: m.stack.append([]),
    ord("l"): lambda m: _collect(m, list),
    ord("a"): _append,
    ord("e"): _extend,
    ord("}"): lambda m: m.stack.append({}),
    ord("d"): _dict,
    ord("s"): _setitem,
    ord("u"): lambda m: m.update(m.pop_mark()),
    0x8F: lambda m: m.stack.append(set()),  # EMPTY_SET
    0x90: _add,  # ADDITEMS
    ord("q"): lambda m: m.remember(m.number("<B")),
    ord("r"): lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
    ord("h"): lambda m: m.stack.append(m.memo[m.number("<B")]),
    ord("j"): lambda m: m.stack.append(m.memo[m.number("<I")]),
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _reduce,  # NEWOBJ: the same for plain data
    0x92: _newobj_ex,
    ord("b"): _build,
    ord("Q"): _persid,
}
