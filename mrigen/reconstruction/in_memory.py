"""Reconstruction of measurements in memory, with or without a learned prior."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, GeneratorPrior, Prior, Solver, Task, TeacherPrior
from mrigen.model import Model
from mrigen.operators.measurements import Measurements


def reconstruct(
    data: Measurements,
    solver: str | Mapping[str, Any] | Solver[Any] = "cg-sense",
    model: str | Path | Model | Prior | None = None,
    *,
    samples: int = 1,
    seed: int = 0,
    batch: int | None = None,
    **params: Any,
) -> Tensor:
    """Images from measurements, by any solver.

    Args:
        data: measurements with their operators and noise levels; σ = 0 where the level is unknown.
        solver: name (``mrigen list solvers``), ``"mine.py:Solver"``, a mapping as in a recipe, or an object.
        model: a teacher or generator, its folder, or a prior; None for solvers that need none.
        samples: posterior samples of each measurement.
        seed: of everything random; sample j of measurement i does not depend on the others.
        batch: images at once; all by default.
        params: parameters of the solver.

    Returns:
        (B, C, H, W), or (B, samples, C, H, W) for more than one sample.

    Raises:
        UsageError: unknown solver or parameter, a solver that needs another model, or a number below 1.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> x = torch.randn(2, 1, 12, 9, dtype=torch.complex64)
        >>> mg.reconstruct(mg.Measurements(A(x), A), solver="zero-filled").shape
        torch.Size([2, 1, 12, 9])
    """
    if samples < 1 or (batch is not None and batch < 1):
        raise UsageError(f"reconstruct: samples {samples} and batch {batch} must be at least 1")
    if not isinstance(data, Measurements):
        raise UsageError(f"reconstruct: give mrigen.Measurements(y, A, sigma), not {type(data).__name__}")
    method = _solver(solver, params)
    prior = _prior(model, data, method)
    pairs = [(index, sample) for index in range(len(data)) for sample in range(samples)]
    size = batch or len(pairs)
    images = []
    for first in range(0, len(pairs), size):
        chosen = pairs[first : first + size]
        part = data[[index for index, _ in chosen]]
        keys = [seeds.key(seed, "reconstruct", index, sample) for index, sample in chosen]
        images.append(part.operator.within_support(method.solve(Task(part, keys, prior)).image))
    image = torch.cat(images)
    return image if samples == 1 else image.view(len(data), samples, *image.shape[1:])


def _solver(solver: str | Mapping[str, Any] | Solver[Any], params: dict[str, Any]) -> Solver[Any]:
    if isinstance(solver, Solver):
        if params:
            raise UsageError(f"reconstruct: {', '.join(params)}: the solver has its parameters already")
        return solver
    spec = {"name": solver} if isinstance(solver, str) else dict(solver)
    made: Solver[Any] = SOLVERS.build({**spec, **params})
    return made


def _prior(model: str | Path | Model | Prior | None, data: Measurements, solver: Solver[Any]) -> Prior | None:
    if model is None or isinstance(model, TeacherPrior | GeneratorPrior):
        prior: Prior | None = model
    else:
        opened = model.to(data.y.device) if isinstance(model, Model) else Model.load(model, data.y.device)
        zero = data.operator.zero_image()
        prior = opened.prior(
            (zero.shape[1], zero.shape[2], zero.shape[3]),
            complex_valued=zero.is_complex(),
            differentiated=solver.differentiates,
        )
    kind = {TeacherPrior: "teacher", GeneratorPrior: "generator"}.get(type(prior), "")
    if solver.needs and kind not in solver.needs:
        needs = " or a ".join(sorted(solver.needs))
        raise UsageError(f"reconstruct: solver {SOLVERS.name_of(solver)} needs a {needs}: give model=")
    if prior is not None and not solver.needs:
        raise UsageError(f"reconstruct: solver {SOLVERS.name_of(solver)} uses no model; leave model= out")
    return prior
