"""Training objectives of teachers and fake scores, one file each."""

from mrigen.diffusion.objectives.base import OBJECTIVES, Objective, ObjectiveParams

__all__ = ["OBJECTIVES", "Objective", "ObjectiveParams"]
