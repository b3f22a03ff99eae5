"""Sampling masks: distributions over sets of phase-encode lines or points."""

from mrigen.operators.masks.base import MASKS, MaskLaw, PointLaw

__all__ = ["MASKS", "MaskLaw", "PointLaw"]
