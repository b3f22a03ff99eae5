"""``mrigen simulate``: a folder of simulated fastMRI volumes, continued where it stopped."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mrigen import hdf5
from mrigen.errors import UsageError
from mrigen.prep import anatomy, fastmri_write, ismrmrd, pool
from mrigen.prep.folder import exclusive, explain_full_disk, refuse_other_parameters
from mrigen.prep.simulate import Scanner, Simulation
from mrigen.progress import bar

PARAMETER = "mrigen_simulation"
ACQUISITION = "AXT1"
FIELD_STRENGTH, TR_MS, TE_MS, TI_MS, FLIP_DEGREES = 3.0, 250.0, 2.64, 300.0, 70.0


@dataclass(frozen=True)
class Task:
    """One volume to simulate."""

    simulation: Simulation
    anatomy: Path | None
    number: int
    path: Path


@dataclass(frozen=True)
class Simulated:
    """What a run did.

    Attributes:
        written: volumes written now.
        skipped: volumes that were there already.
        size: bytes of all of them.
        pixel: in-plane pixel size in mm.
    """

    written: int
    skipped: int
    size: int
    pixel: float


def simulate(
    out: Path, volumes: int, simulation: Simulation, anatomy_file: Path | None = None, jobs: int | None = None
) -> Simulated:
    """Write ``volumes`` volumes into ``out``; those that are there with the same parameters are skipped.

    Args:
        out: folder, created where needed.
        volumes: their number; volume i does not depend on it.
        simulation: parameters of the acquisition.
        anatomy_file: the user's own anatomy instead of the bundled head.
        jobs: processes; by default as many as the amount of data is worth.

    Raises:
        UsageError: the folder cannot be written or holds volumes with other parameters.
    """
    pixel = _scanner(simulation, anatomy_file).pixel
    with exclusive(out), explain_full_disk(out):
        tasks = [Task(simulation, anatomy_file, i, out / f"simulated_{i:04d}.h5") for i in range(volumes)]
        missing = [task for task in tasks if not _finished(task)]
        if missing:
            if jobs is None:
                s = simulation
                per_volume = 8 * s.slices * s.coils * s.oversampling * s.matrix[0] * s.matrix[1]
                jobs = pool.processes(len(missing), len(missing) * per_volume)
            with (
                bar("simulate", volumes, "volume", done=volumes - len(missing)) as advance,
                closing(pool.run(_write, missing, jobs)) as finished,
            ):
                for task, _ in finished:
                    advance(1, task.path.name)
        size = sum(task.path.stat().st_size for task in tasks)
    return Simulated(len(missing), volumes - len(missing), size, pixel)


@lru_cache(maxsize=1)
def _scanner(simulation: Simulation, anatomy_file: Path | None) -> Scanner:
    return Scanner.build(simulation, anatomy.load(anatomy_file))


def _write(task: Task) -> None:
    s, scanner = task.simulation, _scanner(task.simulation, task.anatomy)
    height, width = s.matrix
    fov = (height * scanner.pixel, width * scanner.pixel, s.slice_thickness)
    header = ismrmrd.Header(
        encoded_matrix=(s.oversampling * height, width, 1),
        recon_matrix=(height, width, 1),
        encoded_fov=(s.oversampling * fov[0], *fov[1:]),
        recon_fov=fov,
        centre=width // 2 - s.padded_lines,
        maximum=width - 2 * s.padded_lines - 1,
        field_strength=FIELD_STRENGTH,
        tr_ms=TR_MS,
        te_ms=TE_MS,
        ti_ms=TI_MS,
        flip_angle_deg=FLIP_DEGREES,
    )
    fastmri_write.write_volume(
        task.path,
        scanner.acquire(task.number),
        (s.slices, s.coils, s.oversampling * height, width),
        header,
        recon_shape=s.matrix,
        patient_id=task.path.stem,
        acquisition=ACQUISITION,
        user_parameters={PARAMETER: json.dumps(_identity(task), sort_keys=True)},
    )


def _identity(task: Task) -> dict[str, Any]:
    return {**task.simulation.model_dump(mode="json"), "volume": task.number}


def _finished(task: Task) -> bool:
    """Whether the volume is there, made with the same parameters.

    Raises:
        UsageError: the file is no simulated volume, or was made with other parameters.
    """
    if not task.path.exists():
        return False
    try:
        with hdf5.reader(task.path) as file:
            written = ismrmrd.user_parameter(bytes(file["ismrmrd_header"][()]), PARAMETER)
    except (OSError, KeyError, TypeError, ismrmrd.HeaderError) as error:
        raise UsageError(
            f"{task.path}: in the way and not readable ({error}); choose another --out"
        ) from error
    if written is None:
        raise UsageError(f"{task.path}: in the way and not written by mrigen simulate; choose another --out")
    refuse_other_parameters(task.path, json.loads(written), json.loads(json.dumps(_identity(task))))
    return True
