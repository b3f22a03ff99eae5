"""Sets of pictures as other programs write them; one decoder for preparation and evaluation."""

import gzip
import io
import json
import os
import re
import tarfile
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from mrigen.cli.main import run
from mrigen.data import archives
from mrigen.data.image_manifest import ImageManifest
from mrigen.data.images import open_images
from mrigen.errors import UsageError
from mrigen.metrics.reference import open_reference
from mrigen.prep.images.sources import open_set


def picture(seed, side=16):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3))
    return np.kron(coarse, np.ones((side // 4, side // 4, 1))).astype(np.uint8)


def transparent(seed):
    alpha = np.zeros((16, 16, 1), np.uint8)
    alpha[4:12, 4:12] = 255
    return Image.fromarray(np.dstack([picture(seed), alpha]))


def turned(seed):
    image = Image.fromarray(picture(seed)[:, :, :])
    image.getexif()[0x112] = 6
    return image


def deep(seed):
    return Image.fromarray((picture(seed)[..., 0].astype(np.uint16) * 257 + seed).astype(np.uint16))


def palette(seed):
    return Image.fromarray(picture(seed)).quantize(16)


@pytest.mark.parametrize("make", [transparent, turned, deep, palette])
def test_a_set_is_evaluated_as_it_was_prepared(tmp_path, make):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        image = make(i)
        image.save(folder / f"{i}.png", exif=image.getexif())
    (folder / "._0.png").write_bytes(b"of another system")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "1.png").write_bytes(b"of another system")
    assert run(["prep-images", str(folder), "--out", str(tmp_path / "store"), "--jobs", "1"]) == 0
    reference = open_reference(tmp_path / "store-reference", "train")
    pool = open_images(folder)
    assert len(pool) == len(reference) == 4
    torch.testing.assert_close(torch.cat(list(pool.read(4))), reference.images([0, 1, 2, 3]))


def test_grey_pictures_among_coloured_ones_are_coloured(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(picture(i) if i < 3 else picture(i)[..., 0]).save(folder / f"{i}.png")
    assert run(["prep-images", str(folder), "--out", str(tmp_path / "store"), "--jobs", "1"]) == 0
    reference = open_reference(tmp_path / "store-reference", "train")
    torch.testing.assert_close(torch.cat(list(open_images(folder).read(4))), reference.images([0, 1, 2, 3]))


def test_names_that_are_no_text_are_written_in_hexadecimal(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(picture(i)).save(folder / f"{i}.png")
    try:
        (folder / "1.png").rename(folder / os.fsdecode(b"\xff 1.png"))
    except OSError:
        pytest.skip("the file system takes text only")
    assert run(["prep-images", str(folder), "--out", str(tmp_path / "store"), "--jobs", "1"]) == 0
    assert [item.name for item in open_set(str(folder)).items] == ["0.png", "\\xff 1.png"]
    assert len(open_images(folder)) == 2


def test_a_zip_with_backslashes_has_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "win.zip", "w") as archive:
        for i in range(6):
            content = io.BytesIO()
            Image.fromarray(picture(i)).save(content, "PNG")
            member = zipfile.ZipInfo("x")
            member.filename = f"{'train' if i < 4 else 'test'}\\{i}.png"
            archive.writestr(member, content.getvalue())
    assert (
        run(["prep-images", str(tmp_path / "win.zip"), "--out", str(tmp_path / "store"), "--jobs", "1"]) == 0
    )
    shards = ImageManifest.load(tmp_path / "store").shards
    assert {s.split: s.images for s in shards} == {"train": 4, "test": 2}
    assert len(open_images(tmp_path / "win.zip")) == 6


@pytest.mark.parametrize("inside", ["", "train"])
def test_names_of_folders_are_classes(tmp_path, inside):
    for i in range(6):
        folder = tmp_path / "set" / inside / ("dog", "cat")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(folder / f"{i}.png")
    labels = {
        item.name.rsplit("/", 1)[-1]: item.label
        for item in open_set(str(tmp_path / "set"), labels=True).items
    }
    assert labels == {f"{i}.png": 1 - i % 2 for i in range(6)}


def test_folders_without_classes_have_no_labels(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "0.png")
    with pytest.raises(UsageError, match=r"no dataset.json with labels here, and no folder for each class"):
        open_set(str(tmp_path), labels=True)


def write_tar(path, members, mode, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=form) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def encoded(seed):
    content = io.BytesIO()
    Image.fromarray(picture(seed)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("ending", "mode", "form"),
    [
        ("tar", "w", tarfile.USTAR_FORMAT),
        ("TAR.GZ", "w:gz", tarfile.GNU_FORMAT),
        ("tbz2", "w:bz2", tarfile.PAX_FORMAT),
        ("tar.xz", "w:xz", tarfile.PAX_FORMAT),
        ("bin", "w", tarfile.PAX_FORMAT),
        ("zip", "", 0),
    ],
)
def test_every_archive_is_read_as_a_folder_is(tmp_path, ending, mode, form):
    """With labels, parts, stray files and names in any order, by preparation and by evaluation."""
    long = (
        "b" * 60 if form == tarfile.USTAR_FORMAT else "ä" * 40 + " " + "b" * 20
    )  # more than 100 bytes are an extension in tar
    members = {f"set/{p}/{c}/{long} {i}.png": encoded(i) for i, (p, c) in enumerate(
        [("train", "dog"), ("test", "cat"), ("train", "cat"), ("test", "dog")])}  # fmt: skip
    stray = {
        "set/._1.png": b"x",
        "__MACOSX/set/train/1.png": b"x",
        "set/readme.txt": b"x",
        "set/.hid/1.png": b"",
    }
    folder, path = tmp_path / "folder", tmp_path / f"images.{ending}"
    for name, content in (members | stray).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    dotted = {f"./{name}": content for name, content in (members | stray).items()}
    if ending == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (members | stray).items():
                archive.writestr(name, content)
    else:
        write_tar(path, dotted, mode, form)
    expected, found = open_set(str(folder), labels=True), open_set(str(path), labels=True)
    assert found.items == expected.items
    assert found.ignored == expected.ignored == 4
    assert {item.part for item in found.items} == {"train", "test"}
    assert found.digest() == expected.digest()
    torch.testing.assert_close(next(open_images(path).read()), next(open_images(folder).read()))
    out = tmp_path / "store"
    assert run(["prep-images", str(path), "--out", str(out), "--labels", "--jobs", "2"]) == 0
    assert {s.split: s.images for s in ImageManifest.load(out).shards} == {"train": 2, "test": 2}
    assert run(["prep-images", str(path), "--out", str(out), "--labels", "--jobs", "1"]) == 0


@pytest.mark.parametrize("kept", [False, True])
def test_labels_count_from_their_own_folder(tmp_path, kept):
    """A data set of EDM, packed with the folder that it lies in."""
    labels = json.dumps({"labels": [["00000/a.png", 1], ["00001/a.png", 1]]}).encode()
    members = {"edm/00000/a.png": encoded(0), "edm/00001/a.png": encoded(1), "edm/dataset.json": labels}
    path = write_tar(tmp_path / "x.tar", members, "w:gz" if kept else "w")
    assert [item.label for item in open_set(str(path), labels=True).items] == [1, 1]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
    "damage", ["cut in a member", "cut in a header", "overwritten header", "twice", "long name"]
)
def test_damaged_tar_archives_are_refused(tmp_path, mode, damage):
    members = {f"{i}.png": encoded(i) for i in range(4)}
    plain = bytearray(write_tar(tmp_path / "plain.tar", members, "w").read_bytes())
    header = plain.index(b"2.png\0")
    if damage == "cut in a member":
        plain = plain[: header + 520]
    elif damage == "cut in a header":
        plain = plain[: header + 100]
    elif damage == "overwritten header":
        plain[header : header + 300] = b"?" * 300
    elif damage == "twice":
        plain[header : header + 512] = plain[:512]
    else:
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
        plain[header : header + 512] = info.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "x.tar"
    path.write_bytes(plain if mode == "w" else gzip.compress(bytes(plain)))
    for read in (open_set, open_images):
        with pytest.raises(
            UsageError, match="twice; pack it again" if damage == "twice" else "not a readable tar"
        ):
            read(str(path) if read is open_set else path)


def test_a_compressed_tar_that_memory_does_not_hold_is_refused(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "x.tar.gz", {"0.png": encoded(0), "1.png": encoded(1)}, "w:gz")
    monkeypatch.setattr(archives, "KEPT_BYTES", 100)
    with pytest.raises(UsageError, match=r"tar -xf x.tar.gz"):
        open_set(str(path))


@pytest.mark.parametrize("name", ["arr_0", "images", "anything"])
def test_an_array_of_bytes_is_a_set(tmp_path, name):
    pixels = np.stack([picture(i) for i in range(5)])
    np.savez(tmp_path / "real.npz", **{name: pixels})
    found = open_set(str(tmp_path / "real.npz"))
    assert len(found) == 5
    np.testing.assert_array_equal(np.asarray(found.picture(3).image), pixels[3])
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(torch.cat(list(open_images(tmp_path / "real.npz").read(5))), expected)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("low", [0, -1])
def test_arrays_of_floats_are_prepared_as_they_are_evaluated(tmp_path, colour, low):
    pixels = np.random.default_rng(0).random((4, 16, 16, 3 if colour else 1)) * (1 - low) + low
    path = tmp_path / "x.npy"
    np.save(path, pixels.astype(np.float32))
    with pytest.warns(UserWarning, match="0 ... 1") if low == 0 else nullcontext():
        expected = next(open_images(path).read())
    with (
        pytest.warns(UserWarning, match="rounded to 8 bits|0 ... 1") if colour or low == 0 else nullcontext()
    ):
        assert run(["prep-images", str(path), "--out", str(tmp_path / "store"), "--jobs", "1"]) == 0
    found = open_reference(tmp_path / "store-reference", "train").images([0, 1, 2, 3])
    torch.testing.assert_close(found, expected, atol=1 / 255 if colour else 1e-6, rtol=0)


@pytest.mark.parametrize(
    ("array", "said"),
    [(np.full((3, 4, 4), np.nan), "NaN"), (np.ones((3, 4, 4, 4), np.uint8), "4 channels"),
     (np.ones((3, 4, 4), np.complex64), "complex images"), (np.ones((3, 4, 4), np.uint16), "not uint16")],
)  # fmt: skip
def test_arrays_that_are_no_pictures(tmp_path, array, said):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UsageError, match=said):
        open_set(str(tmp_path / "x.npy"))


@pytest.mark.parametrize(("white", "said"), [(1.0, "0 ... 1"), (255.0, "0 ... 255")])
def test_a_guess_of_the_range_warns(tmp_path, white, said):
    pixels = np.stack([picture(i) for i in range(3)]).astype(np.float32) / 255 * white
    np.savez(tmp_path / "x.npz", images=pixels.transpose(0, 3, 1, 2))
    with pytest.warns(UserWarning, match=said):
        pool = open_images(tmp_path / "x.npz")
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2) * (2 / white) - 1
    torch.testing.assert_close(torch.cat(list(pool.read(3))), expected)


