"""ESPIRiT beside sigpy, BART, bartorch and espirit, on simulated slices in one run: time, agreement, memory.

    python -m benchmarks.espirit --coils 16 --height 384 --width 320 --json espirit.json
    python -m benchmarks.espirit --device cuda --slices 64

A slice is the bundled head under birdcage coils with a little noise; ``--slices`` of them are one batch for
ours. In every round each program runs once, so that all see the same load of the machine; medians are shown.
The peers run with their default parameters (bartorch and espirit have those of BART), and agreement is that
with ours at the same ones; BART starts and reads and writes its files within its time. Peers that are not
installed have a row that says so (``pip install 'mrigen[bench]'``); on a GPU only espirit stands beside ours.
``--profile`` shows where our time goes on a CPU, ``--growth`` how it grows with coils and matrix.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import json
import math
import multiprocessing
import os
import platform
import pstats
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import sigpy
import sigpy.mri
import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole
from benchmarks.devices import absent, device_name, installed, timed, wait
from scipy import ndimage
from torch import Tensor

from mrigen import fourier
from mrigen.coils.espirit import espirit
from mrigen.engine.launch import open_device
from mrigen.prep.simulate.anatomy import bundled

CPU = torch.device("cpu")
PEERS = ("sigpy", "bart", "bartorch", "espirit")
SIGPY = {"thresh": 0.02, "crop": 0.95}
BART = {"thresh": math.sqrt(0.001), "crop": 0.8}  # BART compares squared singular values with 0.001
FUNCTIONS = {
    "pixel_samples": "calibration matrix, its singular vectors, G at (2K-1)² angles",
    "_dominant": "  of which eigenvectors of the calibration matrix",
    "_coarse": "eigenvectors on the coarse grid",
    "_interpolate": "interpolation, along y (in the line above) and x",
    "multiply": "product with G at every pixel",
    "_ritz": "norms, eigenvalues, misfit, phase",
    "points": "G at pixels that are solved exactly",
    "leading_eigenvectors": "exact eigenvectors (coarse grid and single pixels)",
}


def simulate(coils: int, height: int, width: int, seed: int = 0) -> Tensor:
    """k-space, complex64 (coils, H, W), of an axial slice that fills 85 % of the field of view."""
    volume = bundled().volume
    plane = volume[:, :, volume.shape[2] // 2].T
    head = ndimage.zoom(plane, (0.85 * height / plane.shape[0], 0.85 * width / plane.shape[1]), order=1)
    image = torch.from_numpy(sigpy.resize(head.astype(np.complex64), (height, width)))
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((coils, height, width)).astype(np.complex64))
    noise = torch.randn(maps.shape, dtype=maps.dtype, generator=torch.Generator().manual_seed(seed))
    return fourier.fft(maps * image + 0.005 * noise)


def run_sigpy(kspace: Tensor) -> Tensor:
    """Maps of one slice by sigpy."""
    return torch.from_numpy(sigpy.mri.app.EspiritCalib(kspace.numpy(), show_pbar=False).run())


def run_bart(kspace: Tensor, threads: int, folder: Path) -> Tensor:
    """``bart ecalib -m1`` of one slice, through its pairs of .hdr and .cfl files."""
    coils, height, width = kspace.shape
    (folder / "kspace.hdr").write_text(f"# Dimensions\n{height} {width} 1 {coils}\n")
    kspace.permute(0, 2, 1).contiguous().numpy().tofile(folder / "kspace.cfl")
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = ["bart", "ecalib", "-m1", "-r24", "-k6", str(folder / "kspace"), str(folder / "maps")]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    maps = np.fromfile(folder / "maps.cfl", dtype=np.complex64).reshape(coils, width, height)
    return torch.from_numpy(maps).permute(0, 2, 1)


def peers(
    kspace: Tensor, threads: int, chosen: Sequence[str], folder: Path
) -> dict[str, Callable[[], Tensor]]:
    """The chosen peers that are installed, slice by slice; all but espirit on a CPU only."""
    maps: dict[str, Callable[[Tensor], Tensor]] = {}
    on_cpu = [name for name in chosen if kspace.device == CPU]
    if "sigpy" in on_cpu:
        maps["sigpy"] = run_sigpy
    if "bart" in on_cpu and shutil.which("bart"):
        maps["BART ecalib -m1"] = lambda k: run_bart(k, threads, folder)
    if "bartorch" in on_cpu and installed("bartorch"):
        import bartorch

        bartorch.set_num_threads(threads)
        maps["bartorch"] = lambda k: bartorch.tools.ecalib(k, maps=1)
    if "espirit" in chosen and installed("espirit"):
        from espirit import espirit as peer

        maps["espirit"] = lambda k: peer(k, device=str(k.device))
    return {name: lambda run=run: torch.stack([run(k) for k in kspace]) for name, run in maps.items()}


def agreement(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """Mean overlap on the common support and pixels that only one of them keeps."""
    inside = [maps.abs().square().sum(-3) > 0.5 for maps in (ours, theirs)]
    both = inside[0] & inside[1]
    norms = [torch.linalg.vector_norm(maps.to(torch.complex128), dim=-3)[both] for maps in (ours, theirs)]
    inner = (ours.to(torch.complex128).conj() * theirs).sum(-3).abs()[both]
    return {
        "overlap": float((inner / norms[0] / norms[1]).mean()),
        "support_differs": float((inside[0] != inside[1]).double().mean()),
    }


def compare(
    kspace: Tensor, threads: int, rounds: int, chosen: Sequence[str] = PEERS
) -> dict[str, dict[str, float]]:
    """Median seconds and agreement of the chosen peers that can use the device of k-space, and ours, last."""
    with tempfile.TemporaryDirectory() as folder:
        runs = peers(kspace, threads, chosen, Path(folder))
        runs["mrigen"] = lambda: espirit(kspace, **SIGPY)
        espirit(kspace)  # the first call sets up threads and libraries
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        processor: dict[str, list[float]] = {name: [] for name in runs}
        maps: dict[str, Tensor] = {}
        for _ in range(rounds):
            for name, run in runs.items():
                wait(kspace.device)
                start, busy = time.perf_counter(), _processor_seconds()
                maps[name] = run()
                wait(kspace.device)
                seconds[name].append(time.perf_counter() - start)
                processor[name].append(_processor_seconds() - busy)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = {
        name: {
            "seconds": s,
            "fastest": min(seconds[name]),
            "processor_seconds": min(processor[name]),
            "slices_per_second": len(kspace) / s,
            "ratio": s / medians["mrigen"],
        }
        for name, s in medians.items()
    }
    if "sigpy" in maps:
        rows["sigpy"] |= agreement(maps["mrigen"], maps["sigpy"])
    like_bart = [name for name in maps if name not in ("sigpy", "mrigen")]
    if like_bart:
        ours = espirit(kspace, **BART)
        for name in like_bart:
            rows[name] |= agreement(ours, maps[name])
    return rows


def _processor_seconds() -> float:
    """User and system time of this process and of the children that it waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def peak_memory(shape: tuple[int, ...], device: torch.device = CPU) -> float:
    """MiB that one call needs, k-space itself not counted."""
    return _peak_on_gpu(shape, device) if device.type == "cuda" else _peak_on_cpu(shape)


