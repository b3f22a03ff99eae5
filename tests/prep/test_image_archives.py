"""CIFAR-10's, MNIST's and zip archives, and archives of strangers who mean harm."""

import gzip
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from mrigen.data import archives
from mrigen.data.pixels import ImageError
from mrigen.errors import UsageError
from mrigen.prep.images.sources import open_set

from .pictures import png, python2_batch, python3_batch, random_pictures, write_tar, write_zip

FOLDER = "cifar-10-batches-py"


def rows(count):
    """Pictures of 32 x 32, and the same as CIFAR-10's rows: all red, then green, then blue."""
    pictures = random_pictures(count, 32, 32)
    return pictures, pictures.transpose(0, 3, 1, 2).reshape(count, -1)


@pytest.mark.parametrize("batch", [python2_batch, python3_batch])
def test_cifar_archive(tmp_path, batch):
    pictures, data = rows(6)
    members = {
        f"{FOLDER}/data_batch_1": batch(data[:4], [3, 1, 4, 1]),
        f"{FOLDER}/test_batch": batch(data[4:], [5, 9]),
        f"{FOLDER}/readme.html": b"<html>",
    }
    found = open_set(str(write_tar(tmp_path / "cifar-10-python.tar.gz", members)), labels=True)
    assert found.kind == "cifar10"
    assert [item.part for item in found.items] == ["train"] * 4 + ["test"] * 2
    assert [item.label for item in found.items] == [3, 1, 4, 1, 5, 9]
    for i in range(6):
        np.testing.assert_array_equal(np.asarray(found.picture(i).image), pictures[i])
    for name, content in members.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert open_set(str(tmp_path / FOLDER)).digest() != found.digest()
    assert open_set(str(tmp_path / FOLDER), labels=True).digest() == found.digest()


class Harm:
    """Pickles to a call of a function of the system."""

    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Harm(), b"labels": []}),
        b"cos\nsystem\n(S'touch harm'\ntR.",
        python2_batch(rows(2)[1], [1]),
        python2_batch(rows(2)[1], [1, 10]),
        python2_batch(rows(2)[1][:, :100], [1, 1]),
        python2_batch(rows(2)[1], [1, 2])[:-500],
        b"",
    ],
)
def test_harmful_or_damaged_cifar_batches_are_refused_in_one_line(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = write_tar(tmp_path / "cifar.tar.gz", {"data_batch_1": content})
    with pytest.raises(UsageError, match="not CIFAR-10") as error:
        open_set(str(path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "harm").exists()


def test_links_and_doubles_in_tar_archives_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(python2_batch(rows(1)[1], [1]))
    linked = write_tar(tmp_path / "a.tar.gz", {}, {"data_batch_1": str(tmp_path / "secret")})
    with pytest.raises(UsageError, match=r"holds no images .*1 other file"):
        open_set(str(linked))
    batch = python2_batch(rows(1)[1], [1])
    doubled = write_tar(tmp_path / "b.tar.gz", {"x/data_batch_1": batch, "y/data_batch_1": batch})
    with pytest.raises(UsageError, match="twice"):
        open_set(str(doubled))
    with pytest.raises(UsageError, match="holds no images"):
        open_set(str(write_tar(tmp_path / "c.tar.gz", {"other": b"x"})))


def test_zip_members_outside_of_it_are_names_and_nothing_else(tmp_path):
    """Archives are read in memory: a member called ../../x.png is an image of that name."""
    picture = random_pictures(1, 4, 4)[0]
    members = {"../../x.png": png(picture), "/etc/y.png": png(picture)}
    source = write_zip(tmp_path / "a.zip", members)
    before = sorted(tmp_path.rglob("*"))
    found = open_set(str(source))
    np.testing.assert_array_equal(np.asarray(found.picture(0).image), picture)
    assert sorted(tmp_path.rglob("*")) == before


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    source = write_zip(tmp_path / "a.zip", {"a.png": bytes(1 << 20)})
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1 << 19)
    with pytest.raises(ImageError, match="more than 0"):
        open_set(str(source)).raw(0)


def test_picture_bombs_are_refused_before_they_are_decoded(tmp_path):
    small = png(random_pictures(1, 4, 4)[0])
    declared = small[12:16] + struct.pack(">II", 100_000, 100_000) + small[24:29]
    huge = small[:12] + declared + struct.pack(">I", zlib.crc32(declared)) + small[33:]
    found = open_set(str(write_zip(tmp_path / "a.zip", {"a.png": huge})))
    with pytest.raises(ImageError, match="pixels"):
        found.picture(0)


def test_damaged_zips_and_members_are_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(UsageError, match="not a readable zip"):
        open_set(str(tmp_path / "a.zip"))
    path = write_zip(tmp_path / "b.zip", {"a.png": png(random_pictures(1, 40, 40)[0])})
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match="cannot be read"):
        open_set(str(path)).raw(0)


def test_doubled_names_in_a_zip_are_refused(tmp_path):
    content = png(random_pictures(1, 4, 4)[0])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", content)
    with pytest.raises(UsageError, match=r"'a\.png' twice"):
        open_set(str(tmp_path / "a.zip"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ('{"labels": null}', "no labels of EDM's form"),
        ('{"labels": [["a.png", "seven"]]}', "no labels of EDM's form"),
        ('{"labels": [["a.png", -1]]}', "no labels of EDM's form"),
        ('{"labels": [["b.png", 1]]}', "no label of 'a.png'"),
        ('{"labels": [["a.png", 1], ["b.png", [0.5, 0.5]]]}', "different kinds"),
        ("[" * 100_000, "no labels of EDM's form"),
    ],
)
def test_wrong_labels_are_named(tmp_path, labels, message):
    members = {"a.png": png(random_pictures(1, 4, 4)[0]), "dataset.json": labels.encode()}
    with pytest.raises(UsageError, match=message):
        open_set(str(write_zip(tmp_path / "a.zip", members)), labels=True)


def test_idx_files(tmp_path):
    pictures = random_pictures(3, 5, 7, channels=1)
    images = struct.pack(">4I", 0x0803, 3, 5, 7) + pictures.tobytes()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, 3) + bytes([7, 0, 2]))
    found = open_set(str(tmp_path), labels=True)
    assert [(item.part, item.label) for item in found.items] == [("train", 7), ("train", 0), ("train", 2)]
    np.testing.assert_array_equal(np.asarray(found.picture(1).image), pictures[1])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images[:-1]))
    with pytest.raises(UsageError, match="not as long as it declares"):
        open_set(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "message"), [("nowhere", "no such file"), ("a.txt", "no folder, zip"), (".", "no images")]
)
def test_sources_that_are_none(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=message):
        open_set(source)


def test_links_out_of_a_folder_are_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(png(random_pictures(1, 4, 4)[0]))
    (tmp_path / "in" / "a.png").write_bytes(png(random_pictures(1, 4, 4)[0]))
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "secret.png")
    found = open_set(str(tmp_path / "in"))
    assert [item.name for item in found.items] == ["a.png"]
    assert found.ignored == 1
