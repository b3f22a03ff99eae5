"""``mrigen prep-fastmri``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mrigen.cli.preparing import DATA, AsJson, DaskScheduler, Jobs, NoReferences, chosen_references

MASK, COILS, MAPS = "Masks", "Coil maps", "Image"


def prep_fastmri(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC...",
            help="Files of raw k-space, fastMRI's and others (see docs/formats.md), or folders.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the store; a second run continues it.")],
    acceleration: Annotated[
        float | None,
        typer.Option(
            help="R of the masks for fully sampled data; files that carry a `mask` keep theirs.",
            rich_help_panel=MASK,
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="exact-random (the default), random, equispaced, magic; of points, for two phase encodes: "
            "poisson-disc, random-points; or `mine.py:Mask`. `mrigen list masks` shows their parameters.",
            rich_help_panel=MASK,
        ),
    ] = None,
    acs_lines: Annotated[
        int | None,
        typer.Option(
            help="Fully sampled lines around DC; side of the square of points. Of files with a `mask`, how "
            "many of them count.",
            rich_help_panel=MASK,
        ),
    ] = None,
    center_fraction: Annotated[
        float | None,
        typer.Option(help="The same as a fraction of W; by default 0.32 / R.", rich_help_panel=MASK),
    ] = None,
    further_drop: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Lines that the further corruption drops; 0 for the naive masked loss, a baseline.",
            rich_help_panel=MASK,
        ),
    ] = None,
    fixed_further: Annotated[
        bool,
        typer.Option(
            help="Store one further mask per slice; by default training draws it at every step.",
            rich_help_panel=MASK,
        ),
    ] = False,
    virtual_coils: Annotated[
        int, typer.Option(help="Compress to so many coils; 0 keeps all.", rich_help_panel=COILS)
    ] = 4,
    maps_from: Annotated[
        str,
        typer.Option(
            help="`acs`: ACS lines of the undersampled data; `full`: fully sampled centre (a leak).",
            rich_help_panel=COILS,
        ),
    ] = "acs",
    kernel_width: Annotated[int, typer.Option(help="ESPIRiT's kernel.", rich_help_panel=COILS)] = 6,
    calib_readout: Annotated[
        int, typer.Option(help="Readout samples of the calibration region.", rich_help_panel=COILS)
    ] = 24,
    espirit_threshold: Annotated[
        float, typer.Option(help="Singular values kept, relative to the largest.", rich_help_panel=COILS)
    ] = 0.02,
    espirit_crop: Annotated[
        float,
        typer.Option(help="Eigenvalue below which maps are zero; 0 keeps all.", rich_help_panel=COILS),
    ] = 0.0,
    phase: Annotated[
        str,
        typer.Option(
            help="Phase of images: relative to the first `coil`, or to the `acs` lines' image (nearly real).",
            rich_help_panel=COILS,
        ),
    ] = "coil",
    noise_whitening: Annotated[
        bool | None,
        typer.Option(
            "--noise-whitening/--no-noise-whitening",
            help="Decorrelate the coils by the noise of an image corner; by default for fully sampled data.",
            rich_help_panel=COILS,
        ),
    ] = None,
    crop: Annotated[
        tuple[int, int],
        typer.Option(metavar="H W", help="Crop the image; 0 keeps an axis.", rich_help_panel=MAPS),
    ] = (0, 0),
    remove_oversampling: Annotated[
        bool,
        typer.Option(
            "--remove-oversampling/--keep-oversampling",
            help="Crop the readout to the header's reconstructed field of view.",
            rich_help_panel=MAPS,
        ),
    ] = True,
    slices: Annotated[str, typer.Option(help="all, 5:-5 or 0,3,7.", rich_help_panel=DATA)] = "all",
    split: Annotated[
        str,
        typer.Option(help="Parts by volume, such as train=0.9,val=0.1, or one name.", rich_help_panel=DATA),
    ] = "train",
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What names the subject in a file name, such as `^[^_]+`: files of one subject come into "
            "one part. By default what the file says (fastMRI's patient_id), or else its name.",
            rich_help_panel=DATA,
        ),
    ] = None,
    only_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Take only files with k-space of this size; also COILSxHxW.",
            rich_help_panel=DATA,
        ),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="Folder for fully sampled images, for evaluation only; by default OUT-reference.",
            rich_help_panel=DATA,
        ),
    ] = None,
    no_references: NoReferences = False,
    reader: Annotated[
        str, typer.Option(help="Format of the files, by default seen by their content.", rich_help_panel=DATA)
    ] = "",
    choose: Annotated[
        str,
        typer.Option(
            help="Of files with several repetitions, contrasts, sets, frames or echoes: `contrast=0`.",
            rich_help_panel=DATA,
        ),
    ] = "",
    strict: Annotated[bool, typer.Option(help="Stop at the first file that cannot be prepared.")] = False,
    jobs: Jobs = None,
    as_json: AsJson = False,
    dask_scheduler: DaskScheduler = None,
    seed: Annotated[int, typer.Option(help="Masks depend on seed, file name and slice alone.")] = 0,
) -> None:
    """Turn raw fastMRI k-space into a measurement store: measured lines, masks, coil maps, scale.

    In this order: mark zero-padded edges as unmeasured, whiten the noise, remove readout oversampling and
    crop, undersample, compress the coils, compute ESPIRiT maps from the ACS lines, scale. The store
    holds nothing of a fully sampled image; references for evaluation go to a folder of their own. Patient
    information is not copied, but file names are kept: rename files that carry a name.

    A second run skips finished volumes. Files that cannot be prepared are listed, the others are done,
    and the exit code is 1.

    Try:

    - `mrigen prep-fastmri multicoil_train --out brain-r4 --acceleration 4 --acs-lines 20 --crop 384 320`

    - small volumes of `mrigen simulate`: `mrigen prep-fastmri raw --out prepared --acceleration 4
      --acs-lines 6 --kernel-width 3`

    - undersampled at the scanner: `mrigen prep-fastmri multicoil_test --out brain-test --only-size 640x320`
    """
    from pydantic import ValidationError
    from rich.console import Console

    from mrigen.errors import UsageError
    from mrigen.prep.kspace.options import Options
    from mrigen.registry import describe

    try:
        options = Options.model_validate(
            {
                "acceleration": acceleration,
                "mask": mask,
                "acs_lines": acs_lines,
                "center_fraction": center_fraction,
                "further_drop": further_drop,
                "fixed_further": fixed_further,
                "virtual_coils": virtual_coils,
                "maps_from": maps_from,
                "kernel_width": kernel_width,
                "calib_readout": calib_readout,
                "espirit_threshold": espirit_threshold,
                "espirit_crop": espirit_crop,
                "phase": phase,
                "noise_whitening": noise_whitening,
                "crop": crop,
                "remove_oversampling": remove_oversampling,
                "slices": slices,
                "split": split,
                "group": group,
                "only_size": only_size,
                "seed": seed,
                "reader": reader,
                "choose": choose,
            }
        )
    except ValidationError as error:
        raise UsageError(f"mrigen prep-fastmri: {describe(error)}") from error
    beside = chosen_references(references, none=no_references)
    from mrigen.prep.kspace import job  # with torch, which wrong options need not wait for
    from mrigen.prep.kspace import report as shown

    report = job.run(
        sources, out, options, references=beside, jobs=jobs, dask_scheduler=dask_scheduler, strict=strict
    )
    if not as_json:
        shown.show(report, out, Console(markup=False))
    if report.manifest is not None:
        typer.echo(f"look at {shown.draw(out)}", err=as_json)
    if as_json:
        typer.echo(json.dumps(shown.facts(report, out), indent=2, ensure_ascii=False))
    if report.failed:
        raise typer.Exit(1)
