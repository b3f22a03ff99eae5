"""``mrigen reconstruct``: a source, a solver and a prior."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mrigen import seeds
from mrigen.checkpoints.snapshots import DENOISER
from mrigen.data.manifest import NAME
from mrigen.data.pixels import is_image
from mrigen.engine.precision import EVALUATED, compile_network, compiles, typical_images
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Prior, Solver, Task
from mrigen.inverse.tiling import Shape, size_text
from mrigen.model import Model
from mrigen.prep.kspace.options import Options
from mrigen.prep.kspace.sources import raw_files
from mrigen.prep.readers import find_reader, reader_of
from mrigen.progress import Advance, bar
from mrigen.reconstruction.batches import batch_size_for, filled, rows_of
from mrigen.reconstruction.calibration import (
    SLICES,
    Calibration,
    Deviations,
    put_aside,
    require_calibration,
    without,
)
from mrigen.reconstruction.coil_maps import open_maps
from mrigen.reconstruction.neighbours import MOST_PASSES, Solved, coupled, neighbours_of_source
from mrigen.reconstruction.outputs import (
    DEFAULT,
    Volume,
    dataset_shape,
    parse_formats,
    write_formats,
    write_pictures,
)
from mrigen.reconstruction.photographs import PictureSource
from mrigen.reconstruction.prepared import StoreSource
from mrigen.reconstruction.results import open_results
from mrigen.reconstruction.scans import ScanSource
from mrigen.reconstruction.sources import Batch, Source, unexplained_note
from mrigen.registry import Params
from mrigen.tensors import evenly_spaced


class Request(Params):
    """What is asked for, apart from input and output.

    Attributes:
        solver: in a command's words, ``pnp`` or ``latent:steps=500,starts=4``.
        model: model folder, for solvers that need one.
        samples: posterior samples of each slice.
        neighbours: weight of each neighbouring slice or frame, see ``coupled``; 0 for slices on their own.
        along: whether neighbours are ``slices`` of a volume or ``frames`` of a series.
        passes: number of passes with neighbours; each starts from the images of the one before.
        calibrate: scale their spread by measured k-space that is put aside for it, see ``Calibration``.
        sigma: noise level of the data in their own units; None for what is known of it, 0 to meet the
            data exactly.
        seed: of everything random.
        batch: images that are reconstructed at once; None for as many as their size allows.
        split: part of a store.
        prep: preparation of raw k-space, and the slices.
        maps: coil maps instead of the store's, or of those that ESPIRiT finds in the ACS lines.
        operator: what degraded pictures, in a command's words.
        mask: picture that is black where pixels of the pictures are missing.
        degrade: the pictures are clean.
        formats: names of the formats that are written; None for HDF5 and NIfTI magnitudes of complex images,
            or HDF5 of pictures.
    """

    solver: str
    model: Path | None = None
    samples: int = 1
    neighbours: Annotated[float, Field(ge=0)] = 0.0
    along: Literal["slices", "frames"] = "slices"
    passes: Annotated[int, Field(ge=1, le=MOST_PASSES)] = 1
    calibrate: bool = False
    sigma: float | None = None
    seed: int = 0
    batch: int | None = None
    split: str | None = "test"
    prep: Options = Options()
    maps: Path | None = None
    operator: str | None = None
    mask: Path | None = None
    degrade: bool = False
    formats: str | None = None
    command: str = ""

    @property
    def slices_at_once(self) -> int:
        """As many as have all their samples in one batch, or one."""
        return max(1, (self.batch or 1) // self.samples)


def reconstruct(
    source_path: Path, out: Path, request: Request, device: torch.device
) -> tuple[Source, dict[str, Any]]:
    """Reconstruct a file and write everything into a folder; returns the source and the report.

    Raises:
        UsageError: the input, the model and the solver do not fit together.
    """
    solver: Solver[Any] = SOLVERS.build(SOLVERS.parse(request.solver))
    formats = DEFAULT if request.formats is None else parse_formats(request.formats)
    model = None if request.model is None else Model.load(request.model, device)
    if model is not None:
        request = with_phase(request, model)
    source = open_source(source_path, request, None if model is None else model.image_shape)
    if request.model is not None and isinstance(source, StoreSource):
        source.require_phase(request.prep.phase)
    if request.formats is not None and not source.complex_valued and set(formats) != {"h5"}:
        raise UsageError(
            f"{source_path}: --format is for k-space, and pictures are written as HDF5 and PNG; leave it out"
        )
    if request.calibrate:
        require_calibration(source, request.samples)
    beside = neighbours_of_source(
        source, request.along, request.neighbours, request.passes, calibrate=request.calibrate
    )
    prior = prior_for(model, solver, source, request)
    used = None if prior is None else model
    if request.batch is None:
        request = request.model_copy(
            update={"batch": batch_size_for(solver, source, used, request.samples, device)}
        )
    total = len(source) * request.samples * solver.steps
    if used is not None and compiles(None, device, typical_images(total, source.shape), EVALUATED):
        compile_network(used.denoiser.network, device, retained=solver.differentiates)
    summary: dict[str, Any] = {
        "solver": request.solver,
        "model": "" if model is None or prior is None else model.description.weights_sha256,
        "seed": request.seed,
        "samples": request.samples,
        "command": request.command,
        "notes": [*source.notes, *([] if model is None or prior is None else notes(model, source.shape))],
    }
    start = time.perf_counter()
    calibration = _calibrate(solver, source, prior, request, device) if request.calibrate else None
    with (
        open_results(out, source, request.samples, calibration) as results,
        bar(f"reconstruct with {request.solver}", total, "step") as advance,
    ):
        mismatch: list[tuple[Tensor, Tensor] | None] = []
        solved = _solved(solver, source, prior, request, device, advance, mismatch)
        for one in coupled(solved, beside, request.neighbours, device, request.passes):
            results.add(one.batch, one.images, one.steps, one.misfit)
        seconds = (time.perf_counter() - start) / len(source)
        note = unexplained_note(mismatch)
        summary["notes"] += [note] if note else []
        report = results.finish({**summary, "seconds_per_slice": seconds})
    if source.complex_valued:
        path = out / "reconstruction.h5"
        about = (source.name, dataset_shape(path), source.voxel, source.geometry, source.acquisition)
        write_formats(out, formats, Volume(path, *about, summary))
    elif isinstance(source, PictureSource):
        write_pictures(out, source.labels)
    return source, report


def _solved(
    solver: Solver[Any],
    source: Source,
    prior: Prior | None,
    request: Request,
    device: torch.device,
    advance: Advance,
    mismatch: list[tuple[Tensor, Tensor] | None],
) -> Iterator[Solved]:
    """Batches of slices, each on its own; what the data leave unexplained goes to ``mismatch``."""
    slices = min(request.slices_at_once, len(source))
    for batch in source.batches(slices):
        mismatch.append(batch.unexplained())
        known = batch.with_sigma(request.sigma)
        yield Solved(known, *solve_batch(solver, known, prior, request, device, advance, slices))


def _calibrate(
    solver: Solver[Any], source: Source, prior: Prior | None, request: Request, device: torch.device
) -> Calibration:
    """The factors on the samples' deviations, from some slices of which less is shown."""
    chosen = evenly_spaced(len(source), SLICES)
    first: list[Deviations] = []
    second: list[Deviations] = []
    total = len(chosen) * request.samples * solver.steps
    with bar(f"calibrate {request.solver}", total, "step") as advance:
        for batch in source.batches(request.slices_at_once):
            known = batch.with_sigma(request.sigma)
            for row, position in enumerate(batch.positions):
                if position not in chosen:
                    continue
                one = Batch([position], rows_of(known.data, [row]), known.scale[row : row + 1])
                key = seeds.key(request.seed, "calibrate", position)
                aside = put_aside(one, key, chosen.index(position))
                if not (aside[0] | aside[1]).any():
                    continue
                images, _, _ = solve_batch(solver, without(one, aside), prior, request, device, advance)
                first.append(Deviations.of(one, images[0], aside[0]))
                second.append(Deviations.of(one, images[0], aside[1]))
    if not all(any(len(part.error) for part in half) for half in (first, second)):
        raise UsageError(
            f"{source.name}: --calibrate needs two lines measured outside the fully sampled centre of its "
            "slices, and there are fewer; leave it out"
        )
    return Calibration.of(Deviations.joined(first), Deviations.joined(second), len(first))


