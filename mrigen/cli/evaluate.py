"""``mrigen evaluate`` and ``mrigen audit``."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

SET, WEIGHTS, NOCLEAN = "Distances", "Weights", "Without clean data"
Rows = list[dict[str, Any]]


class FidMode(StrEnum):
    """How magnitudes become the pictures of a network."""

    window = "window"
    paper = "paper"


def evaluate(
    samples: Annotated[
        list[Path],
        typer.Argument(
            help="Images: HDF5 of `mrigen sample`, pictures in a folder, zip or tar, npz. With --held-out, "
            "teachers."
        ),
    ],
    *,
    reference: Annotated[
        Path | None,
        typer.Option(help="Reference folder of a preparation, or images of any kind.", rich_help_panel=SET),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Part of prepared references, or of held-out data.", rich_help_panel=SET)
    ] = "test",
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: fd (the default), fid, is, kid, precision, recall, proximal.",
            rich_help_panel=SET,
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            help="Feature spaces, comma-separated: pca, r64, pixels, radiomics, inception, dinov2, vgg16; "
            "numbers of all but the first are named after them.",
            rich_help_panel=SET,
        ),
    ] = "pca,r64",
    fid_mode: Annotated[
        FidMode,
        typer.Option(
            help="MRI magnitudes: windowed to the reference's 99th percentile, or, as in the published MRI "
            "distances (paper), raw floats of 100 samples.",
            rich_help_panel=SET,
        ),
    ] = FidMode.window,
    count: Annotated[
        int | None,
        typer.Option("--samples", min=2, help="Take the first so many samples.", rich_help_panel=SET),
    ] = None,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0,
            help="Resampled sets of the intervals, which fd, fid and proximal have; 0 for none.",
            rich_help_panel=SET,
        ),
    ] = 100,
    proximal: Annotated[
        bool,
        typer.Option(
            "--proximal", help="Corrupt the samples as --data is, and compare those.", rich_help_panel=NOCLEAN
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Measurement store that the model was trained on.", rich_help_panel=NOCLEAN),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Measurement store: rank teachers by their error on what is hidden from them.",
            rich_help_panel=NOCLEAN,
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch missing weights.", rich_help_panel=WEIGHTS)
    ] = False,
    inception_weights: Annotated[
        Path | None, typer.Option(help="File of torch-fidelity's InceptionV3.", rich_help_panel=WEIGHTS)
    ] = None,
    dinov2_weights: Annotated[
        Path | None, typer.Option(help="File of the published DINOv2 (ViT).", rich_help_panel=WEIGHTS)
    ] = None,
    vgg16_weights: Annotated[
        Path | None, typer.Option(help="File of torchvision's VGG16.", rich_help_panel=WEIGHTS)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of reference statistics; by default ~/.cache/mrigen.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Key of operators, noise and bootstrap.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="JSON file for the numbers.")] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="PNG file: ten images of every set, the references first, in one grey window."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """How close generated images are to held-out references, or to the corrupted training data.

    Features are 48 principal components of the references and the norm of what is left (pca), and a random
    VGG16 with 64 outputs (r64): no download, and no FID either; compare their numbers only with each other,
    at the same number of samples. r64 alone rewards noise. With fd come the power of the images beyond N/4
    over the references' (`high_frequency_ratio`: 1 is best), the energy outside 200 components (and that of
    references that are left out), the log-spectral distance in dB, and the same of heads alone for MRI. Under
    torchrun the first process measures, and the others wait.

    Examples:

    - `mrigen evaluate student.h5 teacher.h5 --reference runs/demo/brain/store-reference --figure sets.png`

    - FID and more: `mrigen evaluate samples.zip --reference test.zip --features inception --download
      --metrics fid,is,kid`

    - precision and recall of VGG16: `mrigen evaluate samples.zip --reference test.zip --features vgg16
      --download --metrics precision,recall`

    - without clean data: `mrigen evaluate student.h5 --proximal --data runs/demo/brain/store`

    - the best teacher without clean data: `mrigen evaluate a/teacher/model b/teacher/model --held-out store`
    """
    if held_out is not None:
        if reference or data or metrics or proximal or figure:
            raise _usage(
                "--held-out ranks teachers alone: leave out --reference, --data, --metrics, --proximal and "
                "--figure"
            )
        rows = _by_the_first(lambda: _rank(samples, held_out, split, seed, device), device)
        _finish(
            rows,
            {"held_out": str(held_out), "split": split},
            out,
            title="Error on what was hidden",
            as_json=as_json,
        )
        return
    from mrigen.files import cache_folder
    from mrigen.recipe.comparison import Comparison, compare

    if reference is None and data is None:
        raise _usage(
            "nothing to compare with: give --reference DIR, --proximal --data STORE, or --held-out STORE"
        )
    spaces = tuple(word.strip() for word in features.split(",") if word.strip())
    files = {"inception": inception_weights, "dinov2": dinov2_weights, "vgg16": vgg16_weights}
    for name, file in files.items():
        if file is not None and name not in spaces:
            raise _usage(f"--{name}-weights: belongs to --features {name}, not to {features}")
    settings = Comparison(
        metrics=_names(metrics, reference, proximal=proximal),
        reference=reference,
        split=split,
        data=data,
        features=spaces,
        weights=next((file for file in files.values() if file is not None), None),
        download=download,
        paper=fid_mode is FidMode.paper,
        samples=count,
        resamples=bootstrap,
        seed=seed,
        cache=cache if cache is not None else cache_folder(),
        device=device,
        figure=figure,
    )
    rows = _by_the_first(lambda: compare(samples, settings), device)
    head = {"features": list(spaces), "fid_mode": str(fid_mode), "split": split, "seed": seed}
    _finish(rows, head, out, title=f"Features: {features}; fd is of {spaces[0]}", as_json=as_json)


def _by_the_first(measure: Callable[[], Rows], device: str) -> Rows:
    """Measure in the first process; features take minutes, and those of references are kept."""
    from mrigen.engine.launch import choose_device
    from mrigen.engine.processes import on_rank_zero

    choose_device(device)
    return on_rank_zero(measure)


def _names(metrics: str | None, reference: Path | None, *, proximal: bool) -> tuple[str, ...]:
    """Metrics asked for; fd where there is a reference and nothing else is said."""
    words = metrics.split(",") if metrics is not None else ["fd"] if reference is not None else []
    names = [word.strip() for word in words if word.strip()]
    return tuple(dict.fromkeys([*names, *(["proximal"] if proximal else [])]))


def _rank(teachers: list[Path], store: Path, split: str, seed: int, device: str) -> list[dict[str, Any]]:
    from mrigen.recipe.held_out import rank_teachers

    return rank_teachers(teachers, store, split, seed, device)


def _finish(
    rows: list[dict[str, Any]], head: dict[str, Any], out: Path | None, title: str, *, as_json: bool
) -> None:
    """Show the rows as a table or JSON, their warnings below, and write them."""
    from rich.console import Console

    from mrigen import ranks
    from mrigen.files import write_json
    from mrigen.report.tables import rows_table

    if ranks.rank():
        return
    if as_json:
        typer.echo(json.dumps({**head, "results": rows}, indent=2, ensure_ascii=False))
    else:
        Console().print(rows_table(rows, title))
    for row in rows:
        for warning in row.get("warnings", []):
            Console(stderr=True).print(f"warning: {warning}", highlight=False, style="yellow")
    if out is not None:
        write_json(out, {**head, "results": rows})


def _usage(message: str) -> Exception:
    from mrigen.errors import UsageError

    return UsageError(message)


def audit(
    samples: Annotated[
        Path, typer.Argument(help="Images: HDF5 of `mrigen sample`, pictures in a folder, zip or tar, npz.")
    ],
    *,
    data: Annotated[
        Path,
        typer.Option(help="Measurement store that the model was trained on, or clean training images."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for audit.json, histogram.png and pairs.png.")],
    baseline: Annotated[
        Path | None, typer.Option(help="Images that were not trained on, for the same histogram.")
    ] = None,
    features: Annotated[
        str, typer.Option(help="correlation, or dinov2, inception, r64, pixels: cosine of features.")
    ] = "correlation",
    weights: Annotated[Path | None, typer.Option(help="File of the weights of --features.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch missing weights.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps; for --features.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Whether generated images copy training data: the nearest training measurement of each.

    Image and measurement are compared through the measurement's own operator, mirrored and shifted, so that
    corrupted data can be searched. With --features and clean images as --data, all of them are compared by
    the cosine of features. A histogram far to the right of the baseline's means copies.

    Examples:

    - `mrigen audit student.h5 --data runs/demo/brain/store --out audit`

    - with images nobody trained on beside it: `mrigen audit samples.zip --data store --baseline test.zip
      --out audit`

    - by DINOv2, over all clean training images: `mrigen audit samples.zip --data train.zip --features dinov2
      --download --out audit`
    """
    from rich.console import Console

    from mrigen.recipe.audit import audit as run
    from mrigen.report.tables import rows_table

    summary = run(samples, data, out, baseline, features, weights, download=download, device=device)
    if as_json:
        typer.echo((out / "audit.json").read_text(encoding="utf-8"), nl=False)
        return
    rows = [{"set": name, **summary[name]} for name in ("samples", "baseline") if name in summary]
    if baseline is not None:
        rows[1]["set"] = str(baseline)
    rows[0]["set"] = str(samples)
    console = Console()
    console.print(rows_table(rows, f"Similarity ({features}) of the nearest of {summary['training']}"))
    console.print(f"numbers: {out / 'audit.json'}\npairs: {out / 'pairs.png'}", highlight=False)