def _peak_on_gpu(shape: tuple[int, ...], device: torch.device) -> float:
    kspace = torch.randn(shape, dtype=torch.complex64, device=device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    espirit(kspace)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def _peak_on_cpu(shape: tuple[int, ...]) -> float:
    """MiB by which one call raises the memory of a fresh process (Linux)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory_here, shape)


def _peak_memory_here(*shape: int) -> float:
    kspace = torch.randn(shape, dtype=torch.complex64)
    espirit(kspace[..., :2, :64, :64].clone())  # thread pools and libraries
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use now
    before = _status("VmRSS")
    espirit(kspace)
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    """KiB of a field of /proc/self/status."""
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(field))
    return int(line.split()[1])


def profile(kspace: Tensor) -> dict[str, float]:
    """Cumulative milliseconds of the functions named in FUNCTIONS, and of the whole."""
    profiler = cProfile.Profile()
    profiler.runcall(espirit, kspace)
    milliseconds = dict.fromkeys(("espirit", *FUNCTIONS), 0.0)
    for (_, _, name), (_, _, _, cumulative, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        if name in milliseconds:
            milliseconds[name] = 1000 * cumulative
    return milliseconds


def growth(rounds: int, device: torch.device = CPU) -> list[dict[str, float]]:
    """Median seconds for 4 to 32 coils at 256² and 128² to 512² with 8 coils."""
    cases = [(coils, 256) for coils in (4, 8, 16, 32)] + [(8, size) for size in (128, 256, 384, 512)]
    rows = []
    for coils, size in cases:
        run = functools.partial(espirit, simulate(coils, size, size).to(device))
        run()
        seconds = [timed(run, device) for _ in range(rounds)]
        rows.append({"coils": coils, "matrix": size, "seconds": statistics.median(seconds)})
    return rows


def exponent(rows: list[dict[str, float]], along: str) -> float:
    """Slope of log seconds over log ``along``."""
    logs = np.log([[row[along], row["seconds"]] for row in rows])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def machine(threads: int) -> dict[str, object]:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": threads,
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--slices", type=whole, default=1)
    parser.add_argument("--coils", type=whole, default=16)
    parser.add_argument("--height", type=whole, default=384)
    parser.add_argument("--width", type=whole, default=320)
    parser.add_argument("--threads", type=whole, default=2)
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    device = open_device(options.device).device
    if options.profile and device != CPU:
        parser.error("--profile shows the time of functions on the CPU: leave it out, or --device")
    torch.set_num_threads(options.threads)
    shape = (options.slices, options.coils, options.height, options.width)
    result: dict[str, object] = {
        "machine": {**machine(options.threads), "gpu": device_name(device)},
        "shape": shape,
        "rounds": options.rounds,
    }
    print(f"{shape[0]} slices, {shape[1]} coils, {shape[2]} x {shape[3]}; {result['machine']}")
    if device != CPU:
        print("sigpy, BART and bartorch are left out: they are measured on the CPU")
    kspace = torch.stack([simulate(*shape[1:], seed) for seed in range(shape[0])]).to(device)

    rows = compare(kspace, options.threads, options.rounds, options.peers)
    heads = f"{'median s':>10}{'fastest s':>11}{'cpu s':>9}{'slices/s':>10}{'to ours':>10}"
    print(f"{'':18}{heads}{'overlap':>12}{'support differs':>17}")
    for name, row in rows.items():
        other = f"{row['overlap']:12.6f}{row['support_differs']:16.3%}" if "overlap" in row else ""
        times = f"{row['seconds']:10.3f}{row['fastest']:11.3f}{row['processor_seconds']:9.2f}"
        print(f"{name:18}{times}{row['slices_per_second']:10.2f}{row['ratio']:9.1f}x{other}")
    print("\n".join(absent([name for name in options.peers if name != "bart"])))
    memory = peak_memory(shape, device)
    print(f"peak memory of one call: {memory:.0f} MiB")
    result |= {"programs": rows, "peak_mib": memory}
    if options.profile:
        result["profile_ms"] = milliseconds = profile(kspace)
        print(f"{milliseconds['espirit']:8.0f} ms in all")
        for name, what in FUNCTIONS.items():
            print(f"{milliseconds[name]:8.0f} ms  {what}")
    if options.growth:
        result["growth"] = table = growth(options.rounds, device)
        for row in table:
            print(f"{row['coils']:4} coils {row['matrix']:4}²  {row['seconds']:.3f} s")
        print(
            f"seconds ~ coils^{exponent(table[:4], 'coils'):.2f}, ~ side^{exponent(table[4:], 'matrix'):.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    one_line(main)
