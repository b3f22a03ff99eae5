"""Missing pixels restored in one step, beside samplers that need many (Ambient Diffusion, tables 1 and 3).

    python -m benchmarks.restoration --out runs/restoration --json restoration.json
    python -m benchmarks.restoration --images photographs --out runs/restoration-photographs

Two teachers, by the project's own recipes: an ambient one, which saw images with 60 % of their pixels
missing and nothing else, and one of clean images, which the paper gives to its baselines. Held-out images
lose more and fewer pixels than that, without noise and with σ = 0.05 (images in [-1, 1]). The ambient teacher
restores them by E[x | Ãx_t, Ã], one network evaluation; DPS, and DDRM and DiffPIR of deepinv where that is
installed, run with both teachers, the ambient one being told that it sees everything. ``--images digits``
(8 x 8, an MLP) is the default; ``photographs`` are 32 x 32 grey patches of seven photographs that
scikit-learn and scikit-image ship. ``--tiny`` is a trial in seconds. The same command continues what was
interrupted.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole
from benchmarks.deepinv_peers import PEERS, installed
from benchmarks.perception import Distance, perception
from benchmarks.pictures import SETS, Kind
from torch import Tensor, nn

from mrigen import seeds
from mrigen.files import write_json
from mrigen.inverse import SOLVERS, Task, TeacherPrior
from mrigen.metrics.reconstruction import image_errors
from mrigen.operators import Measurements
from mrigen.operators.inpainting import PixelMask

MISSING = (0.4, 0.6, 0.8, 0.9)
NOISE = (0.0, 0.05)
TRAINED = {
    "ambient": ["data.images.operator={name: inpainting, missing: 0.6}", "teacher.objective={name: ambient}"],
    "clean": ["data.images.operator={name: identity}", "teacher.objective={name: standard}"],
}


class Counted(nn.Module):
    """A denoiser that counts the images it is given.

    Args:
        denoiser: the network.
    """

    def __init__(self, denoiser: Any) -> None:
        super().__init__()
        self.denoiser, self.images = denoiser, 0

    def forward(self, x: Tensor, *arguments: Any) -> Tensor:
        """The denoiser's estimate."""
        self.images += len(x)
        estimate: Tensor = self.denoiser(x, *arguments)
        return estimate


@dataclass(frozen=True, eq=False)
class Case:
    """Held-out images of which pixels are missing.

    Attributes:
        truth: (n, C, H, W) in [-1, 1].
        data: what is left of them.
    """

    truth: Tensor
    data: Measurements

    @classmethod
    def draw(cls, truth: Tensor, missing: float, sigma: float) -> Case:
        """Every image has a mask of its own; masks and noise belong to p alone."""
        random = seeds.seeded_rng(0, "restoration", f"{missing:g}")
        mask = torch.rand(len(truth), 1, *truth.shape[-2:], generator=random) >= missing
        operator = PixelMask(mask, truth.shape[1])
        level = torch.full((len(truth),), sigma)
        clean = operator.forward(truth)
        return cls(truth, Measurements(clean + operator.noise(clean, level, random), operator, level))


def solver(words: str, prior: TeacherPrior | None) -> Callable[[Case], Tensor]:
    """One of mrigen's solvers as a function of a case."""
    chosen = SOLVERS.build(SOLVERS.parse(words))
    return lambda case: chosen.solve(Task(case.data, list(range(len(case.truth))), prior)).image


def peer(name: str, denoiser: nn.Module, steps: int) -> Callable[[Case], Tensor]:
    """One of deepinv's as a function of a case."""
    restore = PEERS[name]

    def run(case: Case) -> Tensor:
        sigma = float(case.data.sigma[0])
        operator = case.data.operator
        assert isinstance(operator, PixelMask)
        return restore(denoiser, case.data.y, operator.mask, sigma, steps)

    return run


