"""Samplers of diffusion teachers, one file each."""

from mrigen.diffusion.samplers.base import SAMPLERS, Sampler

__all__ = ["SAMPLERS", "Sampler"]
