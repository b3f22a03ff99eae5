"""Steps of teacher training and of distillation beside a plain loop over the same network, in one run.

    python -m benchmarks.training --recipe demo/brain --set data.simulate.volumes=8
    python -m benchmarks.training --recipe celeba/denoise-s20 --device cuda --variants bf16 bf16-compiled

The plain loop does what the public code of EDM and SiD does, eagerly and in float32: data read when they are
needed, channels first, features and gate of a gated convolution one after the other, Adam and average tensor
by tensor, the loss read at every step, memory given back to the system. Both start from the same weights and
see the same images and noise, so that their losses can be compared. Medians of rounds are shown; rounds of
both alternate, on a GPU one program follows another. ``--profile`` shows where the time of our steps goes;
on a GPU the share of its peak is shown, and the peak: by the card's data sheet, dense bfloat16, or
``--peak``, TFLOP/s. ``loss_difference`` compares the first losses with the plain loop's.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, positive, whole, whole_or_zero
from benchmarks.devices import device_name, wait
from benchmarks.espirit import machine
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mrigen import recipe as recipes
from mrigen import seeds
from mrigen.data.stores import Store
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.augment import Augmentation
from mrigen.engine.averages import RAMP
from mrigen.engine.distillation import DistillJob
from mrigen.engine.launch import open_device
from mrigen.engine.loop import Job
from mrigen.engine.precision import Compile
from mrigen.engine.teacher import TeacherJob, describe_teacher, sample_indices
from mrigen.files import write_json
from mrigen.losses import LOSSES, Generator
from mrigen.losses.generator import latent
from mrigen.memory import MMAP_THRESHOLD, TRIM_THRESHOLD, malloc_keep_freed
from mrigen.model import Model
from mrigen.networks.layers import Conv2d
from mrigen.recipe.schema import Recipe
from mrigen.recipe.study import Study

VARIANTS: dict[str, tuple[str, Compile]] = {
    "float32": ("32-true", False),
    "float32-compiled": ("32-true", True),
    "bf16": ("bf16-mixed", False),
    "bf16-compiled": ("bf16-mixed", True),
    "bf16-graphs": ("bf16-mixed", "graphs"),
}
# TFLOP/s of dense bfloat16 (no sparsity) by the data sheets of the SXM cards; a PCIe card has less: --peak.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}
COMPARED = 5  # first losses that are compared with the plain loop's
Step = Callable[[int], float]
SEED = 0


def apart(module: Conv2d, x: Tensor, pad: int) -> Tensor:
    """A gated convolution as two."""
    features, gate = module.weight.chunk(2)
    gate = functional.conv2d(x, gate, padding=pad).sigmoid().sigmoid()
    return functional.conv2d(x, features, padding=pad) * gate + module.bias[:, None, None]


def plain_network(network: nn.Module) -> nn.Module:
    """A copy as the public code has it."""
    copied = copy.deepcopy(network).to(memory_format=torch.contiguous_format).train()
    for module in copied.modules():
        if isinstance(module, Conv2d) and module.gated:
            module._convolve = functools.partial(apart, module)  # noqa: SLF001
    return copied


class Trained:
    """A network with its optimiser, the plain way."""

    def __init__(self, network: nn.Module, settings: Any) -> None:
        self.network, self._settings = network, settings
        self.adam = torch.optim.Adam(
            network.parameters(), lr=settings.lr, betas=settings.betas, eps=settings.eps, foreach=False
        )

    def step(self, loss: Tensor, images: int) -> float:
        """Update by a loss; its value."""
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        ramp = self._settings.ramp_images
        for group in self.adam.param_groups:
            group["lr"] = self._settings.lr * (min(1.0, images / ramp) if ramp else 1.0)
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        if self._settings.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._settings.max_grad_norm, foreach=False)
        self.adam.step()
        return loss.item()


def average(into: nn.Module, network: nn.Module, images: int, batch: int, halflife: float) -> None:
    beta = 0.5 ** (batch / max(min(halflife, images * RAMP), 1e-8))
    for mine, theirs in zip(into.parameters(), network.parameters(), strict=True):
        mine.copy_(theirs.detach().lerp(mine, beta))


def plain_teacher(recipe: Recipe, store: Store, denoiser: NetworkDenoiser, device: torch.device) -> Step:
    """Steps of the plain loop; each returns its loss."""
    params = recipe.teacher
    objective = objective_of(recipe, store)
    trained = Trained(plain_network(denoiser.network), params.optimizer)
    ema = copy.deepcopy(trained.network).eval().requires_grad_(False)
    model = NetworkDenoiser(trained.network, denoiser.conventions)
    augmentation = Augmentation(params.augment) if params.augment else None

    def step(number: int) -> float:
        indices = sample_indices(len(store), SEED, number * params.batch, params.batch)
        batch = store.measurements(indices).to(device=device)
        if augmentation is not None:
            batch = objective.augment(batch, augmentation, seeds.seeded_rng(SEED, "augment", number, 0))
        rng = seeds.seeded_rng(SEED, "teacher", number, 0)
        with seeds.dropout_seed(SEED, "teacher-dropout", number, 0):
            loss = objective(model, batch, rng).mean()
            value = trained.step(loss, (number + 1) * params.batch)
        average(ema, trained.network, (number + 1) * params.batch, params.batch, params.ema_halflife)
        return value

    return step


def plain_distillation(recipe: Recipe, store: Store, denoiser: NetworkDenoiser, device: torch.device) -> Step:
    """Steps of the plain loop: the fake score, then the generator; the generator's loss."""
    params, conventions = recipe.distill, denoiser.conventions
    loss = LOSSES.build(params.loss, objective=objective_of(recipe, store))
    corruption, shape = store.corruption(), store.image_shape
    teacher = NetworkDenoiser(plain_network(denoiser.network).requires_grad_(False), conventions)
    fake, student = (Trained(plain_network(denoiser.network), s) for s in (params.fake, params.generator))
    ema = copy.deepcopy(student.network).eval().requires_grad_(False)
    generate = Generator(NetworkDenoiser(student.network, conventions), params.sigma_init)
    score = NetworkDenoiser(fake.network, conventions)

    def step(number: int) -> float:
        images = (number + 1) * params.batch
        rng = seeds.seeded_rng(SEED, "fake", number, 0, 0)
        fake.network.requires_grad_(True)
        with seeds.dropout_seed(SEED, "fake-dropout", number, 0, 0):
            with torch.no_grad():
                x_g = generate(latent(params.batch, shape, conventions, rng, device))
            fake.step(loss.fake_score_loss(score, x_g, corruption, rng).mean(), images)
        fake.network.requires_grad_(False)
        rng = seeds.seeded_rng(SEED, "generator", number, 0)
        with seeds.dropout_seed(SEED, "generator-dropout", number, 0):
            x_g = generate(latent(params.batch, shape, conventions, rng, device))
            value = student.step(loss.generator_loss(teacher, score, x_g, corruption, rng).mean(), images)
        average(ema, student.network, images, params.batch, params.halflives[0])
        return value

    return step


