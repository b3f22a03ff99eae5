"""Stores and model folders of strangers: manifests, arrays, descriptions and weights that lie."""

import json
import shutil
import struct

import h5py
import numpy as np
import pytest


def edit(path, change):
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def manifest(**changes):
    return lambda folder: edit(folder / "manifest.json", lambda tree: tree.update(changes))


def entry(**changes):
    """Change the first volume or shard of a manifest."""

    def make(folder):
        edit(
            folder / "manifest.json",
            lambda tree: (tree.get("volumes") or tree.get("shards"))[0].update(changes),
        )

    return make


def arrays(change):
    """Change the store's data file."""

    def make(folder):
        with h5py.File(next(folder.glob("*.h5")), "r+") as file:
            change(file)

    return make


def replace(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return arrays(change)


def cut(folder):
    path = next(folder.glob("*.h5"))
    path.write_bytes(path.read_bytes()[:-100])


MANIFESTS = {
    "empty": text("manifest.json", ""),
    "a list": text("manifest.json", "[]"),
    "deep": text("manifest.json", "[" * 100_000),
    "cut off": text("manifest.json", '{"data": "mri", "volumes": [{'),
    "NaN": text("manifest.json", '{"data": NaN}'),
    "another version": manifest(schema_version=2),
    "unknown key": manifest(secret=1),
    "unknown kind": manifest(kind="clean"),
    "unknown data": manifest(data="audio"),
    "path above": entry(file="../mri-reference/x.h5"),
    "absolute path": entry(file="/etc/passwd"),
    "no such file": entry(file="gone.h5"),
    "empty name": entry(file=""),
    "itself": entry(file="manifest.json"),
    "line break": entry(file="a\nb.h5"),
    "split of numbers": entry(split=3),
    "data cut off": cut,
    "data empty": lambda f: next(f.glob("*.h5")).write_bytes(b""),
    "data a folder": lambda f: (next(f.glob("*.h5")).unlink(), (f / "x.h5").mkdir(), entry(file="x.h5")(f)),
}
MRI = {
    "no volumes": manifest(volumes=[]),
    "shape of zero": entry(shape=[0, 0, 0]),
    "other shape": entry(shape=[2, 32, 32]),
    "absurd shape": entry(shape=[1 << 40, 1 << 40, 1 << 40]),
    "more slices": lambda f: edit(
        f / "manifest.json", lambda t: t["volumes"][0].update(slices=t["volumes"][0]["slices"] * 9)
    ),
    "unknown mask distribution": manifest(mask={"name": "os.system"}),
    "no samples": replace("samples", None),
    "no maps": replace("maps", None),
    "no mask": replace("mask", None),
    "no acquired": replace("acquired", None),
    "maps of another shape": replace("maps", np.ones((2, 2, 4, 4), np.complex64)),
    "maps of words": replace("maps", np.full((2, 2, 16, 16), b"x")),
    "real samples": replace("samples", np.ones((2, 2, 9), np.float32)),
    "scalar mask": replace("mask", True),
    "fewer points": replace("samples", np.ones((2, 2, 1), np.complex64)),
    "samples elsewhere": replace("samples", h5py.ExternalLink("/etc/passwd", "x")),
    "samples in a circle": replace("samples", h5py.SoftLink("/samples")),
    "mask of floats": replace("mask", np.ones((2, 1, 16), np.float64)),
}
IMAGES = {
    "no shards": manifest(shards=[]),
    "shape of zero": manifest(shape=[0, 0, 0]),
    "other shape": manifest(shape=[1, 16, 16]),
    "absurd shape": manifest(shape=[1, 1 << 40, 1 << 40]),
    "unknown operator": manifest(operator={"name": "eval"}),
    "more images": entry(images=1000),
    "negative images": entry(images=-1),
    "classes": manifest(classes=10),
    "no y": replace("y", None),
    "y of another shape": replace("y", np.ones((4, 3, 5, 5), np.float32)),
    "y of words": replace("y", np.full((4, 1, 8, 8), b"x")),
    "y elsewhere": replace("y", h5py.ExternalLink("/etc/passwd", "x")),
    "no sigma": replace("sigma", None),
    "sigma of words": replace("sigma", np.full(4, b"x")),
}
LIST = [("mri", k) for k in MANIFESTS | MRI] + [("images", k) for k in MANIFESTS | IMAGES]


@pytest.mark.parametrize(("data", "kind"), LIST)
def test_stores(refused, tmp_path, stores, tiny, data, kind):
    folder = shutil.copytree(stores / data, tmp_path / "store")
    own = MRI if data == "mri" else IMAGES
    {**MANIFESTS, **own}[kind](folder)
    recipe = "demo/brain" if data == "mri" else tiny
    small = ["--set", "teacher.images=8", "--set", "teacher.batch=4", "--device", "cpu"]
    refused("train", recipe, "--data", folder, "--out", tmp_path / "run", *small)


def tensors(change):
    """Change the header of the weights."""

    def make(folder):
        path = folder / "model.safetensors"
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        tree = json.loads(content[8 : 8 + size])
        change(tree)
        new = json.dumps(tree).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])

    return make


