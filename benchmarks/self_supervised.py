"""Reconstruction networks trained without references, beside priors of the same data: SSDU, EI, mrigen.

    python -m benchmarks.self_supervised --scenario multi-coil --work runs/self-supervised

Three of the four scenarios of SSIBench (Wang et al. 2025, arXiv 2502.14009) on painted heads of 32 x 32 at
R = 4: a single coil, a single coil with five times the noise, and four coils. (Its other scenario is one mask
for all scans, of which masks that drop further lines learn nothing.) Peers are deepinv's losses on one
network, MoDL of three cascades with a small U-Net: weighted SSDU (Millard and Chiew 2023), multi-operator
equivariant imaging with rotations (MO-EI), where there is more noise their robust forms (Robust-SSDU, and
SURE in place of the measurement's error), and the supervised loss as the upper bound. They have the training
data of mrigen's teacher and its lap and as many processor seconds, over which the learning rate falls to
zero. Each peer has the best of three learning rates, by the PSNR of tune heads after a sixth of that time,
which is not counted; mrigen's priors and solvers have their defaults. PSNR and SSIM of magnitudes of unseen
heads, slice by slice, with standard errors; networks learn on one core.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole
from benchmarks.deepinv_peers import installed
from benchmarks.heads import (
    COLIN,
    HEADS,
    PARTS,
    PLACES,
    SMOKE,
    Case,
    Plan,
    acs_lines,
    keep_row,
    known_rows,
    taken,
)
from benchmarks.reconstruction import BASELINES
from torch import Tensor

from mrigen import recipe as recipes
from mrigen import seeds
from mrigen.data.stores import open_store
from mrigen.engine.sampling import chunks
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Task
from mrigen.metrics.reconstruction import volume_errors
from mrigen.model import Model
from mrigen.operators import Measurements
from mrigen.operators.mri import MultiCoilMRI
from mrigen.recipe.study import Study
from mrigen.tensors import evenly_spaced

SCENARIOS = {
    "single-coil": ["data.simulate.coils=1"],
    "noisy": ["data.simulate.coils=1", "data.simulate.snr=10"],
    "multi-coil": [],
}
ROBUST = ("noisy",)
SSDU, EI, SUPERVISED = "weighted SSDU", "MO-EI", "supervised (upper bound)"
PEERS = (SSDU, EI, SUPERVISED)
RATES = (1e-3, 3e-3, 1e-2)
TRIAL = 1 / 6
BATCH = 4
LEARNED = {
    "mrigen, one step": ("teacher", "ambient-one-step:spread=0.05", 1),
    "mrigen, plug-and-play": ("lap", "pnp", 1),
    "mrigen, moment matching, mean of 4": ("lap", "mmps:steps=10", 4),
}
CLASSICAL = {name: BASELINES[name] for name in ("zero-filled", "CG-SENSE", "l1-wavelet", "total variation")}
NETWORK = "MoDL, 3 x U-Net 16-32-64"


@dataclass(frozen=True, eq=False)
class Slices:
    """Measurements of a part of the data and their references.

    Attributes:
        data: y, maps, masks and σ.
        truth: complex images (n, 1, H, W).
    """

    data: Measurements
    truth: Tensor

    @classmethod
    def of(cls, case: Case, part: str, count: int | None) -> Slices:
        """So many slices of a part, evenly spaced; None for all."""
        store = open_store(case.store(part), part)
        chosen = evenly_spaced(len(store), min(count or len(store), len(store)))
        data = store.measurements(chosen)
        sigma = store.noise_levels(chosen)
        return cls(Measurements(data.y, data.operator, sigma), case.references(part)[chosen])

    def __len__(self) -> int:
        return len(self.truth)

    def operator(self, rows: list[int]) -> MultiCoilMRI:
        """The operator of some slices."""
        whole_one = self.data.operator
        assert isinstance(whole_one, MultiCoilMRI)
        return MultiCoilMRI(whole_one.maps[rows], whole_one.mask[rows])


def quality(images: Tensor, truth: Tensor) -> dict[str, Any]:
    """Mean PSNR and SSIM of slices, and their standard errors."""
    errors = [volume_errors(one, other) for one, other in zip(images, truth, strict=True)]
    row: dict[str, Any] = {"slices": len(errors)}
    for metric in ("psnr", "ssim"):
        values = np.array([getattr(error, metric) for error in errors])
        row[metric] = float(values.mean())
        row[f"{metric}_error"] = float(values.std(ddof=min(1, len(values) - 1)) / math.sqrt(len(values)))
    return row


def as_channels(x: Tensor) -> Tensor:
    """Complex (B, N, H, W) as real (B, 2, N, H, W)."""
    return torch.view_as_real(x).moveaxis(-1, 1).contiguous()


def physics_of(operator: MultiCoilMRI, sigma: float) -> Any:
    """The operator of the same maps and masks as deepinv has it, and its noise."""
    from deepinv.physics import GaussianNoise
    from deepinv.physics import MultiCoilMRI as Physics

    size = operator.maps.shape[-2:]
    mask = operator.mask.expand(len(operator.maps), 2, *size).float()
    noise = GaussianNoise(sigma)
    physics = Physics(mask=mask, coil_maps=operator.maps, img_size=(2, *size), noise_model=noise)
    physics.max_iter = 4  # of AᴴA + I, whose condition number is at most 2
    return physics


def solve(words: str, slices: Slices, model: Model | None = None, samples: int = 1) -> Tensor:
    """Images (n, 1, H, W), or means of samples, by one of mrigen's solvers."""
    solver = SOLVERS.build(SOLVERS.parse(words))
    prior = None if model is None else model.copy().prior(differentiated=solver.differentiates)
    total = torch.zeros_like(slices.truth)
    for sample in range(samples):
        keys = [seeds.key(0, "self-supervised", index, sample) for index in range(len(slices))]
        total += solver.solve(Task(slices.data, keys, prior)).image
    return total / samples


