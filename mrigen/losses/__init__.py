"""Score distillation of a corruption-aware teacher into a one-step generator, one loss per file."""

from mrigen.losses.base import LOSSES, DistillLoss
from mrigen.losses.generator import Generator

__all__ = ["LOSSES", "DistillLoss", "Generator"]
