"""Sampling masks: distributions over sets of phase-encode lines or points."""

from mrigen.operators.masks.base import MASKS, MaskDistribution, PointDistribution

__all__ = ["MASKS", "MaskDistribution", "PointDistribution"]
