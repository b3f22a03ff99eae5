"""Sampling masks: distributions over sets of phase-encode lines, one file each."""

from mrigen.operators.masks.base import MASKS, MaskLaw

__all__ = ["MASKS", "MaskLaw"]
