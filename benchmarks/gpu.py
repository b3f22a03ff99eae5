"""Everything that a GPU is measured with within the minutes that there are, what was never measured first.

    python -m benchmarks.gpu --minutes 4 --json gpu.json
    python -m benchmarks.gpu --minutes 4 --rows memory repeat tests
    python -m benchmarks.gpu --minutes 4 --rows convolution normal brain-teacher espirit reconstruct
    python -m benchmarks.gpu --minutes 30 --device cpu --smoke

Without ``--json`` everything is saved in ``gpu-DATE-TIME.json`` in the working folder. Four minutes do not
hold all rows, whose limits add up to more than nine: what the first command does not reach comes next with
``--rows``, in this order.

Every row is a process of its own with a time limit: what it measures is printed and saved at once, and a row
that fails is recorded with its error. All rows begin with what needs no GPU and wait for their turn; first,
processes side by side compile what the rows will run, so that the rows find it in the cache (a row's first
round is then what a second run of a user takes). Correctness is measured beside speed: losses beside those of
a plain loop, images by seed in batches of two sizes and in every form, maps and products beside those of the
CPU or of peers, steps repeated and continued from a saved state bit by bit, the tests that need a GPU. The
last line of a row on a GPU is its peak memory. ``--smoke`` takes everything at its smallest and compiles
nothing. Without a GPU rows begin one after another and none has a limit of its own, unless ``--patience``
says so.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from benchmarks import espirit, non_cartesian, normal, sampling, training
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, positive
from benchmarks.devices import device_name
from rich.console import Console

from mrigen import recipe as recipes
from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription
from mrigen.denoiser import NetworkDenoiser
from mrigen.engine.footprint import Footprint, batch_that_fits
from mrigen.engine.launch import open_device
from mrigen.engine.loop import Job
from mrigen.engine.precision import EVALUATED
from mrigen.engine.states import newest_state, read_state, save_state
from mrigen.engine.teacher import describe_teacher
from mrigen.files import write_json
from mrigen.model import Model
from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.networks.blocks import activation_checkpointing
from mrigen.operators import MultiCoilMRI
from mrigen.recipe.study import Study
from mrigen.reconstruction.job import Request, reconstruct

ROW, READY = "@row ", "@ready"
TINY = "{name: song-unet, model_channels: 8, channel_mult: [1, 1], num_blocks: 1, attn_resolutions: []}"
PHOTOS = ["data.images.source=shapes"]
PHOTOS_SMOKE = [*PHOTOS, "data.images.size=8", "data.images.limit=32", f"teacher.network={TINY}"]
BRAIN = ["data.simulate.volumes=8", "data.simulate.matrix=[64,64]", "teacher.network.model_channels=64"]
BRAIN_SMOKE = ["data.simulate.volumes=8", "data.simulate.slices=2", "teacher.network.model_channels=8"]
COMPILED = 0.5  # of the minutes, for compiling
LEAST = 2  # seconds of a row

Numbers = dict[str, Any]
Measure = Callable[[], Iterator[Numbers]]


@dataclass(frozen=True)
class Case:
    """Where rows are measured and how large.

    Attributes:
        device: ``cuda`` or ``cpu``.
        smoke: everything at its smallest.
        folder: for stores and models, of this process.
    """

    device: str
    smoke: bool
    folder: Path

    @property
    def batch(self) -> int:
        """Images of a training step."""
        return 4 if self.smoke else 128

    @property
    def torch_device(self) -> torch.device:
        """The device, opened."""
        return open_device(self.device).device

    def study(self, name: str, changes: list[str]) -> Study:
        """A recipe's data, prepared."""
        sizes = [f"teacher.batch={self.batch}", f"distill.batch={self.batch}"]
        study = Study(recipes.load(name, [*changes, *sizes]), self.folder, Console(stderr=True), self.device)
        study.prepare()
        return study

    def photos(self) -> Study:
        """EDM's DDPM++ at 64 x 64 on images that are drawn."""
        return self.study("celeba/denoise-s20", PHOTOS_SMOKE if self.smoke else PHOTOS)

    def brain(self) -> Study:
        """A U-Net of 64 channels on brain slices of 64 x 64 behind four coils."""
        return self.study("demo/brain", BRAIN_SMOKE if self.smoke else BRAIN)


