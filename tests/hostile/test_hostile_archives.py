"""Archives of strangers: links, bombs, lies about sizes, labels that are none."""

import io
import json
import stat
import struct
import tarfile
import zipfile
from functools import partial

import pytest
import zips
from PIL import Image

archive = partial(zips.archive, compression=zipfile.ZIP_DEFLATED)


def picture():
    file = io.BytesIO()
    Image.new("L", (8, 8), 7).save(file, "PNG")
    return file.getvalue()


def link():
    info = zipfile.ZipInfo("a.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return archive({info: "/etc/passwd"})


def altered(local, central, form, value):
    """Both headers of a member say something else, at their places in bytes."""
    content = bytearray(archive({"a.png": picture()}))
    directory = content.index(b"PK\x01\x02")
    for place in (local, directory + central):
        struct.pack_into(form, content, place, value)
    return bytes(content)


def declared(size):
    return altered(22, 24, "<I", size)


def encrypted():
    return altered(6, 8, "<H", 1)


def method(number):
    return altered(8, 10, "<H", number)


def offset(value):
    """The directory says that the member begins elsewhere."""
    content = bytearray(archive({"a.png": picture()}))
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 42, value)
    return bytes(content)


def labels(tree):
    return archive({"a.png": picture(), "dataset.json": json.dumps(tree)})


def tar(**changes):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as opened:
        info = tarfile.TarInfo("a.png")
        for name, value in changes.items():
            setattr(info, name, value)
        info.size = 0
        opened.addfile(info)
    return file.getvalue()


ZIPS = {
    "nothing": b"",
    "the end alone": b"PK\x05\x06" + bytes(18),
    "no member": archive({}),
    "a folder": archive({"a/": b""}),
    "a symbolic link": link(),
    "a zip in a zip": archive({"a.png": archive({"a.png": picture()})}),
    "zeros": archive({"a.png": bytes(1 << 26)}),
    "declares 4 GiB": declared((1 << 32) - 2),
    "declares nothing": declared(0),
    "begins behind the end": offset(1 << 31),
    "begins in itself": offset(7),
    "encrypted": encrypted(),
    "unknown compression": method(1234),
    "cut off": archive({"a.png": picture()})[:-30],
    "name of NUL": archive({"a\0.png": b"x"}),
    "labels of nothing": labels(None),
    "labels of words": labels({"labels": "all"}),
    "labels of another": labels({"labels": [["b.png", 1]]}),
    "labels below zero": labels({"labels": [["a.png", -3]]}),
    "labels of 2^70": labels({"labels": [["a.png", 1 << 70]]}),
    "labels of NaN": labels({"labels": [["a.png", [float("nan"), 1.0]]]}),
    "labels nested": archive({"a.png": picture(), "dataset.json": "[" * 100_000}),
    "labels of 2^26 letters": archive({"a.png": picture(), "dataset.json": b" " * (1 << 26)}),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_zips(refused, tmp_path, kind):
    path = tmp_path / "a\n[b].zip"
    path.write_bytes(ZIPS[kind])
    options = ["--labels"] if kind.startswith("labels") else []
    refused("prep-images", path, "--out", tmp_path / "store", "--size", 8, "--jobs", 1, *options)


TARS = {
    "link": tar(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": tar(type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": tar(type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "pipe": tar(type=tarfile.FIFOTYPE),
    "cut off": tar()[:20],
}


@pytest.mark.parametrize("kind", TARS)
def test_tars(refused, tmp_path, kind):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(TARS[kind])
    refused("prep-images", path, "--out", tmp_path / "store", "--size", 8, "--jobs", 1)


@pytest.mark.parametrize("kind", ZIPS)
def test_zips_as_samples(refused, tmp_path, stores, kind):
    """Labels are not read there, so that some of them are pictures: one is too few."""
    path = tmp_path / "samples.zip"
    path.write_bytes(ZIPS[kind])
    against = ["--reference", stores / "images-reference", "--split", "train", "--features", "pixels"]
    refused("evaluate", path, *against, "--bootstrap", 0)


def array(shape, descr="'|u1'", data=bytes(64)):
    """A numpy file that declares a shape and a type."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


NPZS = {
    "nothing": b"",
    "another key": archive({"x.npy": array((2, 4, 4, 3))}),
    "no array": archive({"arr_0.npy": b"x"}),
    "cut off": archive({"arr_0.npy": array((9, 8, 8, 3))}),
    "absurd shape": archive({"arr_0.npy": array((1 << 40, 8, 8, 3))}),
    "overflowing shape": archive({"arr_0.npy": array((1 << 62, 1 << 62, 8, 3))}),
    "negative shape": archive({"arr_0.npy": array((-1, 8, 8, 3))}),
    "one image": archive({"arr_0.npy": array((1, 8, 8, 1))}),
    "no image": archive({"arr_0.npy": array((0, 8, 8, 1))}),
    "two dimensions": archive({"arr_0.npy": array((8, 8))}),
    "objects": archive({"arr_0.npy": array((2,), "'|O'", b"cos\nsystem\n(S'true'\ntR.")}),
    "words": archive({"arr_0.npy": array((2, 4, 4, 2), "'|S1'")}),
    "unknown type": archive({"arr_0.npy": array((2,), "'nonsense'")}),
    "header of code": archive({"arr_0.npy": array("__import__('os').system('true')")}),
    "header nested": archive({"arr_0.npy": array("(" * 5000 + ")" * 5000)}),
}


@pytest.mark.parametrize("kind", NPZS)
def test_npz_as_samples(refused, tmp_path, stores, kind):
    path = tmp_path / "samples.npz"
    path.write_bytes(NPZS[kind])
    against = ["--reference", stores / "images-reference", "--split", "train", "--features", "pixels"]
    refused("evaluate", path, *against, "--bootstrap", 0)