class Peer:
    """A network trained with one of deepinv's losses.

    Args:
        name: of the loss.
        acceleration: R of the masks.
        size: (H, W).
        sigma: noise level that robust losses are given; None for the plain ones.
    """

    def __init__(self, name: str, acceleration: float, size: tuple[int, int], sigma: float | None) -> None:
        from deepinv import loss as losses
        from deepinv.loss.mri import RobustSplittingLoss, WeightedSplittingLoss
        from deepinv.models import MoDL, UNet
        from deepinv.physics import GaussianNoise
        from deepinv.physics.generator import MultiplicativeSplittingMaskGenerator, RandomMaskGenerator
        from deepinv.transform import Rotate

        rng = torch.Generator().manual_seed(0)
        shape, centre = (2, *size), acs_lines(acceleration, size[1]) / size[1]
        masks = RandomMaskGenerator(shape, acceleration=acceleration, center_fraction=centre, rng=rng)
        network = MoDL(UNet(2, 2, channels_per_scale=[16, 32, 64], batch_norm=False), num_iter=3)
        if name == SUPERVISED:
            self.losses = [losses.SupLoss()]
        elif name == EI:
            own = losses.MCLoss() if sigma is None else losses.SureGaussianLoss(sigma)
            self.losses = [
                own,
                losses.MOEILoss(Rotate(), physics_generator=masks, apply_noise=sigma is not None),
            ]
        else:
            half = RandomMaskGenerator(shape, acceleration=2, center_fraction=centre, rng=rng)
            split = MultiplicativeSplittingMaskGenerator(shape, half)
            if sigma is None:
                self.losses = [WeightedSplittingLoss(split, masks)]
            else:
                self.losses = [RobustSplittingLoss(split, masks, noise_model=GaussianNoise(sigma))]
        self.model = self.losses[0].adapt_model(network)
        self.sigma = sigma or 0.0

    def train(self, slices: Slices, rate: float, seconds: float) -> int:
        """Adam for so long, at least one step, its rate falling to zero; the number of images seen."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)
        order = torch.Generator().manual_seed(0)
        self.model.train()
        start, seen, part = time.process_time(), 0, 0.0
        while part < 1:
            optimizer.param_groups[0]["lr"] = rate * (1 - part)
            rows = torch.randint(len(slices), (BATCH,), generator=order).tolist()
            physics = physics_of(slices.operator(rows), self.sigma)
            y = as_channels(slices.data.y[rows])
            x = as_channels(slices.truth[rows])[:, :, 0]
            estimate = self._call(y, physics)
            terms = [
                loss(x=x, x_net=estimate, y=y, physics=physics, model=self.model) for loss in self.losses
            ]
            total = torch.stack([term.mean() for term in terms]).sum()
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            seen += BATCH
            part = (time.process_time() - start) / seconds
        return seen

    def _call(self, y: Tensor, physics: Any) -> Tensor:
        """The estimate; networks of split measurements keep the masks that they have drawn."""
        splits = hasattr(self.model, "get_masks")
        estimate: Tensor = (
            self.model(y, physics, update_parameters=True) if splits else self.model(y, physics)
        )
        return estimate

    @torch.no_grad()
    def restore(self, slices: Slices) -> Tensor:
        """Complex images (n, 1, H, W)."""
        self.model.eval()
        images = []
        for rows in chunks(list(range(len(slices))), 16):
            physics = physics_of(slices.operator(rows), self.sigma)
            image = self.model(as_channels(slices.data.y[rows]), physics)
            images.append(torch.view_as_complex(image.moveaxis(1, -1).contiguous())[:, None])
        return torch.cat(images)


class Scenario:
    """Data, priors and rows of one scenario.

    Args:
        name: of SSIBench.
        case: data and seed.
        count: test slices.
    """

    def __init__(self, name: str, case: Case, count: int) -> None:
        self.name, self.case = name, case
        self.tune = Slices.of(case, "tune", 16)
        self.test = Slices.of(case, "test", count)

    @property
    def names(self) -> list[str]:
        """The rows."""
        return [*CLASSICAL, *LEARNED, *(PEERS if installed() else ())]

    def study(self) -> Study:
        """The study of teacher and lap, trained; what that took is the time of every peer."""
        self.case.teach()
        return self.case.work.base

    def row(self, name: str) -> dict[str, Any]:
        """A finished row."""
        if name in CLASSICAL:
            words = max(CLASSICAL[name], key=lambda w: quality(solve(w, self.tune), self.tune.truth)["psnr"])
            start = time.process_time()
            images = solve(words, self.test)
            took = (time.process_time() - start) / len(self.test)
            return {"setting": words, "seconds_per_slice": took, **quality(images, self.test.truth)}
        study = self.study()
        seconds = taken(self.case.out / "teacher-seconds.json")
        if name in LEARNED:
            role, words, samples = LEARNED[name]
            model = study.teacher if role == "teacher" else study.best_teacher
            start = time.process_time()
            images = solve(words, self.test, model, samples)
            took = (time.process_time() - start) / len(self.test)
            row = {"setting": words, "seconds": seconds, "seconds_per_slice": took}
            size = sum(p.numel() for p in model.denoiser.parameters())
            return {**row, "parameters": size, **quality(images, self.test.truth)}
        return self.trained(name, seconds)

    def trained(self, name: str, seconds: float) -> dict[str, Any]:
        """A peer with the best of three learning rates."""
        sigma = float(self.tune.data.sigma.mean()) if self.name in ROBUST else None
        size = (self.test.truth.shape[-2], self.test.truth.shape[-1])
        train = Slices.of(self.case, "train", None)

        def fresh() -> Peer:
            torch.manual_seed(seeds.key(self.case.seed, "peer", name) % 2**31)
            return Peer(name, self.case.acceleration, size, sigma)

        trials = {}
        for rate in RATES:
            peer = fresh()
            peer.train(train, rate, seconds * TRIAL)
            trials[rate] = quality(peer.restore(self.tune), self.tune.truth)["psnr"]
        best = max(trials, key=lambda rate: trials[rate])
        peer = fresh()
        seen = peer.train(train, best, seconds)
        start = time.process_time()
        images = peer.restore(self.test)
        took = (time.process_time() - start) / len(self.test)
        return {
            "setting": f"rate {best:g}",
            "trials": {f"{rate:g}": value for rate, value in trials.items()},
            "seconds": seconds,
            "seconds_per_slice": took,
            "images": seen,
            "parameters": sum(p.numel() for p in peer.model.parameters()),
            **quality(images, self.test.truth),
        }


def shortened(recipe: str, changes: list[str], images: int) -> list[str]:
    """The recipe's teacher and lap with so many images together, their schedules in proportion."""
    own = recipes.load(recipe, changes)
    if own.laps is None:
        raise UsageError(f"--recipe {recipe}: has no laps; give one like demo/brain")
    scale = images / (own.teacher.images + own.laps.images)
    settings = []
    for section, run in (("teacher", own.teacher), ("laps", own.laps)):
        settings += [
            f"{section}.images={max(1, round(scale * run.images))}",
            f"{section}.optimizer.ramp_images={round(scale * run.optimizer.ramp_images)}",
            f"{section}.ema_halflife={max(1.0, scale * run.ema_halflife)}",
        ]
    return settings


