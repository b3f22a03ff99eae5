"""Noise and low resolution undone with priors trained on such data (DCD, section 4.6).

    python -m benchmarks.image_cases --out runs/image-cases --json cases.json
    python -m benchmarks.image_cases --images photographs --out runs/image-cases-photographs

Denoising of σ = 0.2 (images in [-1, 1]) and super-resolution by two. For each a teacher and a student are
made from such measurements alone; held-out measurements of the same kind are explained by x = G(z) with
z = argmin ‖A G(z) − y‖² (Adam, 1,000 steps, 0.05 and 0.1, DCD appendix I), beside the pseudo-inverse, the
teacher in one evaluation where the noise is known, and Noise2Self: total variation and wavelets of
scikit-image with the strength that ``calibrate_denoiser`` finds for each image, and a small network that
learns from the same noisy images (deepinv, where it is installed). Noise2Self has nothing to say about low
resolution. Moment matching is the mean of eight posterior samples with a teacher as prior: that
of the same corruption and, for low resolution, that of the noisy images, whose measurements hide nothing
from many of them. Sets of images and ``--tiny`` are those of ``benchmarks.restoration``; ``--set`` changes
the recipe of both cases.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole
from benchmarks.deepinv_peers import installed
from benchmarks.deepinv_peers import noise2self as learn_noise2self
from benchmarks.perception import Distance, perception
from benchmarks.pictures import SETS, Kind
from torch import Tensor

from mrigen import seeds
from mrigen.files import write_json
from mrigen.inverse import SOLVERS, Prior, Task, TeacherPrior
from mrigen.metrics.reconstruction import image_errors
from mrigen.operators import Measurements
from mrigen.operators.corruption import make_corruption
from mrigen.operators.noise import Noise

MOST = 60.0
SIGMA = 0.2
LOW_RESOLUTION = {"name": "super-resolution", "factor": 2}
SAMPLES = 8
DENOISING, SHARPENING = f"denoising, σ = {SIGMA:g}", "super-resolution, 2 x"
Method = Callable[[Measurements], Tensor]


def latent(prior: Prior, steps: int, lr: float) -> dict[str, Method]:
    """Latent optimisation, once and from four starts."""

    def run(words: str) -> Method:
        solver = SOLVERS.build(SOLVERS.parse(words))
        return lambda data: solver.solve(Task(data, list(range(len(data))), prior)).image

    plain = f"latent:steps={steps},lr={lr:g}"
    return {"one-step generator, latent": run(plain), "the same, 4 starts": run(f"{plain},starts=4")}


def pseudo_inverse(data: Measurements) -> Tensor:
    """A⁺ y."""
    solver = SOLVERS.build({"name": "cg-sense", "regularization": 0})
    return solver.solve(Task(data, list(range(len(data))))).image


def posterior_mean(prior: Prior) -> Method:
    """The teacher's E[x | y] at the known noise level."""
    assert isinstance(prior, TeacherPrior)
    return lambda data: prior.denoise(data.y, data.sigma)


def posterior_samples(prior: Prior, steps: int) -> Method:
    """Mean of posterior samples by moment matching."""
    solver = SOLVERS.build({"name": "mmps", "steps": steps})

    def sample(data: Measurements, number: int) -> Tensor:
        keys = [seeds.key(0, "image cases", index, number) for index in range(len(data))]
        return solver.solve(Task(data, keys, prior)).image

    return lambda data: torch.stack([sample(data, number) for number in range(SAMPLES)]).mean(0)


def noise2self(name: str, parameters: dict[str, Any]) -> Method:
    """A filter of scikit-image, J-invariant, calibrated for each image (Batson and Royer 2019)."""
    from skimage import restoration

    def run(data: Measurements) -> Tensor:
        estimates = []
        for y in data.y:
            noisy = ((y + 1) / 2).permute(1, 2, 0).squeeze(-1).numpy().astype(np.float64)
            chosen = restoration.calibrate_denoiser(noisy, getattr(restoration, name), parameters)
            estimates.append(torch.from_numpy(2 * chosen(noisy) - 1).float().reshape(1, *noisy.shape))
        return torch.stack(estimates)

    return run


def measure(data: Measurements, truth: Tensor, run: Method, distance: Distance | None) -> dict[str, Any]:
    """Mean PSNR and SSIM with their standard errors, mean LPIPS, seconds of an image.

    A flat patch is restored exactly by some methods: no PSNR counts as more than ``MOST`` dB.
    """
    start = time.perf_counter()
    images = run(data)
    row: dict[str, Any] = {"seconds": (time.perf_counter() - start) / len(truth), "n": len(truth)}
    figures = image_errors(images, truth)
    decibels = np.minimum([errors.psnr for errors in figures], MOST)
    for name, values in (("psnr", decibels), ("ssim", np.array([errors.ssim for errors in figures]))):
        row |= {
            name: float(values.mean()),
            f"{name}_error": float(values.std(ddof=1) / math.sqrt(len(values))),
        }
    return row if distance is None else {**row, "lpips": float(np.mean(distance(images, truth)))}


