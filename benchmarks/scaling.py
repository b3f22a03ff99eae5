"""Time, storage and cost of a large study on paper: what saturates first, and at how many GPUs.

    python -m benchmarks.scaling [--gpus 1 8 64] [--flops-per-second 18e12] [--help]

Nothing is run. Every input is an option; its help says whether it was measured with mrigen, follows from the
recipe, is quoted from a paper or is assumed. With a GPU at hand, give its own numbers: --teacher-speed
and --student-speed (images per second and GPU, the rate that the progress bar of `mrigen run` shows).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

from benchmarks.arguments import new_file, whole, whole_or_zero

from mrigen import recipe

# Forward passes that an image costs. Teacher: forward, and twice as much backward. Student: the fake score is
# shown an image (1) and updated (3); the generator makes one (1), both scores see it (2), gradients flow
# through them (2) and into the generator (2).
PASSES = {"teacher": 3, "student": 11}
DAY = 86_400
Row = dict[str, float | str]

INPUTS: dict[str, tuple[float, str]] = {
    "slices": (1.6e6, "of 10,000 volumes"),
    "prep-seconds": (0.3, "preparation, per slice and core; measured, 16 coils, 640 x 320"),
    "raw-megabytes": (26.2, "raw k-space per slice: 16 coils x 640 x 320 complex64"),
    "store-megabytes": (4.1, "store per slice; measured, 4 virtual coils, 320 x 320"),
    "reference-megabytes": (0.8, "references per slice; measured"),
    "cores-per-gpu": (16, "processor cores that come with a GPU; assumed"),
    "disk-gigabytes": (5, "per second, shared file system, all nodes together; assumed"),
    "network-gigabytes": (25, "per second and node, gradients; assumed (200 Gbit/s)"),
    "gpus-per-node": (8, "assumed; within a node gradients cost nothing beside the step"),
    "flops-per-second": (18e12, "of a GPU in training; DCD: 100 M images, 64 x 64, 2 days, 8 A6000"),
    "teacher-speed": (0, "training images per second and GPU; 0 to follow from flops-per-second"),
    "student-speed": (0, "distillation images per second and GPU; 0 to follow from flops-per-second"),
    "teacher-images": (0, "length of the training; 0 for the recipe's"),
    "student-images": (0, "length of the distillation; 0 for the recipe's"),
    "gpu-price": (2.5, "per GPU and hour, cores included; assumed"),
    "core-price": (0.04, "per core and hour, preparation; assumed"),
    "disk-price": (20, "per TB and month; assumed"),
}


@dataclass(frozen=True)
class Network:
    """Parameters, and floating-point operations of a forward pass of one image."""

    parameters: float
    forward: float


def counted_network(name: str) -> Network:
    """Count the operations of a recipe's network without computing anything."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from mrigen.networks import NETWORKS

    tree = recipe.resolved(name)
    height, width = tree["data"]["prep"]["crop"]
    spec = {"resolution": height, "in_channels": 4, "out_channels": 2, **tree["teacher"]["network"]}
    with FakeTensorMode():
        network = NETWORKS.build(spec)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 4, height, width), torch.empty(1))
        parameters = sum(p.numel() for p in network.parameters())
    return Network(parameters, counter.get_total_flops())