def methods(
    priors: dict[str, TeacherPrior], steps: int
) -> dict[str, tuple[Callable[[Case], Tensor], Counted]]:
    """Every row's method and the network that it calls, whose priors are told to count."""
    rows = {}
    for name, prior in priors.items():
        network = Counted(prior.denoiser)
        prior.denoiser = network
        if prior.objective.conditions_on_mask:
            rows[f"{name} one-step"] = (solver("ambient-one-step", prior), network)
        rows[f"DPS, {name} teacher"] = (solver(f"dps:steps={steps}", prior), network)
        for other in PEERS if installed() else ():
            rows[f"{other}, {name} teacher"] = (peer(other, network, steps), network)
    return rows


def measure(
    case: Case, run: Callable[[Case], Tensor], network: Counted, distance: Distance | None
) -> dict[str, Any]:
    """Mean PSNR with its standard error, mean LPIPS, evaluations and seconds of an image."""
    before, start = network.images, time.perf_counter()
    images = run(case)
    count, seconds = len(case.truth), time.perf_counter() - start
    psnr = np.array([errors.psnr for errors in image_errors(images, case.truth)])
    row = {
        "psnr": float(psnr.mean()),
        "psnr_error": float(psnr.std(ddof=1) / math.sqrt(count)),
        "evaluations": (network.images - before) / count,
        "seconds": seconds / count,
    }
    return row if distance is None else {**row, "lpips": float(np.mean(distance(images, case.truth)))}


def table(rows: list[dict[str, Any]]) -> str:
    """Methods down, missing pixels across; PSNR and, where there is one, LPIPS."""
    rates = sorted({row["missing"] for row in rows})
    head = " | ".join(f"p = {rate:g}" for rate in rates)
    lines = [f"| | {head} | evaluations | ms |", "|---" * (len(rates) + 3) + "|"]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = {row["missing"]: row for row in rows if row["method"] == name}
        cells = [f"{own[r]['psnr']:.2f} ± {own[r]['psnr_error']:.2f}" for r in rates]
        if "lpips" in own[rates[0]]:
            cells = [f"{cell} / {own[r]['lpips']:.3f}" for cell, r in zip(cells, rates, strict=True)]
        first = own[rates[0]]
        cost = f"{first['evaluations']:.0f} | {1000 * first['seconds']:.3g}"
        lines.append(f"| {name} | {' | '.join(cells)} | {cost} |")
    return "\n".join(lines)


def restore(kind: Kind, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train both teachers, restore the held-out images, and return a row for each method and case."""
    studies = {n: kind.study(TRAINED[n], options.out / n, tiny=options.tiny) for n in options.teachers}
    for study in studies.values():
        study.prepare()
        study.train()
    truth = kind.held_out(studies[options.teachers[0]], 8 if options.tiny else options.count)
    shape = (truth.shape[1], truth.shape[2], truth.shape[3])
    priors = {}
    for name, study in studies.items():
        prior = study.teacher.prior(shape, complex_valued=False)
        assert isinstance(prior, TeacherPrior)
        priors[name] = prior
    distance = perception(shape[1:], download=options.download)
    compared = methods(priors, 5 if options.tiny else options.steps)
    rows = []
    for sigma in NOISE:
        for missing in MISSING:
            case = Case.draw(truth, missing, sigma)
            for name, (run, network) in compared.items():
                errors = measure(case, run, network, distance)
                rows.append({"method": name, "missing": missing, "sigma": sigma, "n": len(truth), **errors})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", choices=SETS, default="digits")
    parser.add_argument("--out", type=Path, default=Path("runs/restoration"))
    parser.add_argument("--count", type=whole, default=64, help="held-out images")
    parser.add_argument("--steps", type=whole, default=100, help="noise levels of DPS, DDRM and DiffPIR")
    parser.add_argument("--teachers", nargs="+", choices=TRAINED, default=list(TRAINED))
    parser.add_argument("--tiny", action="store_true", help="a trial in seconds")
    parser.add_argument("--download", action="store_true", help="fetch the weights of LPIPS")
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = restore(SETS[options.images], options)
    if not installed():
        print("no DDRM and DiffPIR: pip install deepinv")
    for sigma in NOISE:
        print(f"\nσ = {sigma:g}, {rows[0]['n']} images, PSNR in dB\n")
        print(table([row for row in rows if row["sigma"] == sigma]))
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    one_line(main)