def first(tree):
    return tree[next(k for k in tree if k != "__metadata__")]


def weights(content):
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def description(**changes):
    return lambda folder: edit(folder / "model.json", lambda tree: tree.update(changes))


def network(**changes):
    return lambda folder: edit(folder / "model.json", lambda tree: tree["network"].update(changes))


MODELS = {
    "no description": lambda f: (f / "model.json").unlink(),
    "empty description": text("model.json", ""),
    "deep description": text("model.json", "[" * 100_000),
    "description of 2 MiB": text("model.json", " " * (2 << 20)),
    "unknown key": description(code="import os"),
    "unknown network": description(network={"name": "os.system"}),
    "network of nothing": description(network={}),
    "unknown preconditioner": description(preconditioner={"name": "x"}),
    "generator without sigma": description(sigma_init=None),
    "sigma of NaN": description(sigma_init=float("nan")),
    "sigma of infinity": description(sigma_init=float("inf")),
    "absurd image": description(image_shape=[1, 65536, 65536]),
    "negative image": description(image_shape=[1, -8, -8]),
    "absurd channels": network(model_channels=1 << 30),
    "no channels": network(model_channels=0),
    "other channels": network(model_channels=16),
    "absurd blocks": network(num_blocks=1 << 30),
    "absurd levels": network(channel_mult=[1 << 40]),
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "weights are a folder": lambda f: (
        (f / "model.safetensors").unlink(),
        (f / "model.safetensors").mkdir(),
    ),
    "empty weights": weights(b""),
    "pickled weights": weights(b"\x80\x04cos\nsystem\n(S'true'\ntR."),
    "header of 2^63": weights(struct.pack("<Q", 1 << 63) + b"{}"),
    "header of 2^30": weights(struct.pack("<Q", 1 << 30) + b"{}"),
    "header no JSON": weights(struct.pack("<Q", 4) + b"abcd"),
    "weights cut off": lambda f: weights((f / "model.safetensors").read_bytes()[:-5])(f),
    "offsets beyond": tensors(lambda t: first(t).update(data_offsets=[0, 1 << 40])),
    "offsets backwards": tensors(lambda t: first(t).update(data_offsets=[8, 0])),
    "unknown type": tensors(lambda t: first(t).update(dtype="PYTHON")),
    "absurd tensor": tensors(lambda t: first(t).update(shape=[1 << 40, 1 << 40])),
    "a tensor less": tensors(lambda t: t.pop(next(k for k in t if k != "__metadata__"))),
}


@pytest.mark.parametrize("kind", MODELS)
def test_models(refused, tmp_path, model, kind):
    folder = shutil.copytree(model, tmp_path / "model")
    MODELS[kind](folder)
    refused("sample", folder, "--out", tmp_path / "out.h5", "--seeds", "0-1", "--device", "cpu")
