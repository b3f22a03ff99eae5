"""Names, outputs and files of the wrong kind, for every command; pictures and archives; a full disk."""

import errno
import io
import os
import shutil
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from mrigen.cli.main import run

NAMES = {
    "line break": "a\nb",
    "Unicode": "é日本 \u202e\u2028",
    "escape codes": "\x1b[31mred\x07",
    "markup": "[bold]x[|red]",
    "too long": "x" * 300,
    "half a letter": os.fsdecode(b"\xff\xfe"),
}


def commands(path, *, stores, samples, model, tiny, out):
    """Every command with ``path`` as what it reads."""
    reference = ["--reference", stores / "images-reference", "--split", "all"]
    return {
        "simulate": ["simulate", "--out", out, "--anatomy", path],
        "prep-fastmri": ["prep-fastmri", path, "--out", out, "--acceleration", 2],
        "prep-images": ["prep-images", path, "--out", out],
        "train": ["train", tiny, "--data", path, "--out", out],
        "recipe": ["train", f"{path}.yaml", "--out", out],
        "distill": ["distill", tiny, "--teacher", path, "--data", stores / "images", "--out", out],
        "sample": ["sample", path, "--out", out],
        "reconstruct": ["reconstruct", path, "--solver", "zero-filled", "--out", out],
        "evaluate": ["evaluate", path, *reference],
        "evaluate reference": ["evaluate", samples, "--reference", path],
        "evaluate data": ["evaluate", samples, "--proximal", "--data", path],
        "held-out": ["evaluate", model, "--held-out", path],
        "audit": ["audit", path, "--data", stores / "images", "--out", out],
        "audit data": ["audit", samples, "--data", path, "--out", out],
        "import-checkpoint": ["import-checkpoint", path, out],
        "export": ["export", path, "--to", "safetensors", "--out", out],
        "recipes show": ["recipes", "show", f"{path}.yaml"],
        "doctor": ["doctor", path],
    }


READERS = [
    "simulate", "prep-fastmri", "prep-images", "train", "recipe", "distill", "sample", "reconstruct",
    "evaluate", "evaluate reference", "evaluate data", "held-out", "audit", "audit data",
    "import-checkpoint", "export", "recipes show", "doctor",
]  # fmt: skip


@pytest.fixture
def given(tmp_path, stores, samples, model, tiny):
    """The arguments of a command that reads a path."""

    def call(command, path):
        found = commands(path, stores=stores, samples=samples, model=model, tiny=tiny, out=tmp_path / "out")
        assert list(found) == READERS
        return found[command]

    return call


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", READERS)
def test_nothing_is_there(refused, given, tmp_path, command, name):
    refused(*given(command, tmp_path / NAMES[name]))


def torch_file(path):
    torch.save({"x": torch.ones(3)}, path)


def numpy_file(path):
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], object), allow_pickle=True)


def hdf5_file(path):
    with h5py.File(path, "w") as file:
        file["images"] = h5py.ExternalLink("/etc/passwd", "x")
        file["kspace"] = h5py.SoftLink("/kspace")