def notes(model: Model, shape: Shape) -> list[str]:
    """What a user of a model as a prior of images (C, H, W) should know, one line each."""
    if model.role == "generator":
        return []
    operator = (model.description.corruption or {}).get("operator")
    name = operator.get("name") if isinstance(operator, dict) else operator
    lines = []
    if not model.conditions_on_mask and name not in {None, "identity", "multicoil-mri"}:
        lines.append(
            f"this teacher models what {name} leaves of images, not clean images: its one-step generator does"
        )
    if shape != model.image_shape:
        lines.append(
            f"the model's images of {size_text(model.image_shape)} tile the scan's {size_text(shape)}: it "
            "was trained on whole images of its own size, so that tiles show it another scale"
        )
    return lines


def with_phase(request: Request, model: Model) -> Request:
    """The request with the phase convention of the model's images."""
    phase = (model.description.corruption or {}).get("phase", request.prep.phase)
    return request.model_copy(update={"prep": request.prep.model_copy(update={"phase": phase})})


def solve_batch(
    solver: Solver[Any],
    batch: Batch,
    prior: Prior | None,
    request: Request,
    device: torch.device,
    advance: Advance,
    slices: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every sample of every slice of a batch; 0 where no coil sees anything, whatever a prior thinks of it.

    On a GPU all of a run's batches have the samples of so many ``slices``, see ``filled``.

    Returns:
        Images (n, samples, C, H, W), steps and misfits (n, samples).
    """
    count, samples = len(batch.positions), request.samples
    pairs = [(row, sample) for row in range(count) for sample in range(samples)]
    images, steps, misfits = [], [], []
    size = request.batch or len(pairs)
    for first in range(0, len(pairs), size):
        chunk = pairs[first : first + size]
        real = len(chunk)
        chunk = filled(chunk, min(size, slices * samples), device)
        keys = [seeds.key(request.seed, "reconstruct", batch.positions[r], s) for r, s in chunk]
        data = rows_of(batch.data, [r for r, _ in chunk]).to(device=device)

        def report(units: int = 1, note: str = "", images: int = real) -> None:
            advance(units * images, note)

        solution = solver.solve(Task(data, keys, prior), report)
        images.append(data.operator.within_support(solution.image)[:real].cpu())
        steps.append(solution.steps[:real].cpu())
        misfits.append(solution.misfit[:real].cpu())
    image = torch.cat(images).unflatten(0, (count, samples))
    return image, torch.cat(steps).view(count, samples), torch.cat(misfits).view(count, samples)


def open_source(path: Path, request: Request, shape: tuple[int, int, int] | None) -> Source:
    """What a path holds: a prepared store, raw k-space, or pictures.

    Args:
        path: the path.
        request: what is asked for.
        shape: (C, H, W) of pictures; None for their own.

    Raises:
        UsageError: nothing that can be reconstructed, or options for another kind of input.
    """
    if not path.exists() and path.with_name(f"{path.name}.cfl").is_file():
        path = path.with_name(f"{path.name}.cfl")
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; give k-space, a measurement store or a picture")
    kspace = path.is_file() and bool(request.prep.reader or find_reader(path))
    if path.is_file() and not kspace and not is_image(path.name):
        reader_of(path)
    store = path.is_dir() and (path / NAME).is_file()
    if (kspace or store) and (request.operator or request.mask or request.degrade):
        raise UsageError(f"{path}: --operator, --mask and --degrade are for pictures; leave them out")
    maps = None
    if request.maps is not None:
        _require_maps_of_use(path, request, kspace=kspace or store)
        maps = open_maps(request.maps, request.split if store else None)
    if store:
        if request.prep.undersamples or request.prep.acs_lines is not None:
            raise UsageError(
                f"{path}: is undersampled already; leave out --acceleration, --mask-law and --acs-lines"
            )
        return StoreSource(path, request.split, request.prep.slices, maps)
    if kspace:
        return ScanSource(path, request.prep, maps)
    _require_pictures(path)
    return PictureSource(
        path,
        shape,
        request.operator,
        request.sigma or 0.0,
        request.mask,
        degrade=request.degrade,
        seed=request.seed,
    )


def _require_pictures(source_path: Path) -> None:
    """Refuse a folder of scans, which are reconstructed one by one.

    Raises:
        UsageError: names the scans.
    """
    if source_path.is_dir() and not any(is_image(path.name) for path in source_path.iterdir()):
        scans = ", ".join(path.name for path in raw_files(source_path))
        if scans:
            raise UsageError(f"{source_path}: holds scans ({scans:.80}); give one of these files")


def _require_maps_of_use(path: Path, request: Request, *, kspace: bool) -> None:
    """Refuse maps for pictures, and beside options of the maps that they replace.

    Raises:
        UsageError: says which option to leave out.
    """
    if not kspace:
        raise UsageError(f"{path}: pictures have no coils; leave out --maps")
    for field in ("kernel_width", "espirit_crop"):
        if getattr(request.prep, field) != Options.model_fields[field].default:
            option = field.replace("_", "-")
            raise UsageError(f"--{option} is for ESPIRiT, and --maps gives other maps; leave one of them out")


def require_role(model: Model | None, solver: Solver[Any], name: str) -> None:
    """Refuse a solver without the model that it needs.

    Args:
        model: the model, or None.
        solver: the solver.
        name: its name, for messages.

    Raises:
        UsageError: there is none, or one of another role.
    """
    if not solver.needs:
        return
    kinds = " or a ".join(sorted(solver.needs))
    if model is None:
        raise UsageError(f"solver {name}: needs a {kinds}; give its model folder with --model")
    if model.role not in solver.needs:
        beside = None if model.folder is None else model.folder.parent / DENOISER
        there = beside is not None and "teacher" in solver.needs and beside.is_dir()
        hint = f"; give {beside}" if there else ""
        raise UsageError(f"{model.name}: is a {model.role}, and solver {name} needs a {kinds}{hint}")


def prior_for(model: Model | None, solver: Solver[Any], source: Source, request: Request) -> Prior | None:
    """The model as the solver uses it, None where it needs none.

    Raises:
        UsageError: as ``require_role``.
    """
    require_role(model, solver, request.solver)
    if model is None or not solver.needs:
        return None
    return model.prior(
        source.shape, complex_valued=source.complex_valued, differentiated=solver.differentiates
    )
