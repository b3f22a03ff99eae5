"""Solvers of inverse problems: images from measurements, with learned priors or without."""

from mrigen.inverse.base import SOLVERS, Solution, Solver, SolverParams, State
from mrigen.inverse.prior import GeneratorPrior, Prior, TeacherPrior
from mrigen.inverse.task import Task

__all__ = [
    "SOLVERS",
    "GeneratorPrior",
    "Prior",
    "Solution",
    "Solver",
    "SolverParams",
    "State",
    "Task",
    "TeacherPrior",
]
