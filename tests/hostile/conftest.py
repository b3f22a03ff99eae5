"""The command in this process, with bounded memory, and what a refusal must look like."""

import importlib
import re
import resource
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.folder import save_model
from mrigen.cli.main import run
from mrigen.networks import NETWORKS, PRECONDITIONERS

GIB = 1 << 30
SECONDS = 10  # of the processor; other programs may need it too
PATIENCE = 100  # by the clock
PROGRESS = re.compile(r"[^:]+: \d+/\d+ \w+, |warning: ")  # of a bar without a terminal, and advice
NETWORK = {
    "name": "song-unet",
    "resolution": 8,
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 8,
    "channel_mult": [1],
    "num_blocks": 1,
    "attn_resolutions": [],
}


@pytest.fixture(scope="session", autouse=True)
def imported():
    """Time and memory are bounded for commands, not for what they import first."""
    for name in ("torch._dynamo", "mrigen.recipe.study", "mrigen.recipe.comparison"):
        importlib.import_module(name)


@pytest.fixture(autouse=True)
def bounded_memory(imported):
    """1 GiB more than what is mapped now; an allocation beyond it fails, and so does the test."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + GIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def listed(folder):
    """Every file and folder below one, links not followed."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def bounded_time(imported):
    """A test that computes or waits for too long is interrupted."""

    def ring(number, frame):
        raise AssertionError("the command does not end")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, PATIENCE)}
    before = {number: signal.signal(number, ring) for number, _ in timers.values()}
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    yield
    for timer in timers:
        signal.setitimer(timer, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Run a command that must be refused: one line, exit code 2, nothing written; returns the line.

    With ``report``, a preparation may instead name the file in its report and end with exit code 1.
    """

    monkeypatch.setenv("COLUMNS", "1000")

    def call(*arguments, report=False):
        before = listed(tmp_path)
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        said = capsys.readouterr()
        assert not re.search("Traceback|MemoryError", said.out + said.err)
        if code == 1 and report:
            assert Path(arguments[1]).name in said.out
            assert listed(tmp_path) == before
            return said.out
        assert code == 2, (code, said.err)
        lines = [line for line in said.err.split("\n") if not PROGRESS.match(line)]
        assert len(lines) == 2, said.err
        assert lines[0].startswith("mrigen: "), said.err
        assert lines[0].isprintable()
        assert listed(tmp_path) == before
        return said.err

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Model folder of a one-step generator with random weights."""
    folder = tmp_path_factory.mktemp("model") / "generator"
    network = PRECONDITIONERS.build({"name": "edm"}, network=NETWORKS.build(NETWORK))
    description = ModelDescription(
        network=NETWORK,
        preconditioner={"name": "edm"},
        conventions=ChannelLayout(image="real", image_channels=1, mask_channels=0, ones_channel=False),
        image_shape=(1, 8, 8),
        role="generator",
        sigma_init=2.5,
        generator_input="full",
    )
    save_model(folder, network, description)
    return folder


def write_pictures(folder, count=4):
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("L", (8, 8), 40 * index).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """An MRI store and an image store, with their references, and what they were made from."""
    root = tmp_path_factory.mktemp("stores")
    simulate = ["simulate", "--out", str(root / "raw"), "--volumes", "1", "--slices", "2", "--matrix", "16"]
    assert run([*simulate, "16", "--coils", "2"]) == 0
    prep = ["prep-fastmri", str(root / "raw"), "--out", str(root / "mri"), "--acceleration", "2"]
    assert run([*prep, "--acs-lines", "4", "--kernel-width", "3", "--no-noise-whitening", "--jobs", "1"]) == 0
    write_pictures(root / "pictures")
    prep = ["prep-images", str(root / "pictures"), "--operator", "inpainting:missing=0.5", "--size", "8"]
    assert run([*prep, "--out", str(root / "images"), "--jobs", "1"]) == 0
    return root


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """Generated images, 8 of 1 x 8 x 8."""
    path = tmp_path_factory.mktemp("samples") / "samples.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.random.default_rng(0).uniform(-1, 1, (8, 1, 8, 8)).astype(np.float32)
        file["seeds"] = np.arange(8)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A valid recipe of images."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


TINY = """\
title: tiny
data:
  images: {source: digits, operator: {name: inpainting, missing: 0.5}, size: 8}
teacher:
  network: {name: song-unet, model_channels: 8, channel_mult: [1], num_blocks: 1, attn_resolutions: []}
  optimizer: {lr: 1e-3}
  images: 8
  batch: 4
  ema_halflife: 100
distill:
  loss: {name: sid}
  images: 8
  batch: 4
  ema_halflife: 100
  generator: {lr: 1e-4}
  fake: {lr: 1e-4}
evaluate:
  samples: 8
  sampler: {name: heun, steps: 3}
"""
