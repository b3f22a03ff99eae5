"""The normal operator A^H A of radial and spiral MRI, and its gradient, beside four peers in one run.

    python -m benchmarks.non_cartesian --coils 16 --height 384 --width 320 --json non_cartesian.json

Ours is a convolution, and so are those of bartorch and torchkbnufft; MRI-NUFFT (FINUFFT) and sigpy
transform to the samples and back. The first call has a column of its own, with what a program prepares
once (a kernel, a plan, sorted points). In every round each program runs once; medians are shown. Programs
scale their transforms in different ways: the relative difference from ours is that of the best multiple.
All compute in single precision; MRI-NUFFT has its default tolerance of 1e-6. Peers that are not installed
have a row that says so (``pip install 'mrigen[bench]'``). ``--clock processor`` counts processor seconds,
for a machine that other programs use; with one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import replace

import sigpy.mri
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole
from benchmarks.devices import CLOCKS, absent, installed, timed
from benchmarks.normal import Normal, backward, race
from torch import Tensor

from mrigen.operators.corruption import make_corruption
from mrigen.operators.non_cartesian import NonCartesianMRI

CPU = torch.device("cpu")
PEERS = ("sigpy", "bartorch", "mrinufft", "torchkbnufft")


def problem(name: str, coils: int, height: int, width: int, arms: int) -> tuple[NonCartesianMRI, Tensor]:
    """One slice behind random coils, golden-angle spokes or interleaves, and an image."""
    rng = torch.Generator().manual_seed(0)
    spec = {"name": name, "arms": arms, "angles": "golden", "image": "complex"}
    operator = make_corruption(spec, (1, height, width)).draw(1, rng)
    assert isinstance(operator, NonCartesianMRI)
    maps = torch.randn(1, coils, height, width, dtype=torch.complex64, generator=rng)
    maps /= maps.abs().square().sum(1, keepdim=True).sqrt()
    image = torch.randn(1, 1, height, width, dtype=torch.complex64, generator=rng)
    return replace(operator, maps=maps), image


def with_sigpy(maps: Tensor, points: Tensor) -> Normal:
    linop = sigpy.mri.linop.Sense(maps.numpy(), coord=points.numpy())
    return lambda x: torch.from_numpy(linop.N(x[0, 0].numpy()))


def with_bartorch(maps: Tensor, points: Tensor) -> Normal:
    import bartorch

    bartorch.set_num_threads(torch.get_num_threads())
    trajectory = torch.cat([points.flip(-1), torch.zeros_like(points[..., :1])], -1)[None]  # columns first
    size = (maps.shape[-2], maps.shape[-1])
    gram = bartorch.linop.NoncartesianSense(maps, size, traj=trajectory.contiguous()).gram()
    return lambda x: gram(x[0, 0])


def with_mrinufft(maps: Tensor, points: Tensor) -> Normal:
    import mrinufft

    size = tuple(maps.shape[-2:])
    samples = (points / points.new_tensor(size)).numpy()
    make = mrinufft.get_operator("finufft", wrt_data=True)
    operator = make(samples, size, n_coils=len(maps), smaps=maps.numpy(), squeeze_dims=False)
    return lambda x: operator.adj_op(operator.op(x))


def with_torchkbnufft(maps: Tensor, points: Tensor) -> Normal:
    import torchkbnufft

    size = tuple(maps.shape[-2:])
    omega = (2 * torch.pi * points / points.new_tensor(size)).T.contiguous()
    kernel = torchkbnufft.calc_toeplitz_kernel(omega, size)
    product = torchkbnufft.ToepNufft()
    return lambda x: product(x, kernel, smaps=maps[None])


TRAJECTORIES = ("radial", "spiral")
MAKERS = {
    "sigpy": with_sigpy,
    "bartorch": with_bartorch,
    "mrinufft": with_mrinufft,
    "torchkbnufft": with_torchkbnufft,
}


def compare(
    operator: NonCartesianMRI, image: Tensor, rounds: int, clock: str = "wall", chosen: Sequence[str] = PEERS
) -> list[dict[str, object]]:
    """One row per program that is installed, ours last."""
    assert operator.maps is not None
    maps, points = operator.maps[0], operator.trajectory[0].flatten(0, 1)
    runs: dict[str, Normal] = {}
    first: dict[str, float] = {}
    for name in (n for n in chosen if installed(n)):
        first[name] = timed(lambda n=name: runs.update({n: MAKERS[n](maps, points)}), CPU, clock)
    runs["mrigen"] = operator.normal
    results: dict[str, Tensor] = {}
    for name, run in runs.items():  # the first call compiles, plans and, in ours, makes the kernel
        elapsed = timed(lambda n=name, f=run: results.update({n: f(image)}), CPU, clock)
        first[name] = first.get(name, 0.0) + elapsed
    median = race(runs, image, rounds, clock)
    gradients = race({n: backward(run) for n, run in runs.items() if n != "sigpy"}, image, rounds, clock)
    ours = results["mrigen"].flatten().to(torch.complex128)
    rows: list[dict[str, object]] = []
    for name in runs:
        theirs = results[name].flatten().to(torch.complex128)
        scaled = theirs * torch.vdot(theirs, ours).real / torch.vdot(theirs, theirs).real
        row: dict[str, object] = {
            "program": name,
            "milliseconds": 1e3 * median[name],
            "ratio": median[name] / median["mrigen"],
            "first_milliseconds": 1e3 * first[name],
            "difference": float((scaled - ours).norm() / ours.norm()),
        }
        if name in gradients:
            row["gradient_milliseconds"] = 1e3 * gradients[name]
            row["gradient_ratio"] = gradients[name] / gradients["mrigen"]
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--coils", type=whole, default=16)
    parser.add_argument("--height", type=whole, default=384)
    parser.add_argument("--width", type=whole, default=320)
    parser.add_argument("--arms", type=whole, default=96)
    parser.add_argument("--rounds", type=whole, default=5)
    parser.add_argument("--trajectories", nargs="+", choices=TRAJECTORIES, default=TRAJECTORIES)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {torch.get_num_threads()} threads, {arguments.clock} seconds")
    tables: dict[str, object] = {"clock": arguments.clock, "threads": torch.get_num_threads()}
    for name in arguments.trajectories:
        operator, image = problem(name, arguments.coils, arguments.height, arguments.width, arguments.arms)
        arms, samples = operator.trajectory.shape[1:3]
        size = f"{arguments.coils} x {arguments.height} x {arguments.width}"
        print(f"{name}: {size}, {arms} x {samples} samples")
        print(
            "| program | ms | compared with ours | gradient, ms | compared with ours | first call, ms "
            "| relative difference |"
        )
        print("|---" * 7 + "|")
        tables[name] = rows = compare(operator, image, arguments.rounds, arguments.clock, arguments.peers)
        for row in rows:
            gradient = row.get("gradient_milliseconds", math.nan), row.get("gradient_ratio", math.nan)
            print(
                f"| {row['program']} | {row['milliseconds']:.1f} | {row['ratio']:.2f} x "
                f"| {gradient[0]:.1f} | {gradient[1]:.2f} x "
                f"| {row['first_milliseconds']:.0f} | {row['difference']:.1e} |"
            )
        print("\n".join(absent(arguments.peers)), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    one_line(main)
