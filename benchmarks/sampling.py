"""Images per second of a one-step generator beside its teacher, and the memory of ``mrigen sample``.

    python -m benchmarks.sampling --recipe demo/brain --set data.simulate.volumes=8
    python -m benchmarks.sampling --recipe celeba/denoise-s20 --set data.images.source=shapes --device cuda \
--precision bf16-mixed --batch 500 --images 50000

Generator and teacher are one network with fresh weights, which cost what trained ones do, called in one run
in turn; the teacher is sampled by 40 steps of Heun's method (79 evaluations). Then ``mrigen sample`` writes
``--counts`` images in a process of its own each time: its peak memory must not grow with their number.
``--images`` times the same command for many images, seconds from the first noise to the last byte written,
and what the machine's part of that takes without any network: noise, the copy that an interrupted command
continues from, and the file.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole, whole_or_zero
from benchmarks.devices import device_name, timed
from benchmarks.espirit import machine
from rich.console import Console
from torch import Tensor

from mrigen import recipe as recipes
from mrigen.data.sample_files import writer_of
from mrigen.engine.launch import open_device
from mrigen.engine.resumable import ResumableSampling, discard
from mrigen.engine.teacher import describe_teacher
from mrigen.files import write_json
from mrigen.model import Model
from mrigen.recipe.sampling import sample_model
from mrigen.recipe.study import Study
from mrigen.seeds import seeded_noise

STEPS = 40


def models(study: Study) -> dict[str, Path]:
    """Folders of a teacher and of a one-step generator with its weights."""
    description = describe_teacher(study.recipe.teacher, study.store)
    teacher = Model.random_init(description, study.recipe.seed)
    params = study.recipe.distill
    student = {"role": "generator", "sigma_init": params.sigma_init, "generator_input": "full"}
    folders = {"teacher": study.out / "teacher", "generator": study.out / "generator"}
    teacher.save(folders["teacher"])
    teacher.variant(**student).save(folders["generator"])
    return folders


def speeds(study: Study, folders: dict[str, Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Median images per second of both, and their ratio; rounds alternate."""
    spec = {"name": "heun", "steps": STEPS}
    fabric = open_device(arguments.device, arguments.precision)
    samplers = {
        name: Model.load(folder).sampler(study.store, spec if name == "teacher" else None, arguments.batch)
        for name, folder in folders.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in samplers}
    for sampler in samplers.values():
        sampler.use(fabric)
    for round_ in range(arguments.rounds + 1):
        for name, sampler in samplers.items():
            count = arguments.batch * (1 if name == "teacher" else arguments.generator_batches)
            start = time.perf_counter()
            for images in sampler(list(range(count))):
                images.cpu()
            if round_:
                seconds[name].append((time.perf_counter() - start) / count)
    rows: dict[str, Any] = {
        name: {
            "evaluations": samplers[name].evaluations,
            "images_per_second": 1 / statistics.median(values),
        }
        for name, values in seconds.items()
    }
    rate = {name: row["images_per_second"] for name, row in rows.items()}
    return {"rows": rows, "ratio": rate["generator"] / rate["teacher"]}


