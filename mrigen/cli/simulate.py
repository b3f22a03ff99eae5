"""``mrigen simulate``."""

from pathlib import Path
from typing import Annotated

import typer

from mrigen.cli.preparing import Jobs


def simulate(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the volumes; a second run continues it.")],
    volumes: Annotated[int, typer.Option(min=1, help="Number of volumes.")] = 10,
    slices: Annotated[int, typer.Option(help="Axial slices per volume.")] = 16,
    matrix: Annotated[
        tuple[int, int], typer.Option(metavar="H W", help="Readout samples and phase-encode lines.")
    ] = (128, 128),
    coils: Annotated[int, typer.Option(help="Receive coils; 1 writes fastMRI's single-coil layout.")] = 4,
    snr: Annotated[
        float,
        typer.Option(
            help="Root mean square of the noiseless image over the head, divided by the standard deviation "
            "of the noise per real component of a coil image; `inf` for no noise."
        ),
    ] = 50.0,
    seed: Annotated[int, typer.Option(help="Volume i depends on the seed and i alone.")] = 0,
    anatomy: Annotated[
        list[Path] | None,
        typer.Option(
            help="Own heads, files or folders, one per volume in turn: .npz with `volume` (left-right, "
            "posterior-anterior, inferior-superior) or `labels`, and `voxel_mm`; .npy at 1 mm; NIfTI of "
            "labels. By default the bundled Colin27.",
        ),
    ] = None,
    heads: Annotated[
        str | None, typer.Option(metavar="1-14", help="Which of the heads, by name, counted from 1.")
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="What label maps are painted as, in turn: t1 (the default), t2, pd or random."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.json",
            help="Tissues of labels that are not FreeSurfer's or CHARM's: "
            '{"17": "grey matter", "99": {"density": 0.8, "t1": 1200, "t2": 80}}.',
        ),
    ] = None,
    oversampling: Annotated[
        int, typer.Option(min=1, max=2, help="Readout oversampling: 2 doubles H and its field of view.")
    ] = 1,
    padded_lines: Annotated[
        int, typer.Option(help="Zero-padded phase-encode lines at each edge of k-space.")
    ] = 0,
    slice_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Part of the height of the head (of a label map: of its brain), as fractions, that the "
            "slices cover; by default where a slice fills at least 40 % of the fullest one.",
        ),
    ] = None,
    slice_thickness: Annotated[float, typer.Option(help="Slice thickness in mm.")] = 3.0,
    jobs: Jobs = None,
) -> None:
    """Simulate fastMRI volumes of a real head: try mrigen without signing a data-use agreement.

    Every volume is the same head, turned, stretched, mirrored and recoloured at random, with a smooth
    random phase, the smooth sensitivities of a birdcage coil array, and complex noise. The files have
    fastMRI's layout (kspace, reconstruction_rss, ismrmrd_header, attributes), and its readers read them.

    Label maps are painted: each tissue has the intensity that a random sequence of the contrast gives it,
    varied inside the tissue, with partial volumes, a smooth deformation and a bias field. Volumes of several
    heads are named after their head, and `prep-fastmri --split` keeps all volumes of a head in one part.

    Try:

    - 60 small volumes: `mrigen simulate --out raw --volumes 60 --slices 24 --matrix 32 32`

    - as a fastMRI brain: `mrigen simulate --out raw --matrix 384 320 --coils 16 --oversampling 2`

    - label maps: `mrigen simulate --out raw --anatomy heads/ --heads 1-14 --contrast t1 --contrast t2`

    - next: `mrigen prep-fastmri raw --out prepared --acceleration 4`
    """
    from pydantic import ValidationError

    from mrigen.errors import UsageError
    from mrigen.prep.simulate.acquisition import Simulation
    from mrigen.prep.simulate.heads import Heads
    from mrigen.prep.simulate.job import simulate as run
    from mrigen.registry import describe

    try:
        simulation = Simulation(
            slices=slices,
            matrix=matrix,
            coils=coils,
            snr=snr,
            oversampling=oversampling,
            padded_lines=padded_lines,
            slice_range=slice_range,
            slice_thickness=slice_thickness,
            seed=seed,
        )
    except ValidationError as error:
        raise UsageError(f"mrigen simulate: {describe(error)}") from error
    chosen = Heads(tuple(anatomy or ()), heads, labels, tuple(contrast or ()))
    done = run(out, volumes, simulation, chosen, jobs)
    for line in done.notes:
        typer.echo(line, err=True)
    low, high = min(done.pixels), max(done.pixels)
    pixels = f"{low:.2f}" if high < low + 0.005 else f"{low:.2f} to {high:.2f}"
    typer.echo(
        f"{done.written} volumes written, {done.skipped} skipped (already there): {out}, "
        f"{volumes} × {slices} slices, {done.size / 1e6:.1f} MB, pixels of {pixels} mm"
    )
