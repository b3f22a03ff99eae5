"""A real undersampled scan, whose truth nobody knows, by l1-wavelet and by learned solvers.

    python -m benchmarks.real_scan SCAN.npy --out runs/real-scan --figure scan.png

SCAN.npy is k-space (coils, H, W) of an axial slice of a head at about 1 mm, zero where nothing was measured.
The prior is a teacher of the bundled head at that scale, trained on simulated slices of which nearly all
lines are measured: another person, another scanner, another contrast. What cannot be compared with a truth is
compared with data that were put aside: a tenth of the measured points outside the centre is hidden from the
solvers, and the table says how far the image's k-space is from them, relative to their norm; 1 is what an
image gets that knows nothing of them. Weights of l1-wavelet are tried from a short list, all of them in the
table; total variation and non-local means have their defaults. A part of those points is noise, which no
image can meet: a row says how much, from what the outermost measured points of k-space hold.
``--golden FILE`` is the same scan by BART's ``pics -l1`` as a numpy array, for one more column.
``--solvers`` without a name needs no prior: noise and the solvers without a model alone. ``--tiny`` is a
trial of the program and no reconstruction. The same command continues what was interrupted.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import existing, new_file, whole
from rich.console import Console
from torch import Tensor

import mrigen
from mrigen import fourier, seeds
from mrigen import recipe as recipes
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.rendering import magnitude_window
from mrigen.prep.kspace.options import Options
from mrigen.prep.readers.arrays import read_arrays
from mrigen.recipe.study import Study
from mrigen.reconstruction.job import Request, reconstruct
from mrigen.report.figures import comparison

CENTRE, HIDDEN, OUTER = 24, 0.1, 0.9
NOISE = "noise of the points put aside"
L1 = {f"l1-wavelet, λ = {w:g}": f"l1-wavelet:regularization={w:g}" for w in (0.001, 0.003, 0.01)}
NON_LOCAL = "non-local means"
MODEL_FREE = {**L1, "total variation": "total-variation", NON_LOCAL: "non-local-means"}
PREP = Options(virtual_coils=0, noise_whitening=False)
LEARNED = {
    "plug-and-play": "pnp",
    "plug-and-play, weight 0.3": "pnp:weight=0.3",
    "plug-and-play, ADMM, weight 0.3": "pnp:scheme=admm,weight=0.3",
    "DDS": "dds:steps=30",
    "DDS, no floor": "dds:steps=30,spread=0",
    "moment matching": "mmps:steps=30",
}
TEACHER = [
    "data.prep={acceleration: 1.001, acs_lines: 64, noise_whitening: false, split: {train: 1.0}}",
    "teacher.objective={name: standard}",
    "laps=null",
    "teacher.optimizer={lr: 1e-3, ramp_images: 100, max_grad_norm: 1.0, decay: linear}",
]


PAINTED = ["data.simulate.heads=1-14", "data.simulate.contrast=[t1, t2, random]"]
SAMPLED = ("dds", "mmps")


def train(size: tuple[int, int], images: int, out: Path, heads: Path | None, *, tiny: bool) -> Path:
    """The prior for scans of a size: a teacher of slices of a multiple of eight pixels, at most that size."""
    height, width = (side // 8 * 8 for side in size)
    volumes, slices = (2, 2) if tiny else (48, 24)
    simulate = (
        f"{{volumes: {volumes}, slices: {slices}, slice_range: [0.35, 0.8], matrix: [{height}, {width}], "
        "coils: 1, snr: 200}"
    )
    painted = [] if heads is None else [f"data.simulate.anatomy={heads}", *PAINTED]
    length = [f"teacher.images={images}", "teacher.batch=2", f"teacher.ema_halflife={images / 12:g}"]
    settings = [f"data.simulate={simulate}", *painted, *TEACHER, *length]
    study = Study(recipes.load("demo/brain", settings), out, Console(stderr=True), "cpu")
    study.prepare()
    study.train()
    return study.teacher_folder


def put_aside(kspace: Tensor) -> Tensor:
    """Which measured points, bool (H, W), solvers are not shown: a tenth of those outside the centre."""
    measured = (kspace != 0).any(0)
    height, width = measured.shape
    rows, columns = (slice(side // 2 - CENTRE // 2, side // 2 + CENTRE // 2) for side in (height, width))
    outside = measured.clone()
    outside[rows, columns] = False
    return outside & (torch.rand(height, width, generator=seeds.seeded_rng(0, "aside")) < HIDDEN)


def noise_share(kspace: Tensor, aside: Tensor) -> float:
    """Norm of the noise in the points put aside over the norm of these points.

    The squared magnitude of complex noise of variance σ² has the median σ² log 2. It is taken of each coil's
    measured points at 0.9 of half a side from the centre and farther; a little signal there moves a median
    less than a mean.

    Args:
        kspace: (coils, H, W), zero where nothing was measured.
        aside: the points, bool (H, W).

    Raises:
        UsageError: nothing so far from the centre was measured.
    """
    height, width = aside.shape
    rows, columns = ((torch.arange(side) - side // 2) / (side / 2) for side in (height, width))
    outer = (kspace != 0).any(0) & (torch.hypot(rows[:, None], columns) >= OUTER)
    if not outer.any():
        raise UsageError(
            f"the scan: nothing was measured at {OUTER:g} of half a side from the centre of k-space, where "
            "the noise is taken from; crop what is zero on all sides"
        )
    variance = kspace[:, outer].abs().square().median(1).values / math.log(2)
    return float((variance.sum() * aside.sum()).sqrt() / kspace[:, aside].norm())


def golden_magnitude(path: Path, size: tuple[int, int]) -> Tensor:
    """The magnitude (H, W) in a numpy file, which is its one array of the scan's size.

    Raises:
        UsageError: no such file, or no such array.
    """
    try:
        contents = np.load(path)
        arrays = list(contents.values()) if isinstance(contents, np.lib.npyio.NpzFile) else [contents]
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"--golden {path}: not a readable numpy file; save it with numpy.save") from error
    fitting = [array for array in arrays if array.shape == size]
    if len(fitting) != 1:
        raise UsageError(
            f"--golden {path}: has {len(fitting)} arrays of {size[0]}x{size[1]}, the scan's size"
        )
    return torch.from_numpy(np.abs(fitting[0]).astype(np.float32))


def correlation(image: Tensor, other: Tensor) -> float:
    """Of the magnitudes of two images."""
    return float(torch.corrcoef(torch.stack([image.abs().flatten(), other.abs().flatten()]))[0, 1])


def table(rows: dict[str, dict[str, Any]]) -> str:
    """One line per solver."""
    compared = {"correlation": "correlation with l1-wavelet", "bart": "correlation with BART's l1-wavelet"}
    solved = [row for name, row in rows.items() if name != NOISE]
    shown = {key: words for key, words in compared.items() if all(key in row for row in solved)}
    head = " | ".join(["error of points put aside", *shown.values(), "s"])
    lines = [f"| | {head} |", "|---" * (len(shown) + 3) + "|"]
    for name, row in rows.items():
        cells = [f"{row['aside']:.3f}", *(f"{row[key]:.4f}" if key in row else "" for key in shown)]
        cells.append(f"{row['seconds']:.0f}" if "seconds" in row else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=existing)
    parser.add_argument("--out", type=Path, default=Path("runs/real-scan"))
    parser.add_argument("--prior", type=existing, help="model folder of a teacher, instead of training one")
    parser.add_argument("--images", type=whole, default=12_000, help="slices that the prior is trained on")
    parser.add_argument(
        "--heads", type=existing, help="label maps, of which 1-14 are painted; else the bundled head"
    )
    parser.add_argument("--samples", type=whole, default=1, help="posterior samples; their mean is taken")
    parser.add_argument("--solvers", nargs="*", choices=LEARNED, default=list(LEARNED))
    parser.add_argument("--golden", type=existing, help="BART's l1-wavelet of the same scan, .npy or .npz")
    parser.add_argument("--tiny", action="store_true", help="a trial of the program")
    parser.add_argument("--figure", type=new_file)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kspace = torch.from_numpy(read_arrays(options.scan)[0][0])
    size = (kspace.shape[-2], kspace.shape[-1])
    golden = golden_magnitude(options.golden, size) if options.golden else None
    images = 8 if options.tiny else options.images
    aside, shown_file, maps = put_aside(kspace), options.out / "shown.npy", options.out / "maps.npy"
    noise = noise_share(kspace, aside)
    print(f"{NOISE}: {noise:.3f} of their norm", flush=True)
    model = options.prior
    if model is None and options.solvers:
        model = train(size, images, options.out / "prior", options.heads, tiny=options.tiny)
    options.out.mkdir(parents=True, exist_ok=True)
    np.save(shown_file, (kspace * ~aside).numpy())
    sensitivities = mrigen.espirit(kspace, calib_width=CENTRE, crop=0.95)
    np.save(maps, sensitivities.numpy())

    def solve(words: str, prior: Path | None) -> tuple[Tensor, dict[str, Any]]:
        samples = options.samples if words.startswith(SAMPLED) else 1
        request = Request(solver=words, model=prior, maps=maps, prep=PREP, samples=samples)
        out = options.out / words.replace(":", "-").replace(",", "-")
        _, report = reconstruct(shown_file, out, request, torch.device("cpu"))
        with h5py.File(out / "reconstruction.h5") as file:
            image = torch.from_numpy(file["image"][0])
        wrong = (fourier.fft(sensitivities * image) - kspace)[:, aside]
        row = {"solver": words, "seconds": report["seconds_per_slice"]}
        return image, {**row, "aside": float(wrong.norm() / kspace[:, aside].norm())}

    solved, rows = {}, {}
    for name, words in MODEL_FREE.items():
        solved[name], rows[name] = solve(words, None)
    best = min(L1, key=lambda name: float(rows[name]["aside"]))
    for name in options.solvers:
        words = LEARNED[name].split(":")[0] + ":steps=2" if options.tiny else LEARNED[name]
        solved[name], rows[name] = solve(words, model)
    for name, image in solved.items():
        rows[name]["correlation"] = correlation(image, solved[best])
        if golden is not None:
            rows[name]["bart"] = correlation(image, golden)
    rows = {NOISE: {"aside": noise}, **rows}
    print(table(rows))
    if options.figure:
        shown = {name: solved[name][None] for name in [best, NON_LOCAL, *options.solvers]}
        comparison(shown, magnitude_window(solved[best]), options.figure, "real scan")
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    one_line(main)
