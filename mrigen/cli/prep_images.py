"""``mrigen prep-images``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mrigen.cli.preparing import DATA, AsJson, DaskScheduler, Jobs, NoReferences, chosen_references

if TYPE_CHECKING:
    from mrigen.prep.images.options import ImageOptions

IMAGE, CORRUPTION = "Image", "Corruption"


def prep_images(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Folder, zip or tar of images (EDM's data sets too), CIFAR-10's `cifar-10-python.tar.gz`, a "
            "folder of MNIST's IDX files, or one that needs no download: `digits`, 1,797 handwritten digits, "
            "`black-holes`, 2,000 rings and crescents, or `spiral`, points of the plane (with --crop none).",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the store; a second run continues it.")],
    size: Annotated[
        int | None,
        typer.Option(help="Height and width; by default as the images are.", rich_help_panel=IMAGE),
    ] = None,
    crop: Annotated[
        str,
        typer.Option(
            help="Before resampling: `center` (largest square), a number of pixels, `celeba` (140), "
            "`dhariwal`, `pad` (black around, nothing is resampled) or `none`.",
            rich_help_panel=IMAGE,
        ),
    ] = "center",
    resample: Annotated[
        str | None, typer.Option(help="`lanczos` (the default) or `box`.", rich_help_panel=IMAGE)
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(help="1 for grey, 3 for colour; by default as the first image.", rich_help_panel=IMAGE),
    ] = None,
    operator: Annotated[
        str | None,
        typer.Option(
            help="What happens to the images, `inpainting:missing=0.6`: identity (the default), inpainting, "
            "missing-box, kept-patch, gaussian-blur, motion-blur, super-resolution, compressed-sensing ...; "
            "a class of your own, `my_ops.py:MyOperator`; or a recipe, `celeba/deblur-s20`, for its operator "
            "and noise.",
            rich_help_panel=CORRUPTION,
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="σ of the noise for images in [-1, 1]: a number; `0.15,0.25` for σ ~ U[0.15, 0.25] per "
            "image; or `unknown` with --measured.",
            rich_help_panel=CORRUPTION,
        ),
    ] = None,
    measured: Annotated[
        bool,
        typer.Option(
            "--measured",
            help="SRC holds measurements already: corrupt nothing, write no references.",
            rich_help_panel=CORRUPTION,
        ),
    ] = False,
    estimate_noise: Annotated[
        bool,
        typer.Option(
            "--estimate-noise",
            help="Simulate noise, but let training know only what is estimated from the noisy images.",
            rich_help_panel=CORRUPTION,
        ),
    ] = False,
    stated_noise: Annotated[
        float | None,
        typer.Option(
            help="Simulate noise, but let training take this σ for its level: what a wrong σ does.",
            rich_help_panel=CORRUPTION,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Parts by image, such as train=0.9,test=0.1; by default SRC's own (folders or files called "
            "train, val, test), or all in `train`.",
            rich_help_panel=DATA,
        ),
    ] = None,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Keep class labels (`dataset.json`, or the archive's).", rich_help_panel=DATA
        ),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Take only so many images, evenly from SRC.", rich_help_panel=DATA),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the clean images, for evaluation only; by default OUT-reference.",
            rich_help_panel=DATA,
        ),
    ] = None,
    no_references: NoReferences = False,
    edm_zip: Annotated[
        Path | None,
        typer.Option(
            help="Also write the training measurements as an 8-bit zip of EDM's layout.", rich_help_panel=DATA
        ),
    ] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
    dask_scheduler: DaskScheduler = None,
    seed: Annotated[int, typer.Option(help="Corruption and split depend on seed and image name alone.")] = 0,
) -> None:
    """Turn images into a measurement store: cropped, resized, and corrupted once.

    Every image gets one operator and one noise realisation, drawn from the seed and its name, and the
    store keeps the measurement alone. Clean images go to a folder of their own that training cannot
    open. A second run skips finished shards. Images that cannot be read are listed and left out.

    Try:

    - `mrigen prep-images digits --out digits --operator inpainting:missing=0.6
      --split train=0.75,test=0.25`

    - `mrigen prep-images img_align_celeba.zip --out celeba --size 64 --crop celeba --operator gaussian-blur
      --noise 0.2`

    - as a recipe says: `mrigen prep-images cifar-10-python.tar.gz --out cifar --operator cifar10/denoise-s20`

    - noisy images of your own: `mrigen prep-images photos --out noisy --size 128 --measured --noise unknown`
    """
    from rich.console import Console

    from mrigen.data.image_store import ImageStore
    from mrigen.prep.images import edm_zip as archive
    from mrigen.prep.images import job as image_job
    from mrigen.prep.images import report as shown

    values: dict[str, Any] = {
        "size": size,
        "crop": crop,
        "resample": resample,
        "channels": channels,
        "measured": measured,
        "estimate_noise": estimate_noise,
        "stated_noise": stated_noise,
        "split": split,
        "labels": labels,
        "limit": limit,
        "seed": seed,
    }
    options = _options(values, operator, noise)
    beside = chosen_references(references, none=no_references)
    report = image_job.run(source, out, options, references=beside, jobs=jobs, dask_scheduler=dask_scheduler)
    if not as_json:
        shown.show(report, out, Console(markup=False))
    typer.echo(f"look at {shown.draw(out)}", err=as_json)
    if edm_zip is not None:
        clipped = archive.write(ImageStore(out), edm_zip)
        typer.echo(f"EDM zip: {edm_zip}" + (f" ({clipped:.1%} of the pixels clipped)" if clipped else ""))
    if as_json:
        typer.echo(json.dumps(shown.facts(report, out), indent=2, ensure_ascii=False))
    if report.left_out:
        raise typer.Exit(1)


def _options(values: dict[str, Any], operator: str | None, noise: str | None) -> ImageOptions:
    """The options, with operator and noise of a recipe where one is named."""
    from pydantic import ValidationError

    from mrigen import recipe
    from mrigen.errors import UsageError
    from mrigen.operators.corruption import CORRUPTIONS
    from mrigen.prep.images.options import ImageOptions
    from mrigen.registry import describe

    if operator in recipe.names():
        images = recipe.load(operator).data.images
        if images is None:
            raise UsageError(f"--operator {operator}: this recipe is not about images; name another")
        values |= {"operator": images.operator, "noise": images.noise}
        values["estimate_noise"] |= images.estimate_noise
        if values["stated_noise"] is None:
            values["stated_noise"] = images.stated_noise
    elif operator is not None:
        values["operator"] = CORRUPTIONS.parse(operator)
    if noise is not None:
        low, comma, high = noise.partition(",")
        values["noise"] = [low, high] if comma else noise
    try:
        return ImageOptions(**values)
    except ValidationError as error:
        raise UsageError(f"mrigen prep-images: {describe(error)}") from error