def table(rows: list[dict[str, Any]]) -> str:
    """Methods down, scenarios across: PSNR and SSIM, with what was chosen and what a slice takes."""
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    head = " | ".join(f"{name}, PSNR (dB) / SSIM | chosen" for name in scenarios)
    lines = [f"| | {head} | parameters | ms a slice |", "|---" * (2 * len(scenarios) + 3) + "|"]
    for name in dict.fromkeys(row["row"] for row in rows):
        own = {row["scenario"]: row for row in rows if row["row"] == name}
        cells = [cell for scenario in scenarios for cell in cells_of(own.get(scenario))]
        first = next(iter(own.values()))
        size = f"{first['parameters']:,}" if "parameters" in first else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {size} | {1000 * first['seconds_per_slice']:.3g} |")
    seconds = {row["scenario"]: row["seconds"] for row in rows if "seconds" in row}
    budgets = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    return "\n".join([*lines, "", f"Training of each learned row: {budgets}."])


def cells_of(row: dict[str, Any] | None) -> list[str]:
    """Quality and setting of a row, empty where there is none."""
    return ["", ""] if row is None else [line_of(row), row["setting"].partition(":")[2] or row["setting"]]


def line_of(row: dict[str, Any]) -> str:
    """PSNR and SSIM with the standard error of the first."""
    return f"{row['psnr']:.2f} ± {row['psnr_error']:.2f} / {row['ssim']:.3f}"


