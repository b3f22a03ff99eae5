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
from mrigen.prep import ismrmrd, pool
from mrigen.prep.folder import exclusive, explain_full_disk, refuse_other_parameters
from mrigen.prep.simulate import anatomy, fastmri_file
from mrigen.prep.simulate.acquisition import Scanner, Simulation
from mrigen.prep.simulate.heads import Heads
from mrigen.prep.simulate.label_map import LabelMap
from mrigen.prep.simulate.tissues import CONTRASTS, sequence_of
from mrigen.progress import bar

FIELD_STRENGTH, TR_MS, TE_MS, TI_MS, FLIP_DEGREES = 3.0, 250.0, 2.64, 300.0, 70.0


@dataclass(frozen=True)
class Task:
    """One volume to simulate."""

    simulation: Simulation
    anatomy: Path | None
    labels: Path | None
    number: int
    path: Path


@dataclass(frozen=True)
class Simulated:
    """What a run did.

    Attributes:
        written: volumes written now.
        skipped: volumes that were there already.
        size: bytes of all of them.
        pixels: in-plane pixel sizes in mm of all heads.
        unknown: label numbers of no known tissue, by the head's name.
    """

    written: int
    skipped: int
    size: int
    pixels: list[float]
    unknown: dict[str, list[int]]

    @property
    def notes(self) -> list[str]:
        """What the user should know, one line each."""
        numbers: dict[str, list[str]] = {}
        for file, labels in self.unknown.items():
            numbers.setdefault(", ".join(map(str, labels)), []).append(file)
        return [
            f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}: label numbers of no known "
            f"tissue ({which}) have a random intensity in every volume; say what they are with --labels"
            for which, files in numbers.items()
        ]


def simulate(
    out: Path, volumes: int, simulation: Simulation, heads: Heads | None = None, jobs: int | None = None
) -> Simulated:
    """Write ``volumes`` volumes into ``out``; those that are there with the same parameters are skipped.

    A volume of several heads, or of a label map, is named after its head.

    Args:
        out: folder, created where needed.
        volumes: their number; volume i does not depend on it.
        simulation: parameters of the acquisition; anatomy, head and contrast follow from ``heads``.
        heads: what is acquired; the bundled head by default.
        jobs: processes; by default as many as the amount of data is worth.

    Raises:
        UsageError: heads that cannot be read, or a folder that cannot be written or holds volumes with other
            parameters.
    """
    heads = heads or Heads()
    tasks, pixels, unknown = [], [], {}
    each, contrasts = heads.each(), heads.contrasts or CONTRASTS[:1]
    for position, (file, name, head) in enumerate(each):
        painted = isinstance(head, LabelMap)
        if isinstance(head, LabelMap) and head.unknown:
            unknown[str(file)] = head.unknown
        whole = anatomy.digest(file, heads.labels if painted else None)
        own = simulation.model_copy(update={"anatomy": whole, "head": name})
        pixels.append(Scanner.build(own, head).pixel if painted else _scanner(own, file, heads.labels).pixel)
        for number in range(position, volumes, len(each)):
            contrast = contrasts[number // len(each) % len(contrasts)] if painted else None
            path = out.absolute() / f"{name or 'simulated'}_{number:04d}.h5"
            chosen = own.model_copy(update={"contrast": contrast})
            tasks.append(Task(chosen, file and file.absolute(), heads.labels, number, path))
    tasks.sort(key=lambda task: task.number)
    with exclusive(out), explain_full_disk(out):
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
    return Simulated(len(missing), volumes - len(missing), size, pixels, unknown)


@lru_cache(maxsize=anatomy.KEPT)
def _scanner(simulation: Simulation, file: Path | None, labels: Path | None) -> Scanner:
    return Scanner.build(simulation, anatomy.load(file, labels))


def _write(task: Task) -> None:
    s, scanner = task.simulation, _scanner(task.simulation, task.anatomy, task.labels)
    contrast = s.contrast or CONTRASTS[0]
    drawn = None if s.contrast is None else sequence_of(contrast, s.seed, task.number)
    tr, te, flip = (TR_MS, TE_MS, FLIP_DEGREES) if drawn is None else (drawn.tr, drawn.te, drawn.flip)
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
        tr_ms=tr,
        te_ms=te,
        ti_ms=TI_MS,
        flip_angle_deg=flip,
    )
    fastmri_file.write_volume(
        task.path,
        scanner.acquire(task.number),
        (s.slices, s.coils, s.oversampling * height, width),
        header,
        recon_shape=s.matrix,
        patient_id=s.head or task.path.stem,
        acquisition=f"AX{contrast.upper()}",
        user_parameters={ismrmrd.SIMULATION: json.dumps(_identity(task), sort_keys=True)},
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
            written = ismrmrd.user_parameter(bytes(file["ismrmrd_header"][()]), ismrmrd.SIMULATION)
    except (OSError, KeyError, TypeError, ismrmrd.HeaderError) as error:
        raise UsageError(
            f"{task.path}: in the way and not readable ({error}); choose another --out"
        ) from error
    if written is None:
        raise UsageError(f"{task.path}: in the way and not written by mrigen simulate; choose another --out")
    refuse_other_parameters(task.path, json.loads(written), json.loads(json.dumps(_identity(task))))
    return True
