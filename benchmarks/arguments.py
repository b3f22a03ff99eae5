"""Kinds of arguments that benchmarks share: a mistake is told before the work, not after it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


def new_file(text: str) -> Path:
    """A file to write, in a folder that exists."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; give a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}; make it first")
    return path


def existing(text: str) -> Path:
    """A file or folder that is there."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no {text}")
    return path


def whole(text: str) -> int:
    """A whole number from 1 on."""
    return _whole(text, 1)


def whole_or_zero(text: str) -> int:
    """A whole number from 0 on."""
    return _whole(text, 0)


def several(text: str) -> int:
    """A whole number from 2 on."""
    return _whole(text, 2)


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from {least} on")
    return value