def table(rows: list[dict[str, Any]]) -> str:
    """One table per case, a line per method."""
    parts = []
    for title in dict.fromkeys(row["case"] for row in rows):
        case = [row for row in rows if row["case"] == title]
        perceived = " | LPIPS" if "lpips" in case[0] else ""
        head = [f"{title}, n = {case[0]['n']}", "", f"| | PSNR (dB) | SSIM{perceived} | ms |"]
        lines = [*head, "|---" * (5 if perceived else 4) + "|"]
        for row in case:
            cells = [
                f"{row['psnr']:.2f} ± {row['psnr_error']:.2f}",
                f"{row['ssim']:.3f} ± {row['ssim_error']:.3f}",
            ]
            cells += [f"{row['lpips']:.3f}"] if perceived else []
            lines.append(f"| {row['method']} | {' | '.join(cells)} | {1000 * row['seconds']:.3g} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def compare(
    title: str, kind: Kind, changes: list[str], options: argparse.Namespace, priors: dict[str, Prior]
) -> list[dict[str, Any]]:
    """Train teacher and student of a corruption, restore held-out measurements, and return a row each.

    The teacher joins ``priors``, those of the cases before.
    """
    noisy = title == DENOISING
    study = kind.study(changes, options.out / ("noise" if noisy else "resolution"), tiny=options.tiny)
    study.prepare()
    study.train()
    study.distill()
    truth = kind.held_out(study, 8 if options.tiny else options.count)
    shape = (truth.shape[1], truth.shape[2], truth.shape[3])
    spec = {"name": "identity"} if noisy else LOW_RESOLUTION
    law = make_corruption(spec, shape, Noise(low=SIGMA if noisy else 0.0))
    data = law.measure(truth, seeds.seeded_rng(0, "image cases", title))
    teacher, student = (model.prior(shape, complex_valued=False) for model in (study.teacher, study.student))
    steps = 20 if options.tiny else 1000
    methods: dict[str, Method] = {"pseudo-inverse": pseudo_inverse}
    if noisy:
        strengths = np.geomspace(0.01, 0.5, 12)
        methods["Noise2Self, total variation"] = noise2self("denoise_tv_chambolle", {"weight": strengths})
        methods["Noise2Self, wavelets"] = noise2self("denoise_wavelet", {"sigma": strengths})
        if installed():
            store, length = study.store, 128 if options.tiny else options.noise2self_images
            learned = learn_noise2self(store.measurements(list(range(len(store)))).y, length)
            methods["Noise2Self, learned"] = lambda data: learned(data.y)
        methods["Tweedie teacher, posterior mean"] = posterior_mean(teacher)
    priors[title] = teacher
    for case, prior in priors.items():
        methods[f"moment matching, mean of {SAMPLES}, teacher of {case}"] = posterior_samples(
            prior, 5 if options.tiny else 30
        )
    methods |= latent(student, steps, 0.05 if noisy else 0.1)
    distance = perception(shape[1:], download=options.download)
    return [
        {"case": title, "method": name, **measure(data, truth, method, distance)}
        for name, method in methods.items()
        if not options.only or any(words in name for words in options.only)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", choices=SETS, default="digits")
    parser.add_argument("--out", type=Path, default=Path("runs/image-cases"))
    parser.add_argument("--count", type=whole, default=64, help="held-out images")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--noise2self-images", type=whole, default=64_000, help="seen by the learned one")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="rows with these words")
    parser.add_argument("--tiny", action="store_true", help="a trial in seconds")
    parser.add_argument("--download", action="store_true", help="fetch the weights of LPIPS")
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = {
        DENOISING: [f"data.images.noise={SIGMA}", "teacher.objective={name: tweedie}"],
        SHARPENING: [
            "data.images.operator={name: super-resolution, factor: 2}",
            "teacher.objective={name: standard}",
            "evaluate.sampler={name: heun, steps: 18}",
        ],
    }
    rows: list[dict[str, Any]] = []
    priors: dict[str, Prior] = {}
    for title, changes in cases.items():
        case = compare(title, SETS[options.images], [*changes, *options.changes], options, priors)
        rows += case
        print(f"\n{table(case)}", flush=True)
        if options.json:
            write_json(options.json, rows)


if __name__ == "__main__":
    one_line(main)
