"""The data stage of a recipe."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from mrigen.errors import UsageError
from mrigen.operators.corruption import Corruption, Shape, make_corruption
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption, MultiCoilMRI, OperatorBank
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


def expected_corruption(data: DataParams, shape: Shape | None) -> tuple[Corruption, bool]:
    """The corruption that data will have once they are prepared, and whether their noise level will be known.

    Coil maps are not known yet: those of MRI are constant.

    Args:
        data: of a recipe.
        shape: (C, H, W) of an image; None where the recipe says it.

    Raises:
        UsageError: nothing says the shape, or masks are the scanner's.
    """
    if data.images is not None:
        images = data.images
        if shape is None and images.size is not None and images.channels is not None:
            shape = (images.channels, images.size, images.size)
        if shape is None:
            raise UsageError("the recipe does not say the shape of an image: give --shape C H W")
        return make_corruption(images.operator, shape), not images.hides_noise
    options = Options(**data.prep)
    if not options.undersamples:
        raise UsageError("the recipe's data have masks of their own: prepare them, and give the store")
    sides = options.crop
    if data.simulate is not None and not all(sides):
        sides = data.simulate.matrix
    if shape is None and not all(sides):
        raise UsageError("the recipe does not say the shape of an image: give --shape 1 H W")
    height, width = sides if shape is None else shape[1:]
    coils = options.virtual_coils or (1 if data.simulate is None else data.simulate.coils)
    law = MASKS.build(options.law)
    law.check(torch.ones(width, dtype=torch.bool), height, further=False)
    maps = torch.full((1, coils, height, width), coils**-0.5, dtype=torch.complex64)
    bank = OperatorBank(MultiCoilMRI(maps, torch.ones(1, 1, 1, width, dtype=torch.bool)))
    return MRICorruption(bank, law), True