def objective_of(recipe: Recipe, store: Store) -> Any:
    return Model.random_init(describe_teacher(recipe.teacher, store)).objective(store)


def ours(
    kind: str, recipe: Recipe, store: Store, denoiser: NetworkDenoiser, device: str, variant: str
) -> Job:
    """A job as the commands make it."""
    precision, compiled = VARIANTS[variant]
    fabric = open_device(device, precision)
    made = copy.deepcopy(denoiser)
    made.network.to(memory_format=torch.channels_last)
    if kind == "teacher":
        objective = objective_of(recipe, store)
        return TeacherJob(recipe.teacher, made, objective, store, fabric, SEED, compiled=compiled)
    loss = LOSSES.build(recipe.distill.loss, objective=objective_of(recipe, store))
    corruption, shape = store.corruption(), store.image_shape
    return DistillJob(recipe.distill, made, loss, corruption, shape, fabric, SEED, compiled=compiled)


def stepped(job: Job, kind: str) -> Step:
    """A job's steps in the loop, which waits for the device when it is asked for a loss only."""
    name = "loss" if kind == "teacher" else "generator"

    def step(number: int) -> Any:
        numbers = job.step(number)
        job.images += job.params.batch
        return numbers[name]

    return step


def race(
    programs: Mapping[str, Callable[[], Step]], count: int, rounds: int, device: torch.device
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Seconds per step of every program, and the losses of all their steps; the first round is not timed.

    On a GPU a program is made when the one before it is done and gone.
    """
    if device.type != "cuda":
        yield from _alternating({name: make() for name, make in programs.items()}, count, rounds, device)
        return
    for name, make in programs.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        ((_, row),) = _alternating({name: make()}, count, rounds, device)
        yield name, {**row, "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30}


def _alternating(
    steps: dict[str, Step], count: int, rounds: int, device: torch.device
) -> list[tuple[str, dict[str, Any]]]:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, list[Any]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            (usual_memory if name == "plain" else malloc_keep_freed)()
            wait(device)
            start = time.perf_counter()
            losses[name] += [step(round_ * count + number) for number in range(count)]
            wait(device)
            seconds[name].append((time.perf_counter() - start) / count)
    return [
        (
            name,
            {
                "seconds": statistics.median(times[1:]),
                "first_round": count * times[0],
                "losses": [float(loss) for loss in losses[name]],
            },
        )
        for name, times in seconds.items()
    ]


def usual_memory() -> None:
    """What glibc settles on by itself: 32 MiB and more are taken from the system and given back."""
    if malloc_keep_freed():
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(TRIM_THRESHOLD, 64 << 20)


def flops(job: Job) -> int:
    """Floating-point operations of one step, convolutions and products of matrices."""
    with FlopCounterMode(display=False) as counter:
        job.step(job.images // job.params.batch)
    job.images += job.params.batch
    return counter.get_total_flops()


def profiled(job: Job, device: torch.device, most: int) -> list[dict[str, Any]]:
    """The operations that three steps spend most time in themselves, and their shares."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds, acc_events=True) as profile:
        for _ in range(3):
            job.step(job.images // job.params.batch)
            job.images += job.params.batch
        wait(device)
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = profile.key_averages()
    if device.type == "cuda":  # kernels alone, which operations have the time of, too
        events = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    rows = [(event.key[:100], getattr(event, key), event.count) for event in events]
    total = sum(time_ for _, time_, _ in rows)
    rows.sort(key=lambda row: -row[1])
    whole = {"operation": "all", "share": 1.0, "calls": sum(c for _, _, c in rows) // 3, "ms": total / 3000}
    return [whole, *({"operation": n, "share": t / total, "calls": c // 3} for n, t, c in rows[:most])]


def print_now(text: str) -> None:
    """A line that is seen at once, into a file or a pipe too."""
    print(text, flush=True)


def compare(
    kind: str,
    recipe: Recipe,
    store: Store,
    arguments: argparse.Namespace,
    tell: Callable[[str], None] = print_now,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """All numbers of teacher training or distillation; ``tell`` is given a line of each program when it is
    measured, and ``keep`` its numbers.
    """
    description = describe_teacher(recipe.teacher, store)
    device = open_device(arguments.device).device
    denoiser = Model.random_init(description, SEED).denoiser
    denoiser.network.to(device)
    batch = recipe.teacher.batch if kind == "teacher" else recipe.distill.batch
    counted = next((v for v in arguments.variants if v in {"float32", "bf16"}), "float32")
    work = flops(ours(kind, recipe, store, denoiser, arguments.device, counted))
    peak = arguments.peak or next((p for name, p in PEAKS.items() if name in device_name(device)), None)
    result: dict[str, Any] = {"kind": kind, "recipe": recipe.name, "batch": batch, "flops": work}
    result["programs"] = measured = {}
    tell(header(result))

    jobs: dict[str, Job] = {}

    def made(variant: str) -> Step:
        jobs[variant] = ours(kind, recipe, store, denoiser, arguments.device, variant)
        return stepped(jobs[variant], kind)

    plain = {"teacher": plain_teacher, "distillation": plain_distillation}[kind]
    programs: dict[str, Callable[[], Step]] = {}
    if arguments.plain:
        programs["plain"] = lambda: plain(recipe, store, denoiser, device)
    programs |= {variant: functools.partial(made, variant) for variant in arguments.variants}
    for name, row in race(programs, arguments.steps, arguments.rounds, device):
        row["images_per_second"] = batch / row["seconds"]
        row["final_loss"] = statistics.mean(row["losses"][-max(1, len(row["losses"]) // 4) :])
        row["tflops"] = work / row["seconds"] / 1e12
        row |= {"peak_tflops": peak, "utilisation": None if peak is None else row["tflops"] / peak}
        if "plain" in programs:
            reference = (measured.get("plain") or row)["losses"]
            row["loss_difference"] = loss_difference(row["losses"], reference)
        measured[name] = row
        row["speedup"] = next(iter(measured.values()))["seconds"] / row["seconds"]
        tell(line(name, row))
        if keep is not None:
            keep({"program": name, **row})
        if arguments.profile and name == arguments.variants[0]:
            result["profile"] = profiled(jobs[name], device, arguments.profile)
            whole, *rows = result["profile"]
            tell(f"{whole['ms']:.1f} ms a step in {whole['calls']} operations")
            tell("\n".join(f"{r['share']:7.1%} {r['calls']:5d} x  {r['operation']}" for r in rows))
        jobs.pop(name, None)
    return result


def loss_difference(losses: list[float], reference: list[float]) -> float:
    """The largest difference of the first losses, relative to the largest of the reference's."""
    pairs = list(zip(losses[:COMPARED], reference[:COMPARED], strict=True))
    return max(abs(a - b) for a, b in pairs) / max(abs(b) for _, b in pairs)


def header(result: dict[str, Any]) -> str:
    """What is compared, and the columns."""
    work = f"{result['flops'] / 1e9:.1f} GFLOP a step"
    about = f"{result['recipe']}, {result['kind']}, batch {result['batch']}, {work}"
    columns = "loop | images/s | to the first | last losses | TFLOP/s | of the peak | first round, s | GiB"
    return "\n".join([about, f"| {columns} |", "|---" * 8 + "|"])


def line(name: str, row: dict[str, Any]) -> str:
    """One program."""
    share = ""
    if row["utilisation"] is not None:
        share = f"{row['utilisation']:.1%} of {row['peak_tflops']:.0f}"
    speed = f"{row['images_per_second']:.1f} | {row['speedup']:.2f} x"
    memory = f"{row['peak_gib']:.1f}" if "peak_gib" in row else ""
    work = f"{row['final_loss']:.4g} | {row['tflops']:.3f} | {share} | {row['first_round']:.1f}"
    return f"| {name} | {speed} | {work} | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="demo/brain")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--data", type=Path, help="a store, or what the recipe prepares one from")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["float32"])
    parser.add_argument("--no-plain", action="store_false", dest="plain", help="leave out the plain loop")
    parser.add_argument("--kinds", nargs="+", choices=["teacher", "distillation"])
    parser.add_argument("--steps", type=whole, default=5, help="steps of a round")
    parser.add_argument("--rounds", type=whole, default=5)
    parser.add_argument("--profile", type=whole_or_zero, default=0, metavar="LINES")
    parser.add_argument(
        "--peak", type=positive, help="TFLOP/s of the device; known for H200, H100, A100 (SXM)"
    )
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    recipe = recipes.load(arguments.recipe, arguments.changes)
    if arguments.data is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.of_source(arguments.data)})
    with tempfile.TemporaryDirectory() as folder:
        study = Study(recipe, Path(folder), Console(stderr=True), arguments.device)
        study.prepare()
        about = {**machine(torch.get_num_threads()), "gpu": device_name(torch.device(arguments.device))}
        print(about)
        results: list[dict[str, Any]] = []
        for kind in arguments.kinds or ("teacher", "distillation"):
            results.append(compare(kind, recipe, study.store, arguments))
            if arguments.json:
                write_json(arguments.json, {"machine": about, "results": results})


if __name__ == "__main__":
    one_line(main)