def forward(study: Study, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Images per second of the generator's network in every form, as it is and compiled; then whether its
    images depend on the size of the batch, in the same form, and on the form.
    """
    fabric = open_device(arguments.device, arguments.precision)
    device, model = fabric.device, Model.load(models(study)["generator"])
    seeds, kept = list(range(arguments.batch)), {}
    few = max(1, arguments.batch // 4)

    def sampler(name: str, batch: int) -> Any:
        made = model.copy().sampler(batch=batch)
        made.use(fabric)
        if name == "compiled":
            made.compile(device)
        return made

    for name in arguments.forms:
        start, used = time.perf_counter(), sampler(name, arguments.batch)
        (kept[name],) = (images.cpu() for images in used(seeds))
        first = time.perf_counter() - start
        channels = model.description.conventions.network_channels
        x = torch.randn(arguments.batch, channels, *model.image_shape[1:]).to(device)
        run = functools.partial(evaluate, used.network, x, torch.ones(arguments.batch, device=device))
        seconds = statistics.median([timed(run, device) for _ in range(1 + arguments.rounds)][1:])
        row = {"form": name, "first_seconds": first, "images_per_second": arguments.batch / seconds}
        if device.type == "cuda":
            row["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        yield row
    first_form = kept[arguments.forms[0]]
    for name, images in kept.items():
        again = torch.cat([part.cpu() for part in sampler(name, few)(seeds[: 2 * few])])
        yield {
            "form": name,
            "batches": [arguments.batch, few],
            "equal_bits": bool(torch.equal(images[: len(again)], again)),
            "difference": relative(images[: len(again)], again),
            f"difference_to_{arguments.forms[0]}": relative(images, first_form),
        }


def relative(a: Tensor, b: Tensor) -> float:
    """Norm of a difference, relative to the second's."""
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


@torch.inference_mode()
def evaluate(network: Any, x: Tensor, sigma: Tensor) -> None:
    network(x, sigma)


def peak(folder: Path, count: int, arguments: argparse.Namespace, out: Path) -> float:
    """MiB that ``mrigen sample`` needs at most for so many images, the interpreter included."""
    command = [sys.executable, "-m", "mrigen", "sample", str(folder), "--out", str(out)]
    command += ["--seeds", f"0-{count - 1}", "--batch", str(arguments.batch), "--device", arguments.device]
    command += ["--precision", arguments.precision]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return usage.ru_maxrss / 1024


def host(shape: tuple[int, int, int], count: int, batch: int, out: Path) -> dict[str, float]:
    """Processor microseconds an image without a network: noise and copy, each in a thread beside the network,
    and the file, which is written at the end.
    """
    chunks = [list(range(first, min(first + batch, count))) for first in range(0, count, batch)]
    used = {}
    start = time.process_time()
    for part in chunks:
        noise = seeded_noise(part, shape, complex_valued=False)
    used["noise"] = time.process_time() - start
    kept = ResumableSampling(out, {}, list(range(count)), batch, shape, complex_valued=False)
    start = time.process_time()
    kept.make(lambda _: (noise[:1].expand(len(part), *shape) for part in chunks), "host")
    used["copy"] = time.process_time() - start
    start = time.process_time()
    writer_of(out, shape, complex_valued=False)(out, list(range(count)), kept.read)
    used["file"] = time.process_time() - start
    discard(out)
    return {f"{name}_microseconds": 1e6 * seconds / count for name, seconds in used.items()}


def many(folder: Path, arguments: argparse.Namespace, out: Path) -> dict[str, float]:
    """Seconds that many images take in this process, writing included."""
    start = time.perf_counter()
    model = Model.load(folder)
    sample_model(
        model, out, f"0-{arguments.images - 1}", None, arguments.batch, arguments.device, arguments.precision
    )
    seconds = time.perf_counter() - start
    return {"images": arguments.images, "seconds": seconds, "mib": out.stat().st_size / 2**20}


def run(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All numbers."""
    study = Study(
        recipes.load(arguments.recipe, arguments.changes), work, Console(stderr=True), arguments.device
    )
    study.prepare()
    folders = models(study)
    results: dict[str, Any] = {
        "machine": {
            **machine(torch.get_num_threads()),
            "gpu": device_name(torch.device(arguments.device)),
        },
        "recipe": arguments.recipe,
        "image": study.store.image_shape,
        "batch": arguments.batch,
        "precision": arguments.precision,
        **speeds(study, folders, arguments),
    }
    out = work / f"samples{arguments.suffix}"
    results["peaks"] = [
        {"images": n, "mib": peak(folders["generator"], n, arguments, out)} for n in arguments.counts
    ]
    if arguments.images:
        out.unlink(missing_ok=True)
        results["host"] = host(study.store.image_shape, arguments.images, arguments.batch, work / "host.h5")
        results["many"] = many(folders["generator"], arguments, out)
    return results


def table(results: dict[str, Any]) -> str:
    """Speeds, then memory."""
    about = f"{results['image']}, batch {results['batch']}, {results['precision']}"
    lines = [f"{results['recipe']} {about}; {results['machine']}"]
    lines += ["| model | evaluations | images/s |", "|---" * 3 + "|"]
    for name, row in results["rows"].items():
        lines.append(f"| {name} | {row['evaluations']} | {row['images_per_second']:.4g} |")
    lines.append(f"generator / teacher: {results['ratio']:.1f} x")
    lines.extend(f"{p['images']:,} images: peak memory {p['mib']:.0f} MiB" for p in results["peaks"])
    if "many" in results:
        parts = ", ".join(f"{key.partition('_')[0]} {value:.0f}" for key, value in results["host"].items())
        lines.append(f"without the network, processor microseconds an image: {parts}")
        row = results["many"]
        lines.append(
            f"{row['images']:,} images, {row['mib']:.0f} MiB, in {row['seconds']:.1f} s with writing"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="demo/brain")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--batch", type=whole, default=64)
    parser.add_argument("--generator-batches", type=whole, default=4, help="of a round, one of the teacher's")
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--counts", type=whole, nargs="*", default=[1000, 8000])
    parser.add_argument("--images", type=whole_or_zero, default=0, help="time this many with writing")
    parser.add_argument("--suffix", default=".h5", choices=[".h5", ".npz", ".zip"])
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = run(arguments, Path(folder))
    print(table(results))
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    one_line(main)
