"""The commands of the soak, on data so small that each takes a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.soak_faults import run_forked

TINY = """\
title: soak
data:
  images:
    {source: digits, operator: {name: inpainting, missing: 0.5}, limit: 48, split: {train: 0.5, test: 0.5}}
teacher:
  network:
    {name: song-unet, model_channels: 8, channel_mult: [1], num_blocks: 1, attn_resolutions: [], dropout: 0.1}
  optimizer: {lr: 1e-3}
  images: 64
  batch: 4
  ema_halflife: 100
  snapshot_images: 8
distill:
  loss: {name: sid}
  images: 32
  batch: 4
  ema_halflife: [50, 100]
  snapshot_images: 4
  generator: {lr: 1e-4}
  fake: {lr: 1e-4}
  selection: {every_images: 16, samples: 8}
evaluate:
  features: pixels
  samples: 8
  sampler: {name: heun, steps: 3}
"""


@dataclass(frozen=True)
class Stage:
    """A command and where it writes; ``arguments`` may name the folder of the inputs as ``{inputs}``."""

    name: str
    arguments: str
    states: bool = False

    def command(self, inputs: Path) -> list[str]:
        """The arguments, to be run in the folder that the results go to."""
        return self.arguments.format(inputs=inputs).split()


SMALL = "--acceleration 2 --acs-lines 4 --kernel-width 3 --no-noise-whitening"
STAGES = [
    Stage("prep-fastmri", f"prep-fastmri {{inputs}}/raw --out out {SMALL} --jobs 1"),
    Stage(
        "prep-images", "prep-images {inputs}/pictures --operator inpainting:missing=0.5 --out out --jobs 1"
    ),
    Stage("train", "train {inputs}/tiny.yaml --data {inputs}/run/store --out out --device cpu", states=True),
    Stage(
        "distill",
        "distill {inputs}/tiny.yaml --data {inputs}/run/store --teacher {inputs}/run/teacher/model --out out "
        "--device cpu",
        states=True,
    ),
    Stage(
        "sample",
        "sample {inputs}/run/teacher/model --seeds 0-31 --steps 4 --batch 4 --out out.h5 --device cpu",
    ),
    Stage(
        "evaluate",
        "evaluate {inputs}/samples.h5 --reference {inputs}/run/store-reference --split test --proximal "
        "--data {inputs}/run/store --bootstrap 20 --metrics fd,precision --features pixels --cache cache "
        "--out out.json --device cpu",
    ),
    Stage("run", "run {inputs}/tiny.yaml --out out --device cpu", states=True),
]


def prepare_inputs(inputs: Path) -> None:
    """What the commands read, made once."""
    (inputs / "tiny.yaml").write_text(TINY)
    simulate = "simulate --out raw --volumes 4 --slices 2 --matrix 16 16 --coils 2"
    samples = "sample run/student/model --seeds 0-31 --out samples.h5 --device cpu"
    pictures = "sample run/student/model --seeds 0-99 --out pictures --device cpu"
    for command in (simulate, "run tiny.yaml --out run --device cpu", samples, pictures):
        ended = run_forked(command.split(), inputs)
        if ended.code:
            raise SystemExit(f"{command}: {ended.output}")
