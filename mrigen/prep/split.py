"""Parts of a data set: ``train=0.9,test=0.1``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from mrigen.errors import UsageError

NAME = r"[A-Za-z][A-Za-z0-9_-]*"
PART = re.compile(rf"({NAME})(?:=([0-9.eE+-]+))?")


def _parse(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    present = [PART.fullmatch(part.strip()) for part in value.split(",")]
    if not all(present) or (len(present) > 1 and any(m and m[2] is None for m in present)):
        raise ValueError("write train=0.9,val=0.1, or one name for all")
    return {m[1]: float(m[2] or 1) for m in present if m}


def _check(value: dict[str, float]) -> dict[str, float]:
    if any(f <= 0 for f in value.values()) or abs(sum(value.values()) - 1) > 1e-6:
        raise ValueError("the fractions of --split must be positive and sum to 1")
    if not all(re.fullmatch(NAME, name) for name in value):
        raise ValueError("the parts of --split need names of letters, digits, - and _")
    return value


Split = Annotated[dict[str, float], AfterValidator(_check), BeforeValidator(_parse)]
"""Fraction of the data per part; also read from ``train=0.9,val=0.1`` or from one name."""


def part_of(split: Mapping[str, float], seed: int, name: str) -> str:
    """The part that a volume or an image belongs to, by its name and the seed alone."""
    from mrigen.seeds import key  # with torch, which options are checked without

    position = key(seed, "split", name) / 2**63
    for part, fraction in split.items():
        position -= fraction
        if position < 0:
            return part
    return part


def require_parts(required: Iterable[str], present: Iterable[str], what: str) -> None:
    """Refuse a split that leaves a part empty.

    Args:
        required: the parts.
        present: the part of each volume or image.
        what: word for those.

    Raises:
        UsageError: names the part.
    """
    counts = Counter(present)
    for part in required:
        if counts and not counts[part]:
            raise UsageError(
                f"--split: {part} would get none of {counts.total()} {what}; raise its "
                "fraction or change --seed"
            )