KINDS = {
    "empty": lambda p: p.write_bytes(b""),
    "noise": lambda p: p.write_bytes(np.random.default_rng(0).bytes(5000)),
    "pickle": lambda p: p.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR."),
    "torch": torch_file,
    "numpy of objects": numpy_file,
    "linking HDF5": hdf5_file,
    "empty folder": lambda p: p.mkdir(),
    "circle of links": lambda p: p.symlink_to(p),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", [c for c in READERS if c not in {"recipe", "recipes show"}])
def test_something_else_is_there(refused, given, tmp_path, command, kind):
    path = tmp_path / "given"
    KINDS[kind](path)
    refused(*given(command, path), report=command == "prep-fastmri")


def writers(out, *, stores, samples, model, tiny):
    """Every command that writes, with good input."""
    small = ["--kernel-width", 3, "--acs-lines", 4]
    raw = stores / "raw"
    return {
        "simulate": ["simulate", "--out", out, "--volumes", 1, "--slices", 1, "--matrix", 16, 16],
        "prep-fastmri": ["prep-fastmri", raw, "--out", out, "--acceleration", 2, *small, "--jobs", 1],
        "prep-images": ["prep-images", stores / "pictures", "--out", out, "--size", 8, "--jobs", 1],
        "train": ["train", tiny, "--data", stores / "images", "--out", out, "--device", "cpu"],
        "sample": ["sample", model, "--out", f"{out}.h5", "--seeds", "0-1", "--device", "cpu"],
        "sample zip": ["sample", model, "--out", f"{out}.zip", "--seeds", "0-1", "--device", "cpu"],
        "reconstruct": [
            *("reconstruct", next(raw.glob("*.h5")), "--solver", "zero-filled", "--out", out),
            *("--acceleration", 2, *small),
        ],
        "evaluate": [
            *("evaluate", samples, "--reference", stores / "images-reference", "--split", "train"),
            *("--features", "pixels", "--bootstrap", 0, "--out", f"{out}.json"),
        ],
        "audit": ["audit", samples, "--data", stores / "images", "--out", out],
        "export": ["export", model, "--to", "safetensors", "--out", out],
    }


WRITERS = [
    "simulate", "prep-fastmri", "prep-images", "train", "sample", "sample zip", "reconstruct", "evaluate",
    "audit", "export",
]  # fmt: skip


@pytest.fixture
def writing(stores, samples, model, tiny):
    """The arguments of a command that writes to a path."""

    def call(command, out):
        found = writers(out, stores=stores, samples=samples, model=model, tiny=tiny)
        assert list(found) == WRITERS
        return found[command]

    return call


OUTPUTS = {
    "below a file": lambda folder: folder / "file" / "out",
    "below a device": lambda folder: "/dev/null/out",
    "where nobody may write": lambda folder: "/proc/out",
    "too long a name": lambda folder: folder / ("x" * 300),
    "below a circle of links": lambda folder: folder / "circle" / "out",
}


@pytest.mark.parametrize("place", OUTPUTS)
@pytest.mark.parametrize("command", WRITERS)
def test_outputs_that_cannot_be(refused, writing, tmp_path, tmp_path_factory, monkeypatch, command, place):
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # with the cache of statistics
    (tmp_path / "file").write_text("mine")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refused(*writing(command, OUTPUTS[place](tmp_path)))
    assert (tmp_path / "file").read_text() == "mine"


def test_collected_images_do_not_go_where_a_link_leads(refused, tmp_path, model):
    (tmp_path / "mine").mkdir()
    (tmp_path / ".out.h5.partial").symlink_to(tmp_path / "mine")
    refused("sample", model, "--out", tmp_path / "out.h5", "--seeds", "0-1", "--device", "cpu")


@pytest.mark.parametrize("command", WRITERS)
def test_a_full_disk(writing, tmp_path, monkeypatch, capsys, command):
    """The disk is full when the first file is flushed: one line, and no half-written file."""

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    arguments = [str(a) for a in writing(command, tmp_path / "out")]
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "fsync", full)
    assert run(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mrigen: ")
    assert "No space left" in error
    assert not [p for p in tmp_path.rglob("*") if p.suffix in {".tmp", ".json", ".h5", ".zip"}]


def png(width, height, mode="L"):
    file = io.BytesIO()
    Image.new(mode, (width, height), 7).save(file, "PNG")
    return file.getvalue()


def declared(width, height):
    """A PNG whose header says this size and whose data are those of another."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = png(8, 8)
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def animated(form):
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (60 * i, 0, 0)) for i in range(3)]
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def saved(mode, form):
    file = io.BytesIO()
    Image.new(mode, (8, 8), 1 if mode == "F" else 70000).save(file, form)
    return file.getvalue()


PICTURES = {
    "65535 x 65535": lambda: declared(65535, 65535),
    "2^31 x 1": lambda: declared((1 << 31) - 1, 1),
    "zero wide": lambda: declared(0, 8),
    "animated GIF": lambda: animated("GIF"),
    "animated WebP": lambda: animated("WEBP"),
    "animated PNG": lambda: animated("PNG"),
    "stack of TIFF": lambda: animated("TIFF"),
    "floats": lambda: saved("F", "TIFF"),
    "32 bits": lambda: saved("I", "TIFF"),
    "text": lambda: b"picture",
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    **{f"cut at {part} of 8": lambda part=part: noisy()[: len(noisy()) * part // 8] for part in range(1, 8)},
}


def noisy():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_alone_are_refused(refused, tmp_path, kind):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a\n[b].png").write_bytes(PICTURES[kind]())
    refused("prep-images", tmp_path / "raw", "--out", tmp_path / "store", "--size", 8, "--jobs", 1)


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_among_others_are_left_out(tmp_path, capsys, stores, kind):
    raw = shutil.copytree(stores / "pictures", tmp_path / "raw")
    (raw / "z\n[b].png").write_bytes(PICTURES[kind]())
    out = tmp_path / "store"
    command = ["prep-images", raw, "--out", out, "--size", 8, "--jobs", 1, "--operator", "identity"]
    assert run([str(a) for a in command]) == 1
    assert "1 left out" in capsys.readouterr().out
    assert run(["doctor", str(out)]) == 0


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_no_samples(refused, tmp_path, stores, kind):
    with zipfile.ZipFile(tmp_path / "samples.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"../{number}.png", PICTURES[kind]())
    against = ["--reference", stores / "images-reference", "--split", "train", "--features", "pixels"]
    refused("evaluate", tmp_path / "samples.zip", *against, "--bootstrap", 0)
