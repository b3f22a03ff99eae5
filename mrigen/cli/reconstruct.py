"""``mrigen reconstruct``."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

KSPACE, PICTURES = "Raw k-space", "Pictures"
ESPIRIT = "espirit"


class Along(StrEnum):
    """What is beside a slice."""

    slices = "slices"
    frames = "frames"


def reconstruct(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Raw k-space: fastMRI HDF5, ISMRMRD, Siemens .dat, BART .cfl, MATLAB, numpy and others (see "
            "docs/formats.md); a measurement store; a picture or a folder of pictures.",
        ),
    ],
    *,
    solver: Annotated[
        str, typer.Option(help="Name, with parameters if need be: `pnp`, `latent:steps=500,starts=4`.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for images, numbers and the figure.")],
    model: Annotated[
        Path | None, typer.Option(help="Model folder of a teacher or a generator, or its run's.")
    ] = None,
    slices: Annotated[str, typer.Option(help="`all`, a Python slice such as `5:-5`, or `0,3,7`.")] = "all",
    samples: Annotated[
        int, typer.Option(min=1, help="Posterior samples; from 2 on a standard-deviation map is written.")
    ] = 1,
    neighbours: Annotated[
        float,
        typer.Option(
            min=0,
            help="Weight of each neighbouring slice where a slice measured nothing, 0.5 for example; needs "
            "slices of one volume in order, and keeps as many as there are passes, and one.",
        ),
    ] = 0.0,
    along: Annotated[
        Along, typer.Option(help="What neighbours are: slices, or frames of a series (`--choose frame=all`).")
    ] = Along.slices,
    passes: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            help="Number of passes with neighbours, each from the images of the one before, so that every "
            "pass reaches one farther: 1 for slices, 2 to 24 for frames, which differ less; more blurs.",
        ),
    ] = 1,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Put measured k-space aside first, and scale the samples' spread so that 90 % intervals "
            "hold there; writes `lower` and `upper`. Takes twice the time.",
        ),
    ] = False,
    sigma: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Noise level per real component, in the input's units; 0 meets the data exactly. By default "
            "the data's own, or what explains how far k-space is from its coil maps.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images at once; by default 4 small ones or fewer large ones, to save memory, and on a GPU "
            "as many as fit, up to 64.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Part of a store; `all` for all of it.")] = "test",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="What is written, of h5, nifti, nifti-phase, nifti-complex, dicom, cfl, bids; by default "
            "h5,nifti.",
        ),
    ] = None,
    reader: Annotated[
        str,
        typer.Option(help="Format of the input, by default seen by its content.", rich_help_panel=KSPACE),
    ] = "",
    choose: Annotated[
        str,
        typer.Option(
            help="Of a file with several repetitions, contrasts, sets, frames or echoes: `contrast=0`, "
            "`frame=all`.",
            rich_help_panel=KSPACE,
        ),
    ] = "",
    acceleration: Annotated[
        float | None,
        typer.Option(
            help="Undersample fully sampled k-space by R, and compare; by default use all.",
            rich_help_panel=KSPACE,
        ),
    ] = None,
    mask_law: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="exact-random (the default), or another of `mrigen list masks`.",
            rich_help_panel=KSPACE,
        ),
    ] = None,
    acs_lines: Annotated[
        int | None,
        typer.Option(
            help="Fully sampled lines around DC; of an undersampled scan, how many give the coil maps.",
            rich_help_panel=KSPACE,
        ),
    ] = None,
    virtual_coils: Annotated[
        int, typer.Option(help="Compress to so many coils; 0 keeps all.", rich_help_panel=KSPACE)
    ] = 0,
    maps: Annotated[
        str,
        typer.Option(
            metavar="espirit|FILE|STORE",
            help="Coil maps: ESPIRiT's of the ACS lines (a store has its own); or yours, complex "
            "(coils, H, W) or (slices, coils, H, W): `.npy`, BART's `.cfl`, "
            "dataset `maps` of HDF5, or a store's.",
            rich_help_panel=KSPACE,
        ),
    ] = ESPIRIT,
    kernel_width: Annotated[int, typer.Option(help="ESPIRiT's kernel.", rich_help_panel=KSPACE)] = 6,
    espirit_crop: Annotated[
        float, typer.Option(help="Eigenvalue below which maps are zero.", rich_help_panel=KSPACE)
    ] = 0.0,
    crop: Annotated[
        tuple[int, int],
        typer.Option(metavar="H W", help="Crop the image; 0 keeps an axis.", rich_help_panel=KSPACE),
    ] = (0, 0),
    remove_oversampling: Annotated[
        bool,
        typer.Option(
            "--remove-oversampling/--keep-oversampling",
            help="Crop the readout to the header's field of view.",
            rich_help_panel=KSPACE,
        ),
    ] = True,
    operator: Annotated[
        str | None,
        typer.Option(
            help="What degraded them: `super-resolution:factor=2,restored=false`, `gaussian-blur:std=2`.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Picture, black where pixels are missing.", rich_help_panel=PICTURES)
    ] = None,
    degrade: Annotated[
        bool,
        typer.Option(
            "--degrade", help="They are clean: degrade them first, and compare.", rich_help_panel=PICTURES
        ),
    ] = False,
) -> None:
    """Reconstruct images from undersampled k-space or degraded pictures, with or without a learned prior.

    Writes `reconstruction.h5` (complex, in the input's units), `magnitude.nii.gz`, `preview.png`,
    `figure.png` and, where the truth is known, `metrics.json` with errors by slice and by volume. The NIfTI
    file (columns, rows, slices) has the voxel size and the patient's coordinates where the header gives them.

    Raw k-space is Cartesian; other trajectories go through Python. Pictures have the model's size, or without
    a model their own, and are written to `pictures` as PNG.

    Solvers with a teacher: `pnp`, `dds`, `mmps`, `ambient-one-step`, `dps`, `ambient-dps`, `langevin`; with a
    one-step generator: `latent`, `pnp`; without a model: `zero-filled`, `rss`, `cg-sense`, `l1-wavelet`,
    `total-variation`, `non-local-means`.

    Try:

    - `mrigen reconstruct scan.h5 --solver l1-wavelet --out sparse`

    - `mrigen reconstruct scan.h5 --model runs/demo/brain/teacher/model --solver pnp --out learned`

    - `mrigen reconstruct runs/demo/brain/store --model runs/demo/brain/teacher/model --solver mmps
      --samples 8 --slices 0:4 --calibrate --out posterior`

    - pictures: `mrigen reconstruct photos --operator inpainting:missing=0.6 --degrade
      --solver total-variation --out restored`
    """
    from pydantic import ValidationError

    from mrigen.engine.launch import choose_device
    from mrigen.errors import UsageError
    from mrigen.prep.kspace.options import Options
    from mrigen.reconstruction import job
    from mrigen.registry import describe

    try:
        prep = Options(
            acceleration=acceleration,
            mask=mask_law,
            acs_lines=acs_lines,
            virtual_coils=virtual_coils,
            crop=crop,
            remove_oversampling=remove_oversampling,
            noise_whitening=False,
            kernel_width=kernel_width,
            espirit_crop=espirit_crop,
            slices=slices,
            seed=seed,
            reader=reader,
            choose=choose,
        )
    except ValidationError as error:
        raise UsageError(f"mrigen reconstruct: {describe(error)}") from error
    request = job.Request(
        solver=solver,
        model=model,
        samples=samples,
        neighbours=neighbours,
        along=along.value,
        passes=passes,
        calibrate=calibrate,
        sigma=sigma,
        seed=seed,
        batch=batch,
        split=None if split == "all" else split,
        prep=prep,
        maps=None if maps == ESPIRIT else Path(maps),
        operator=operator,
        mask=mask,
        degrade=degrade,
        formats=formats,
        command=shlex.join(["mrigen", *sys.argv[1:]]),
    )
    images, report = job.reconstruct(source, out, request, choose_device(device))
    counted = f"{len(images)} image{'s' * (len(images) > 1)}"
    typer.echo(f"{counted}: {out}, {report['seconds_per_slice']:.3g} s each")
    if "mean" in report:
        typer.echo(f"{_row(report['mean'])}; zero-filled: {_row(report['zero_filled'])}")
    if "volumes" in report:
        typer.echo(f"by volume, as fastMRI: {_row(report['volumes']['mean'])}")
    for note in report["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"next: {shlex.join(['mrigen', 'report', str(out)])}")


def _row(errors: dict[str, Any]) -> str:
    return f"PSNR {errors['psnr']:.2f} dB, SSIM {errors['ssim']:.3f}, NRMSE {errors['nrmse']:.3f}"
