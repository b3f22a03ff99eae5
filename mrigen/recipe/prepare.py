"""The data stage of a recipe."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mrigen.data_prep import anatomy, job, simulate_job, summary
from mrigen.data_prep.options import Options
from mrigen.data_prep.simulate import Simulation
from mrigen.errors import UsageError
from mrigen.recipe.schema import DataParams, SimulateParams


def prepare(data: DataParams, out: Path, store: Path, console: Console) -> None:
    """Simulate raw volumes if the recipe says so, and prepare them into ``store``.

    Raises:
        UsageError: the recipe names no source, or a volume could not be prepared.
    """
    sources = list(data.source)
    if data.simulate is not None:
        raw = out / "raw"
        simulate_job.simulate(raw, data.simulate.volumes, simulation(data.simulate), data.simulate.anatomy)
        sources.append(raw)
    if not sources:
        raise UsageError("the recipe has no data: give --data STORE, or set data.source or data.simulate")
    report = job.run(sources, store, Options(**data.prep), strict=True)
    summary.show(report, store, console)


def simulation(params: SimulateParams) -> Simulation:
    """Parameters of the simulated acquisition, with the checksum of the anatomy."""
    return Simulation(
        **params.model_dump(exclude={"volumes", "anatomy"}), anatomy=anatomy.digest(params.anatomy)
    )