def plan_of(arguments: argparse.Namespace, scenario: str) -> Plan | None:
    """Data and models of a scenario; None where the heads are not there."""
    heads: Path | None = arguments.heads or next((place for place in PLACES if place.is_dir()), None)
    if heads is None:
        return None
    heads = None if str(heads) == COLIN else heads
    volumes, size = arguments.volumes, 32
    changes = [*([] if heads is None else HEADS), *SCENARIOS[scenario]]
    if arguments.smoke:
        volumes, size = [3, 2, 2], 16
        changes = [*SMOKE, *changes]
    changes += [f"data.simulate.matrix=[{size}, {size}]", *arguments.changes]
    if not arguments.smoke:
        changes += ["laps.samples=16", *shortened("demo/brain", changes, arguments.images)]
    return Plan(
        recipe="demo/brain",
        changes=changes,
        heads=heads,
        selections={"train": "1-14", "tune": "15-17", "test": "18-20"},
        contrasts=["t1", "t2"],
        volumes=dict(zip(PARTS, volumes, strict=True)),
        counts=[1],
        stops=[],
        solver="zero-filled",
        l1_images=None,
        work=arguments.work / scenario,
        device="cpu",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=["multi-coil"])
    parser.add_argument("--heads", type=Path, metavar="PATH", help=f"folder of label maps, or {COLIN}")
    parser.add_argument(
        "--volumes", type=whole, nargs=3, default=[56, 12, 12], metavar=("TRAIN", "TUNE", "TEST")
    )
    parser.add_argument("--acceleration", type=float, default=4, metavar="R")
    parser.add_argument("--images", type=whole, default=8000, help="of mrigen's teacher and lap")
    parser.add_argument("--slices", type=whole, default=64, help="test slices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/self-supervised"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="rows with these words")
    parser.add_argument("--json", type=new_file, help="rows, one a line")
    parser.add_argument("--smoke", action="store_true", help="everything at its smallest, 16 x 16")
    arguments = parser.parse_args()
    plans = {name: plan_of(arguments, name) for name in arguments.scenario}
    if any(plan is None for plan in plans.values()):
        print("self_supervised: skipped, for there are no label maps; give --heads PATH or --heads colin")
        return
    if not installed():
        print("no SSDU, EI and supervised network: pip install deepinv")
    path = arguments.json or arguments.work / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("acceleration", "volumes", "images", "slices", "seed", "changes", "smoke")
    settings = {key: getattr(arguments, key) for key in keys}
    rows = known_rows(path, settings)
    done = {(row["scenario"], row["row"]) for row in rows}
    for name, plan in plans.items():
        assert plan is not None
        scenario = Scenario(name, Case(plan, arguments.acceleration, arguments.seed), arguments.slices)
        for method in scenario.names:
            chosen = not arguments.only or any(words in method for words in arguments.only)
            if (name, method) not in done and chosen:
                row = {"scenario": name, "row": method, **scenario.row(method), "settings": settings}
                rows.append(row)
                print(f"{name}: {method}: {line_of(row)}", flush=True)
                keep_row(path, row)
    print(table(rows))


if __name__ == "__main__":
    one_line(main)
