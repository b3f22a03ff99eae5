"""The normal operator A^H A of multi-coil MRI, and the gradient through it, beside five peers in one run.

    python -m benchmarks.normal --slices 2 --coils 16 --height 384 --width 320 --json normal.json

Phase-encode lines are sampled (R = 4), with ``--plane`` points; maps are random. In every round each
program runs once, so that all see the same load; medians are shown. ``torch`` is the textbook form: shift,
FFT, shift, mask and back.
Peers that are not installed have a row that says so (``pip install 'mrigen[bench]'``); sigpy and bartorch are
measured on the CPU only. ``--clock processor`` counts processor seconds, for a machine that other programs
use, and with one thread. ``--growth`` shows how the time grows with coils and matrix. The last line has our
Fourier transforms by themselves, on one tile that stays in the cache: what no product of this library can
fall below.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import platform
import statistics
from collections.abc import Callable

import numpy as np
import sigpy.mri
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole
from benchmarks.devices import CLOCKS, absent, device_name, installed, timed
from torch import Tensor

from mrigen.engine.launch import open_device
from mrigen.operators.mri import MultiCoilMRI

Normal = Callable[[Tensor], Tensor]
PLANE = (-2, -1)
CPU = torch.device("cpu")
PEERS = ("bartorch", "deepinv", "mrpro")
TRANSFORMS = "our transforms alone"


def problem(
    slices: int, coils: int, height: int, width: int, device: torch.device = CPU, *, plane: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, mask of phase-encode lines (slices, 1, 1, W) or of points in the plane, and an image."""
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(slices, coils, height, width, dtype=torch.complex64, generator=rng)
    maps /= maps.abs().square().sum(1, keepdim=True).sqrt()
    mask = torch.rand(slices, 1, height if plane else 1, width, generator=rng) < 0.25
    mask[..., width // 2 - 10 : width // 2 + 10] = True
    image = torch.randn(slices, 1, height, width, dtype=torch.complex64, generator=rng)
    return maps.to(device), mask.to(device), image.to(device)


def plain(maps: Tensor, mask: Tensor) -> Normal:
    def normal(x: Tensor) -> Tensor:
        k = torch.fft.fftshift(
            torch.fft.fft2(torch.fft.ifftshift(maps * x, dim=PLANE), norm="ortho"), dim=PLANE
        )
        y = torch.fft.fftshift(
            torch.fft.ifft2(torch.fft.ifftshift(k * mask, dim=PLANE), norm="ortho"), dim=PLANE
        )
        return (maps.conj() * y).sum(1, keepdim=True)

    return normal


def with_sigpy(maps: Tensor, mask: Tensor) -> Normal:
    shape = maps.shape[-2:]
    linops = [
        sigpy.mri.linop.Sense(m.numpy(), weights=np.broadcast_to(w.numpy(), shape).astype(np.float32))
        for m, w in zip(maps, mask[:, 0], strict=True)
    ]
    normals = [linop.N for linop in linops]
    return lambda x: torch.stack(
        [torch.from_numpy(n(i[0].numpy())) for n, i in zip(normals, x, strict=True)]
    )[:, None]


def with_deepinv(maps: Tensor, mask: Tensor) -> Normal:
    from deepinv.physics import MultiCoilMRI as Peer

    full = mask.float().expand(-1, 1, *maps.shape[-2:])
    physics = Peer(mask=full, coil_maps=maps, img_size=tuple(maps.shape[-2:]), device=maps.device)

    def normal(x: Tensor) -> Tensor:
        channels = torch.view_as_real(x[:, 0]).permute(0, 3, 1, 2)
        out = physics.A_adjoint_A(channels)
        return torch.view_as_complex(out.permute(0, 2, 3, 1).contiguous())[:, None]

    return normal


def with_mrpro(maps: Tensor, mask: Tensor) -> Normal:
    from mrpro.operators import CartesianMaskingOp, FastFourierOp, SensitivityOp

    acquisition = (
        CartesianMaskingOp(mask[:, :, None].expand(-1, 1, 1, *maps.shape[-2:]).float())
        @ FastFourierOp(dim=PLANE)
        @ SensitivityOp(maps[:, :, None])
    )
    gram = acquisition.gram
    return lambda x: gram(x[:, :, None])[0][:, :, 0]


def with_bartorch(maps: Tensor, mask: Tensor) -> Normal:
    import bartorch

    bartorch.set_num_threads(torch.get_num_threads())
    grams = [
        bartorch.linop.CartesianSense(m, tuple(m.shape[-2:]), pattern=w.float()).gram()
        for m, w in zip(maps, mask[:, 0], strict=True)
    ]
    return lambda x: torch.stack([gram(i[0]) for gram, i in zip(grams, x, strict=True)])[:, None]


def programs(maps: Tensor, mask: Tensor) -> dict[str, Normal]:
    """Every program that is installed and can use the device of the maps, ours last."""
    normals: dict[str, Normal] = {"torch": plain(maps, mask)}
    if maps.device == CPU:
        normals["sigpy"] = with_sigpy(maps, mask)
        if installed("bartorch"):
            normals["bartorch"] = with_bartorch(maps, mask)
    for name, make in (("deepinv", with_deepinv), ("mrpro", with_mrpro)):
        if installed(name):
            normals[name] = make(maps, mask)
    return {**normals, "mrigen": MultiCoilMRI(maps, mask).normal}


def transforms(maps: Tensor, *, plane: bool) -> Normal:
    """As many Fourier transforms as the product has; on a CPU of one tile that is not left."""
    tile = maps
    if maps.device == CPU:
        tile = (maps[:1, :1] if plane else maps[:1, :, :12]).contiguous()
    axes, count = PLANE if plane else (-1,), maps.numel() // tile.numel()

    def run(x: Tensor) -> Tensor:
        for _ in range(2 * count):
            torch.fft.fftn(tile, dim=axes)
        return x

    return run


def backward(normal: Normal) -> Normal:
    """Gradient of ‖A^H A x‖² / 2 with respect to x."""

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(normal(x).abs().square().sum() / 2, x)[0]

    return gradient


def race(runs: dict[str, Normal], image: Tensor, rounds: int, clock: str = "wall") -> dict[str, float]:
    """Median seconds of every program."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            elapsed = timed(functools.partial(run, image), image.device, clock)
            if round_:  # the first round sets up plans and threads
                seconds[name].append(elapsed)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(
    shape: tuple[int, int, int, int],
    rounds: int,
    device: torch.device = CPU,
    *,
    plane: bool = False,
    clock: str = "wall",
) -> list[dict[str, object]]:
    """One row per program: agreement with ours, milliseconds and ratios, forward and gradient; then the
    transforms alone.
    """
    maps, mask, image = problem(*shape, device, plane=plane)
    runs = programs(maps, mask)
    ours = runs["mrigen"](image)
    forward = race({**runs, TRANSFORMS: transforms(maps, plane=plane)}, image, rounds, clock)
    gradients = race({n: backward(run) for n, run in runs.items() if n != "sigpy"}, image, rounds, clock)
    rows: list[dict[str, object]] = []
    for name, run in runs.items():
        difference = torch.linalg.vector_norm(run(image) - ours) / torch.linalg.vector_norm(ours)
        row = {"program": name, "milliseconds": 1e3 * forward[name]}
        row |= {"ratio": forward[name] / forward["mrigen"], "difference": float(difference)}
        if name in gradients:
            row |= {"gradient_milliseconds": 1e3 * gradients[name]}
            row |= {"gradient_ratio": gradients[name] / gradients["mrigen"]}
        rows.append(row)
    floor = forward[TRANSFORMS]
    rows.append({"program": TRANSFORMS, "milliseconds": 1e3 * floor, "ratio": floor / forward["mrigen"]})
    return rows


def growth(rounds: int, device: torch.device = CPU) -> dict[str, float]:
    """Exponents of time against coils and against the side of the matrix."""
    exponents = {}
    for name, shapes in {
        "coils": [(1, c, 256, 256) for c in (4, 8, 16, 32)],
        "side": [(1, 8, n, n) for n in (128, 256, 512)],
    }.items():
        times = []
        for shape in shapes:
            maps, mask, image = problem(*shape, device)
            times.append(race({"mrigen": MultiCoilMRI(maps, mask).normal}, image, rounds)["mrigen"])
        sizes = [shape[1] if name == "coils" else shape[2] for shape in shapes]
        exponents[name] = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
    return exponents


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=whole, default=2)
    parser.add_argument("--coils", type=whole, default=16)
    parser.add_argument("--height", type=whole, default=384)
    parser.add_argument("--width", type=whole, default=320)
    parser.add_argument("--plane", action="store_true", help="sample points in the plane instead of lines")
    parser.add_argument("--rounds", type=whole, default=11)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    device = open_device(arguments.device).device
    shape = (arguments.slices, arguments.coils, arguments.height, arguments.width)
    rows = compare(shape, arguments.rounds, device, plane=arguments.plane, clock=arguments.clock)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads")
    if device != CPU:
        print(f"{device_name(device)}; sigpy and bartorch are left out: they are measured on the CPU")
    print("| program | ms | compared with ours | gradient, ms | compared with ours | relative difference |")
    print("|---" * 6 + "|")
    for row in rows:
        gradient = row.get("gradient_milliseconds", math.nan), row.get("gradient_ratio", math.nan)
        print(
            f"| {row['program']} | {row['milliseconds']:.1f} | {row['ratio']:.2f} x "
            f"| {gradient[0]:.1f} | {gradient[1]:.2f} x | {row.get('difference', math.nan):.1e} |"
        )
    print("\n".join(absent(PEERS)))
    numbers: dict[str, object] = {"rows": rows, "clock": arguments.clock}
    if arguments.growth:
        numbers["growth"] = growth(arguments.rounds, device)
        print("time grows as " + ", ".join(f"{n}^{e:.2f}" for n, e in numbers["growth"].items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    one_line(main)