@pytest.mark.parametrize("ending", ["npz", "npy", "safetensors"])
def test_arrays_of_any_file_are_evaluated(tmp_path, ending):
    pixels, path = np.stack([picture(i) for i in range(3)]), tmp_path / f"x.{ending}"
    if ending == "safetensors":
        save_file({"images": pixels, "seeds": np.arange(3)}, path)
    else:
        np.savez(path, images=pixels) if ending == "npz" else np.save(path, pixels)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(torch.cat(list(open_images(path).read(3))), expected)
    with pytest.raises(UsageError, match=r"no such file or folder"):
        open_images(tmp_path / f"y.{ending}")


@pytest.mark.parametrize(
    ("part", "said"),
    [("train", "--split train=0.9,test=0.1"), ("test", "references in split 'test' of .*: 1 is too few")],
)
def test_a_store_that_cannot_be_evaluated_is_refused_before_training(tmp_path, capsys, part, said):
    for i in range(8):
        folder = tmp_path / "pictures" / ("train" if i else part)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(folder / f"{i}.png")
    store, out = str(tmp_path / "store"), tmp_path / "run"
    assert run(["prep-images", str(tmp_path / "pictures"), "--out", store, "--jobs", "1"]) == 0
    assert run(["run", "toy/digits-inpaint", "--smoke", "--data", store, "--out", str(out)]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not out.exists()


def test_labels_of_edm_still_come_first(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}").mkdir()
        Image.fromarray(picture(i)).save(tmp_path / f"{i}" / "a.png")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["0/a.png", 5], ["1/a.png", 2]]}))
    assert [item.label for item in open_set(str(tmp_path), labels=True).items] == [5, 2]