def training(
    inputs: dict[str, float], network: Network, gpus: int, which: str, batch: int, length: float
) -> Row:
    """Days and cost of a training on so many GPUs, and what bounds it.

    A step takes as long as the slower of computing and of reading the next slices, and then the gradients'
    way: 2 x 4 bytes per parameter and updated network through a node's link, where there are several nodes.
    """
    speed = inputs[f"{which}-speed"] or inputs["flops-per-second"] / (PASSES[which] * network.forward)
    used = max(n for n in range(1, gpus + 1) if batch % n == 0)
    updates, read = (1, batch * inputs["store-megabytes"]) if which == "teacher" else (2, 0.0)
    link = 8 * network.parameters / (inputs["network-gigabytes"] * 1e9)
    parts = {
        "GPUs": batch / used / speed,
        "disk": read * 1e6 / (inputs["disk-gigabytes"] * 1e9),
        "network": updates * link if used > inputs["gpus-per-node"] else 0.0,
    }
    step = max(parts["GPUs"], parts["disk"]) + parts["network"]
    days = length / batch * step / DAY
    return {
        "stage": which,
        "gpus": gpus,
        "batch": batch,
        "used": used,
        "images/s": batch / step,
        "days": days,
        "cost": days * 24 * used * inputs["gpu-price"],
        "bound": f"batch: {gpus - used} GPUs idle" if used < gpus else max(parts, key=lambda n: parts[n]),
    }


def preparation(inputs: dict[str, float], gpus: int) -> Row:
    """Days and cost of the preparation on the cores that come with so many GPUs."""
    cores = gpus * inputs["cores-per-gpu"]
    compute = inputs["slices"] * inputs["prep-seconds"] / cores
    moved = inputs["slices"] * (inputs["raw-megabytes"] + inputs["store-megabytes"]) * 1e6
    reading = moved / (inputs["disk-gigabytes"] * 1e9)
    seconds = max(compute, reading)
    return {
        "stage": "preparation",
        "gpus": gpus,
        "used": cores,
        "images/s": inputs["slices"] / seconds,
        "days": seconds / DAY,
        "cost": cores * seconds / 3600 * inputs["core-price"],
        "bound": "disk" if reading > compute else "cores",
    }


def table(inputs: dict[str, float], name: str, network: Network, gpus: list[int], scaled: int) -> list[Row]:
    """All rows: preparation, and both trainings with the recipe's batch and with another."""
    tree = recipe.resolved(name)
    rows = [preparation(inputs, count) for count in gpus]
    for which, section in (("teacher", tree["teacher"]), ("student", tree["distill"])):
        length = inputs[f"{which}-images"] or section["images"]
        for batch in dict.fromkeys([section["batch"], scaled or section["batch"]]):
            rows += [training(inputs, network, count, which, batch, length) for count in gpus]
    return rows


def show(inputs: dict[str, float], network: Network, rows: list[Row]) -> None:
    kept = {
        name: inputs["slices"] * inputs[f"{name}-megabytes"] / 1e6 for name in ("raw", "store", "reference")
    }
    price = (kept["store"] + kept["reference"]) * inputs["disk-price"]
    print(
        f"network: {network.parameters / 1e6:.1f} M parameters, {network.forward / 1e12:.2f} TFLOP per image"
    )
    print("storage: " + ", ".join(f"{name} {size:.1f} TB" for name, size in kept.items()), end="; ")
    print(f"store and reference cost {price:.0f} a month")
    print("\n| stage | GPUs | batch | works | images/s | days | cost | bound by |")
    print("|" + "---|" * 8)
    for row in rows:
        unit = "cores" if row["stage"] == "preparation" else "GPUs"
        print(
            f"| {row['stage']} | {row['gpus']} | {row.get('batch', '')} | {row['used']:g} {unit} "
            f"| {row['images/s']:.3g} | {row['days']:.3g} | {row['cost']:,.0f} | {row['bound']} |"
        )


def main() -> None:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--recipe", default="fastmri/brain-r4")
    parser.add_argument("--gpus", type=whole, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--scaled-batch", type=whole_or_zero, default=64, help="a batch beside the recipe's; 0: none"
    )
    for name, (value, words) in INPUTS.items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"{words} (default {value:g})")
    parser.add_argument("--json", type=new_file, help="file for the numbers")
    options = parser.parse_args()
    inputs = {name: getattr(options, name.replace("-", "_")) for name in INPUTS}
    network = counted_network(options.recipe)
    rows = table(inputs, options.recipe, network, options.gpus, options.scaled_batch)
    show(inputs, network, rows)
    if options.json:
        options.json.write_text(json.dumps({"inputs": inputs, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
