"""Samplers of diffusion teachers, one file each."""

from mrigen.diffusion.samplers.base import SAMPLERS, Predict, Sampler, Teacher

__all__ = ["SAMPLERS", "Predict", "Sampler", "Teacher"]