def normal_operator(case: Case) -> Measure:
    """A^H A of phase-encode lines and of points in the plane, its gradient, and the kernels of both."""
    shape = (1, 3, 16, 12) if case.smoke else (2, 16, 384, 320)

    def measure() -> Iterator[Numbers]:
        for plane in (False, True):
            for row in normal.compare(shape, 2 if case.smoke else 21, case.torch_device, plane=plane):
                yield {"mask": "points" if plane else "lines", **row}
        if case.device == "cuda":
            coil_maps, mask, image = normal.problem(*shape, case.torch_device, plane=False)
            product = MultiCoilMRI(coil_maps, mask).normal
            runs = {"product": product, "gradient": normal.backward(product)}
            for name, call in runs.items():
                yield {"of": name, "profile": device_profile(functools.partial(call, image))}

    return measure


def convolution(case: Case) -> Measure:
    """A^H A of radial spokes as a convolution, its gradient, and the difference from the CPU's."""
    shape = (2, 24, 20, 9) if case.smoke else (16, 384, 320, 96)
    operator, image = non_cartesian.problem("radial", *shape)
    expected = operator.normal(image)

    def measure() -> Iterator[Numbers]:
        device, rounds = case.torch_device, 2 if case.smoke else 21
        normal_there, image_there = operator.to(device=device).normal, image.to(device)
        runs = {"normal": normal_there, "gradient": normal.backward(normal_there)}
        seconds = normal.race(runs, image_there, rounds)
        apart = torch.linalg.vector_norm(normal_there(image_there).cpu() - expected)
        yield {"milliseconds": {name: 1e3 * s for name, s in seconds.items()}}
        yield {"difference": float(apart / torch.linalg.vector_norm(expected))}

    return measure


