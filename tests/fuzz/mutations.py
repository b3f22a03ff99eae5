"""Deterministic random changes of valid examples."""

import random

NUMBERS = [b"0", b"-1", b"1e308", b"-1e308", b"nan", b"inf", b"9" * 30, b"1e-320", b"0x10", b"\xd9\xa3"]


def mutated(examples, tokens, seed):
    """One input: some changes of one example."""
    draw = random.Random(seed)
    data = bytearray(draw.choice(examples))
    for _ in range(draw.choice([1, 1, 2, 3, 8])):
        _change(data, examples, [*tokens, *NUMBERS], draw)
    return bytes(data)


def _change(data, examples, tokens, draw):
    at = draw.randrange(len(data) + 1)
    length = min(len(data) - at, draw.choice([1, 2, 4, 16, 64]))
    kind = draw.randrange(8)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << draw.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = draw.randrange(256)
    elif kind == 2:
        data[at:at] = draw.choice(tokens)
    elif kind == 3:
        data[at : at + length] = draw.choice(tokens)
    elif kind == 4:
        del data[at : at + length]
    elif kind == 5:
        data[at:at] = data[at : at + length] * draw.choice([1, 2, 100])
    elif kind == 6:
        other = draw.choice(examples)
        start = draw.randrange(len(other) + 1)
        data[at : at + length] = other[start : start + length]
    else:
        del data[at:]
