"""The data stage of a recipe."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mrigen.errors import UsageError
from mrigen.prep.images import job as image_job
from mrigen.prep.images import report as image_report
from mrigen.prep.kspace import job
from mrigen.prep.kspace import report as kspace_report
from mrigen.prep.kspace.options import Options
from mrigen.prep.simulate import job as simulate_job
from mrigen.prep.simulate.acquisition import Simulation
from mrigen.recipe.schema import DataParams, ImagesParams, SimulateParams

NONE = "the recipe has no data: give --data (a store, or what to prepare one from)"


def prepare(data: DataParams, out: Path, store: Path, console: Console) -> None:
    """Prepare images, or MRI volumes that are simulated first if the recipe says so, into ``store``.

    Raises:
        UsageError: the recipe names no source, or a volume could not be prepared.
    """
    if data.images is not None:
        prepare_images(data.images, store, console)
        return
    sources = list(data.source)
    if data.simulate is not None:
        raw = out / "raw"
        simulated = data.simulate
        done = simulate_job.simulate(raw, simulated.volumes, simulation(simulated), simulated.chosen)
        for line in done.notes:
            console.print(line, highlight=False, markup=False)
        sources.append(raw)
    if not sources:
        raise UsageError(f"{NONE}, or set data.source or data.simulate")
    report = job.run(sources, store, Options(**data.prep), strict=True)
    kspace_report.show(report, store, console)


def prepare_images(images: ImagesParams, store: Path, console: Console) -> None:
    """Prepare a set of images into ``store``; those that cannot be read are listed and left out.

    Raises:
        UsageError: the recipe names no source, or it will not do.
    """
    if images.source is None:
        raise UsageError(f"{NONE}, or set data.images.source")
    image_report.show(image_job.run(images.source, store, images.options), store, console)


def simulation(params: SimulateParams) -> Simulation:
    """Parameters of the simulated acquisition."""
    return Simulation(**params.model_dump(exclude={"volumes", "anatomy", "heads", "labels", "contrast"}))