def maps(case: Case) -> Measure:
    """ESPIRiT of a batch of slices, and the overlap with the maps of the CPU."""
    slices, shape = (2, (3, 40, 36)) if case.smoke else (64, (16, 384, 320))
    kspace = torch.stack([espirit.simulate(*shape, seed) for seed in range(min(slices, 4))])
    kspace = kspace.repeat(-(-slices // len(kspace)), 1, 1, 1)[:slices]
    reference = espirit.espirit(kspace[0], **espirit.SIGPY)

    def measure() -> Iterator[Numbers]:
        there = kspace.to(case.torch_device)
        yield espirit.compare(there, torch.get_num_threads(), 3)["mrigen"]
        estimate = espirit.espirit(there, **espirit.SIGPY)[0].cpu()
        yield {"peak_mib": espirit.peak_memory((slices, *shape), case.torch_device)}
        yield espirit.agreement(estimate, reference)
        if case.device == "cuda":
            yield {"profile": device_profile(lambda: espirit.espirit(there, **espirit.SIGPY))}

    return measure


def samples(case: Case) -> Measure:
    """The network of ``mrigen sample`` alone, and the command for many images with writing."""
    arguments = argparse.Namespace(
        device=case.device,
        precision="bf16-mixed" if case.device == "cuda" else "32-true",
        batch=4 if case.smoke else 500,
        rounds=3,
        forms=("eager",) if case.smoke else ("eager", "compiled"),
        images=8 if case.smoke else 50_000,
    )
    study = case.photos()
    folder = sampling.models(study)["generator"]

    def measure() -> Iterator[Numbers]:
        rows = sampling.forward(study, arguments)
        yield from islice(rows, len(arguments.forms))
        yield sampling.host(
            study.store.image_shape, arguments.images // 5 + 1, arguments.batch, case.folder / "host.h5"
        )
        yield sampling.many(folder, arguments, case.folder / "samples.h5")
        yield from rows

    return measure


def trained(kind: str, make: Callable[[Case], Study], variants: list[str]) -> Callable[[Case], Measure]:
    """Steps of a loop beside the plain one, which is eager in float32."""

    def prepared(case: Case) -> Measure:
        study = make(case)
        arguments = argparse.Namespace(
            device=case.device,
            variants=["float32"] if case.smoke else variants,
            steps=1 if case.smoke else 4,
            rounds=1 if case.smoke else 2,
            peak=None,
            profile=0 if case.smoke else 25,
            plain=True,
        )

        def measure() -> Iterator[Numbers]:
            yield training.compare(kind, study.recipe, study.store, arguments, keep=emit)

        return measure

    return prepared


def repeated(case: Case) -> Measure:
    """Whether steps from the same state, and those of a run that is continued from a saved state, end in the
    same bits, as usual and with ``deterministic``.
    """
    study = case.brain()
    steps = 2 if case.smoke else 10

    def measure() -> Iterator[Numbers]:
        for deterministic in (False, True):
            fabric = open_device(case.device, deterministic=deterministic)
            for kind in ("teacher", "distillation"):
                denoiser = Model.random_init(describe_teacher(study.recipe.teacher, study.store), 0).denoiser
                denoiser.network.to(fabric.device)

                def made(kind: str = kind, denoiser: NetworkDenoiser = denoiser) -> Job:
                    return training.ours(kind, study.recipe, study.store, denoiser, case.device, "float32")

                start = time.perf_counter()
                whole, again, saved = made(), made(), case.folder / f"{kind}-{deterministic}"
                stepped_to(steps, whole)
                seconds = time.perf_counter() - start
                stepped_to(steps // 2, again)
                save_state(saved, again.images, {"images": again.images, "job": again.state()}, 1)
                stepped_to(steps, again)
                yield {
                    "kind": kind,
                    "deterministic": deterministic,
                    **compared(again, whole),
                    "seconds": seconds,
                }
                newest = newest_state(saved)
                assert newest is not None
                state, continued = read_state(newest), made()
                continued.images = state["images"]
                continued.load(state["job"])
                stepped_to(steps, continued)
                yield {
                    "kind": kind,
                    "deterministic": deterministic,
                    "resumed": True,
                    **compared(continued, whole),
                }
        torch.use_deterministic_algorithms(mode=False)

    return measure


def stepped_to(steps: int, job: Job) -> None:
    """Train until so many steps are done."""
    while job.images < steps * job.params.batch:
        job.step(job.images // job.params.batch)
        job.images += job.params.batch


def compared(job: Any, reference: Any) -> Numbers:
    """Whether two jobs have averaged weights of the same bits, and their relative difference."""
    a, b = (torch.cat([p.detach().flatten().cpu() for p in j.result.parameters()]) for j in (job, reference))
    return {"equal_bits": bool(torch.equal(a, b)), "difference": sampling.relative(a, b)}


def tests(case: Case) -> Measure:
    """The tests that need a GPU, ``pytest -m gpu``; without one they are collected and left out."""
    root = Path(__file__).parents[1]
    files = [
        path for path in root.glob("tests/*/test_*.py") if "needs_gpu" in path.read_text(encoding="utf-8")
    ]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *map(str, files)]

    def measure() -> Iterator[Numbers]:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        counts = {
            what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout)
        }
        yield {**counts, "failures": [line for line in lines if line.startswith(("FAILED", "ERROR"))]}
        if done.returncode or not counts or (case.device == "cuda" and not counts.get("passed")):
            raise RuntimeError(f"pytest ended with {done.returncode}: {' '.join(lines[-1:])}")

    return measure


def reconstructions(case: Case) -> Measure:
    """Posterior samples of slices by ``mrigen reconstruct``: first few, then so many that it compiles."""
    study = case.brain()
    folder, steps = sampling.models(study)["teacher"], 2 if case.smoke else 50

    def run(samples: int) -> Numbers:
        request = Request(solver=f"dds:steps={steps}", model=folder, samples=samples)
        out = case.folder / f"{samples}-samples"
        start = time.perf_counter()
        source, _ = reconstruct(study.store_folder, out, request, case.torch_device)
        seconds, evaluations = time.perf_counter() - start, len(source) * samples * steps
        return {"evaluations": evaluations, "seconds": seconds, "per_second": evaluations / seconds}

    def measure() -> Iterator[Numbers]:
        few = run(1)
        yield few
        yield run(2 if case.smoke else -(-EVALUATED // few["evaluations"]))

    return measure


def largest(case: Case) -> Measure:
    """The largest micro-batch of ``fastmri/brain-r4`` at 384 x 320 that fits, recomputing or not, and the
    batch of ``mrigen sample`` by the free memory.

    Counted first, for a card of 80 GB, without the memory of anything; then measured where there is a GPU.
    """
    changes = [f"teacher.network={TINY}"] if case.smoke else []
    teacher = recipes.load("fastmri/brain-r4", changes).teacher
    height, width = (16, 16) if case.smoke else (384, 320)
    layout = ChannelLayout()
    sides = {"resolution": height, "in_channels": layout.network_channels, "out_channels": 2}
    description = ModelDescription(
        network=NETWORKS.freeze({**teacher.network, **sides}),
        preconditioner=PRECONDITIONERS.freeze({"name": "edm"}),
        conventions=layout,
        image_shape=(1, height, width),
    )

    def measure() -> Iterator[Numbers]:
        whole = Footprint.of(description, height, width)
        image = 0.5 * whole.activations  # bfloat16
        fixed = 20 * whole.parameters  # float32: weights, gradients, moments, average
        yield {
            "counted": True,
            "parameters": whole.parameters,
            "gib_per_image": image / 2**30,
            "micro_batch": int((80e9 - fixed) // image),
        }
        device, most = case.torch_device, 2 if case.smoke else 512
        batch = batch_that_fits(description, description.image_shape, device, most)
        network = Model.random_init(description).to(device).denoiser.network.eval()
        x, sigma = torch.randn(batch, layout.network_channels, height, width), torch.ones(batch)
        with torch.inference_mode():
            network(x.to(device), sigma.to(device))
        yield {"chosen_batch": batch, "of": most}
        del network
        if case.device != "cuda":
            return
        for again in (False, True):
            network = Model.random_init(description).to(device).denoiser.network.train(not again)
            if again:
                activation_checkpointing(network)
            peaks = {n: stepped_peak(network, n, height, width) for n in (1, 2)}
            image = peaks[2] - peaks[1]
            fixed = peaks[1] - image + 12 * whole.parameters  # moments, average
            fits = int((torch.cuda.mem_get_info()[1] * 0.97 - fixed) // image)
            yield {"recomputed": again, "gib_per_image": image / 2**30, "micro_batch": fits}
            del network
            torch.cuda.empty_cache()

    return measure


def stepped_peak(network: torch.nn.Module, batch: int, height: int, width: int) -> int:
    """Bytes at the peak of one gradient in bfloat16."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    x = torch.randn(batch, 4, height, width, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        network(x, torch.ones(batch, device="cuda")).square().mean().backward()
    return torch.cuda.max_memory_allocated()


def device_profile(run: Callable[[], object]) -> list[list[Any]]:
    """Kernels of a call: milliseconds, number, name, the longest first."""
    run()
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds, acc_events=True) as profile:
        run()
        torch.cuda.synchronize()
    rows = [[e.self_device_time_total / 1000, e.count, e.key[:90]] for e in profile.key_averages()]
    return sorted(rows, reverse=True)[:14]


LARGE, SMALL = ["bf16-compiled", "bf16"], ["bf16-compiled", "bf16", "bf16-graphs"]  # graphs may not be had
ROWS: dict[str, Callable[[Case], Measure]] = {
    "sample": samples,
    "photos-teacher": trained("teacher", Case.photos, LARGE),
    "brain-distillation": trained("distillation", Case.brain, SMALL),
    "memory": largest,
    "repeat": repeated,
    "tests": tests,
    "convolution": convolution,
    "normal": normal_operator,
    "brain-teacher": trained("teacher", Case.brain, SMALL),
    "espirit": maps,
    "reconstruct": reconstructions,
}
LIMITS = {
    "normal": 20,
    "convolution": 15,
    "espirit": 30,
    "sample": 75,
    "photos-teacher": 60,
    "brain-distillation": 60,
    "memory": 30,
    "tests": 120,
    "reconstruct": 60,
}
LIMIT = 45  # seconds of any other row


def compile_ahead(name: str, case: Case) -> None:
    """Run once what a row will run compiled, so that it is in the cache."""
    if name == "sample":
        study = case.photos()
        model = Model.load(sampling.models(study)["generator"])
        fabric = open_device(case.device, "bf16-mixed")
        for batch in (500, 125):  # that of the command, and the one that it is compared with
            sampler = model.sampler(batch=batch)
            sampler.use(fabric)
            sampler.compile(fabric.device)
            for images in sampler(list(range(batch))):
                images.cpu()
        return
    if name == "reconstruct":
        for _ in reconstructions(case)():
            pass
        return
    kind = "distillation" if "distillation" in name else "teacher"
    study = case.photos() if "photos" in name else case.brain()
    denoiser = Model.random_init(describe_teacher(study.recipe.teacher, study.store), 0).denoiser
    for variant in LARGE[:1] if "photos" in name else (SMALL[0], SMALL[2]):
        job = training.ours(kind, study.recipe, study.store, denoiser, case.device, variant)
        job.step(0)
        torch.cuda.synchronize()


def emit(numbers: Numbers) -> None:
    """A line that is printed and saved."""
    print(ROW + json.dumps(numbers), flush=True)


def child(name: str, case: Case, *, ahead: bool) -> None:
    """One row: prepare, wait for a line, measure."""
    if ahead:
        compile_ahead(name, case)
        return
    measure = ROWS[name](case)
    print(READY, flush=True)
    if sys.stdin.readline():
        for numbers in measure():
            emit(numbers)
        if case.device == "cuda":
            emit({"peak_gib": torch.cuda.max_memory_allocated() / 2**30})


@dataclass(eq=False)
class Running:
    """A process of a row, whose lines are printed as they come."""

    name: str
    process: subprocess.Popen[str]
    rows: list[Numbers] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    listener: threading.Thread = field(default_factory=threading.Thread)

    def listen(self, save: Callable[[], None]) -> None:
        """Print and keep its lines, in a thread."""
        self.listener = threading.Thread(target=self._listen, args=(save,), daemon=True)
        self.listener.start()

    def _listen(self, save: Callable[[], None]) -> None:
        """Print and keep its lines until it ends."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line = text.rstrip()
            if line == READY:
                self.ready.set()
                continue
            if line.startswith(ROW):
                self.rows.append(json.loads(line.removeprefix(ROW)))
                save()
                line = json.dumps(shortened(self.rows[-1]))
            self.last = [*self.last[-8:], line]
            print(f"{self.name}: {line}", flush=True)
        self.ready.set()

    def go(self) -> None:
        """Let it measure."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def measured(self, seconds: float) -> str | None:
        """Let it get ready and measure, so long at most together; what went wrong, if anything did."""
        if seconds < LEAST:
            self.end(0)
            return "no time was left"
        deadline = time.monotonic() + seconds
        self.ready.wait(seconds)
        self.go()
        return self.end(deadline - time.monotonic())

    def end(self, seconds: float) -> str | None:
        """Wait so long; what went wrong, if anything did."""
        try:
            code = self.process.wait(max(0.1, seconds))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return "not done in its time"
        finally:
            if self.process.returncode is not None:
                self.listener.join()
                for pipe in (self.process.stdin, self.process.stdout):
                    with suppress(BrokenPipeError):
                        assert pipe is not None
                        pipe.close()
        return None if code == 0 else f"exit code {code}: {' / '.join(self.last[-3:])}"


def shortened(numbers: Numbers) -> Numbers:
    """Numbers without long lists, which the file has."""
    out: Numbers = {}
    for key, value in numbers.items():
        if isinstance(value, dict):
            out[key] = shortened(value)
        elif not isinstance(value, list) or len(value) < 4:
            out[key] = value
    return out


def start(name: str, arguments: argparse.Namespace, *more: str) -> Running:
    command = [sys.executable, "-m", "benchmarks.gpu", "--child", name, "--device", arguments.device, *more]
    if arguments.smoke:
        command.append("--smoke")
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return Running(name, process)


def about(device: str) -> Numbers:
    """Card, driver and versions."""
    numbers: Numbers = {"python": platform.python_version(), "torch": torch.__version__}
    numbers["processors"] = os.cpu_count()
    for package in ("triton", "numpy"):
        try:
            numbers[package] = version(package)
        except ImportError:
            numbers[package] = None
    if device == "cuda":
        numbers |= {
            "gpu": device_name(torch.device("cuda")),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver, memory": driver(),
        }
    return numbers


def driver() -> str | None:
    """Driver and memory as nvidia-smi has them; None where it is not installed."""
    query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return None


def run(arguments: argparse.Namespace) -> Numbers:
    """All rows, or as many as there is time for."""
    end = time.monotonic() + 60 * arguments.minutes
    rows: dict[str, Running] = {}
    numbers: Numbers = {"about": about(arguments.device), "rows": {}}
    lock = threading.Lock()

    def save() -> None:
        with lock:
            for name, running in list(rows.items()):
                if running.rows:
                    numbers["rows"].setdefault(name, {})["numbers"] = running.rows
            write_json(arguments.json, numbers)

    def begin(name: str, *more: str) -> Running:
        running = start(name, arguments, *more)
        running.listen(save)
        return running

    print(numbers["about"], flush=True)
    ahead = []
    if arguments.device == "cuda" and not arguments.smoke:
        compiled = {"sample", "photos-teacher", "brain-teacher", "brain-distillation", "reconstruct"}
        ahead = [begin(name, "--ahead") for name in arguments.rows if name in compiled]
    if arguments.device == "cuda":
        rows |= {name: begin(name) for name in arguments.rows}
    limit = time.monotonic() + COMPILED * 60 * arguments.minutes
    for running in ahead:
        wrong = running.end(limit - time.monotonic())
        left = end - time.monotonic()
        print(f"{running.name}: compiled ahead, {wrong or 'done'}; {left:.0f} s left", flush=True)
    patience = arguments.patience or (1.0 if arguments.device == "cuda" else math.inf)
    for name in arguments.rows:
        began = time.monotonic()
        seconds = min(LIMITS.get(name, LIMIT) * patience, end - began)
        running = rows[name] if name in rows else begin(name)
        rows[name] = running
        wrong = running.measured(seconds)
        row = numbers["rows"].setdefault(name, {})
        row |= {"seconds": time.monotonic() - began, "error": wrong}
        save()
        print(f"{name}: {wrong or 'done'} after {row['seconds']:.0f} s", flush=True)
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=positive, default=4.0)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--smoke", action="store_true", help="everything at its smallest")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--patience", type=positive, help="factor on the time limits of rows; 1 on a GPU")
    saved = time.strftime("gpu-%Y%m%d-%H%M%S.json")
    parser.add_argument("--json", type=new_file, default=Path(saved), help="by default gpu-DATE-TIME.json")
    parser.add_argument("--child", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--ahead", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is None:
        open_device(arguments.device)
        run(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            child(
                arguments.child, Case(arguments.device, arguments.smoke, Path(folder)), ahead=arguments.ahead
            )
        except Exception as error:  # noqa: BLE001 (whatever it is, it is this row's)
            traceback.print_exc()
            print(f"{type(error).__name__}: {error}".partition("\n")[0], flush=True)
            sys.exit(1)


if __name__ == "__main__":
    one_line(main)
