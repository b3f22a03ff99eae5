"""Files of generated images: what others read, continuation, and refusals."""

import json
import os
import weakref
import zipfile
from itertools import islice
from types import SimpleNamespace

import h5py
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription
from mrigen.cli.main import run
from mrigen.data.images import open_images
from mrigen.data.sample_files import to_bytes, write_magnitudes, write_nifti, writer_of
from mrigen.engine import resumable
from mrigen.engine.resumable import PartialFile
from mrigen.engine.sampling import StudentSampler
from mrigen.errors import UsageError
from mrigen.model import Model
from mrigen.recipe import sampling

SHAPE = (3, 4, 6)


def images(kind, count=5, channels=3):
    generator = torch.Generator().manual_seed(0)
    dtype = torch.complex64 if kind == "complex" else torch.float32
    return (
        torch.randn(count, 1 if kind == "complex" else channels, 4, 6, dtype=dtype, generator=generator) * 0.5
    )


def reader(stack):
    return lambda: iter(stack.split(2))


def write(path, stack, seeds=(7, 2, 5, 0, 11)):
    writer_of(path, tuple(stack.shape[1:]), complex_valued=stack.is_complex())(
        path, list(seeds), reader(stack)
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["out.zip", "out", "out.npz"])
def test_pictures_round_to_bytes_and_come_back(tmp_path, name, channels):
    stack = images("real", channels=channels)
    write(tmp_path / name, stack)
    pool = open_images(tmp_path / name)
    back = pool.take(0, 5)
    order = [3, 1, 2, 0, 4] if name != "out.npz" else range(5)  # files are read in the order of their names
    assert (back - stack.clamp(-1, 1)[list(order)]).abs().max() <= 1 / 255
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_names_are_the_seeds(tmp_path):
    write(tmp_path / "a.zip", images("real"))
    write(tmp_path / "b", images("real"))
    names = sorted(zipfile.ZipFile(tmp_path / "a.zip").namelist())
    assert names == ["000000.png", "000002.png", "000005.png", "000007.png", "000011.png"]
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == names
    with Image.open(tmp_path / "b" / "000005.png") as file:
        np.testing.assert_array_equal(np.asarray(file), to_bytes(images("real"))[2])


def test_floats_and_seeds_survive(tmp_path):
    for kind in ("complex", "real"):
        write(tmp_path / "a.h5", images(kind))
        with h5py.File(tmp_path / "a.h5") as file:
            assert list(file["seeds"]) == [7, 2, 5, 0, 11]
            np.testing.assert_array_equal(file["images"], images(kind).numpy())
    write(tmp_path / "a.npz", images("complex"))
    with np.load(tmp_path / "a.npz") as file:
        assert list(file["seeds"]) == [7, 2, 5, 0, 11]
        np.testing.assert_array_equal(file["images"], images("complex").numpy())


def test_bytes_are_those_of_minus_one_to_one():
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]).view(1, 1, 1, 5)
    assert to_bytes(values).ravel().tolist() == [0, 0, 128, 255, 255]


def test_nifti_holds_the_magnitudes(tmp_path):
    """Columns, rows, images; another program's reader sees the same numbers."""
    stack = images("complex")
    write_magnitudes(tmp_path / "m.nii", 5, reader(stack))
    volume = nibabel.load(tmp_path / "m.nii")
    assert volume.shape == (6, 4, 5)
    np.testing.assert_array_equal(
        np.asarray(volume.dataobj), stack[:, 0].abs().numpy().transpose(2, 1, 0), strict=True
    )


def test_nifti_knows_what_is_known(tmp_path):
    """Voxels in the order of the axes, no orientation; compressed files are always the same bytes."""
    volume = np.random.default_rng(0).random((3, 4, 6)).astype(np.float32)
    files = [tmp_path / name for name in ("a.nii", "a.nii.gz", "b.nii.gz")]
    for file in files:
        write_nifti(file, 3, [volume[:2], volume[2:]], (1.0, 2.0, 3.0))
    plain, packed = (nibabel.load(file) for file in files[:2])
    np.testing.assert_array_equal(np.asarray(plain.dataobj), volume.T)
    np.testing.assert_array_equal(np.asarray(packed.dataobj), volume.T)
    assert plain.header.get_zooms() == packed.header.get_zooms() == (2.0, 1.0, 3.0)
    assert plain.header.get_xyzt_units()[0] == "mm"
    assert (int(plain.header["qform_code"]), int(plain.header["sform_code"])) == (0, 0)
    assert files[1].read_bytes() == files[2].read_bytes()


def test_many_images_need_nifti_2(tmp_path, monkeypatch):
    monkeypatch.setattr("mrigen.data.sample_files.NIFTI1_MOST", 4)
    write_magnitudes(tmp_path / "m.nii", 5, reader(images("complex")))
    volume = nibabel.load(tmp_path / "m.nii")
    assert isinstance(volume, nibabel.Nifti2Image)
    np.testing.assert_array_equal(np.asarray(volume.dataobj)[..., 3].T, images("complex")[3, 0].abs().numpy())


def test_folder_of_scans(tmp_path):
    write(tmp_path / "out", images("complex"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["images.h5", "magnitude.nii"]
    assert torch.equal(open_images(tmp_path / "out").take(1, 4), images("complex")[1:4])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("a.tif", "real", "ends in none of .h5, .npz, .zip"),
        ("a.zip", "complex", "complex images do not fit into PNG"),
        ("full", "real", "exists already"),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path, name, kind, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pytest.raises(UsageError, match=message):
        write(tmp_path / name, images(kind))


def test_five_channels_are_no_picture(tmp_path):
    with pytest.raises(UsageError, match="5 channels do not fit into PNG"):
        write(tmp_path / "a.zip", images("real", channels=5))


@pytest.mark.parametrize("name", ["out", "out.h5", "out.npz", "out.zip"])
def test_a_failed_write_leaves_nothing(tmp_path, name):
    def broken():
        yield images("real")[:2]
        raise MemoryError

    writer = writer_of(tmp_path / name, SHAPE, complex_valued=False)
    with pytest.raises(MemoryError):
        writer(tmp_path / name, [0, 1, 2], broken)
    assert not list(tmp_path.iterdir())


def test_spool_continues_after_the_last_whole_row(tmp_path):
    stack = images("complex")
    settings = {"model": "a", "sampler": None}

    def spool(**other):
        return PartialFile(tmp_path / "x.h5", {**settings, **other}, (1, 4, 6), 2, complex_valued=True)

    spool().extend([stack[:2]], 0)
    with (tmp_path / ".x.h5.partial" / "rows.bin").open("ab") as file:
        file.write(b"torn")
    again = spool()
    assert len(again) == 2
    again.extend([stack[2:3], stack[3:]], 2)
    assert torch.equal(torch.cat(list(again.read(2))), stack)
    assert len(spool()) == 5
    assert len(spool(model="b")) == 0
    with pytest.raises(ValueError, match="not"):
        spool().extend([torch.zeros(1, 1, 2, 2, dtype=torch.complex64)], 0)
    spool().remove()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def model(tmp_path):
    """A generator of real colour images with weights that do something."""
    description = ModelDescription(
        network={"name": "mlp", "resolution": 4, "in_channels": 3, "out_channels": 3, "hidden": 16},
        preconditioner={"name": "edm"},
        conventions=ChannelLayout(image="real", image_channels=3, mask_channels=0, ones_channel=False),
        role="generator",
        sigma_init=2.5,
        later_sigmas=(0.4,),
        generator_input="full",
        image_shape=(3, 4, 4),
    )
    model = Model.random_init(description)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for weight in model.denoiser.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    model.save(tmp_path / "model")
    return tmp_path / "model"


def sample(model, out, *more):
    return run(["sample", str(model), "--out", str(out), "--device", "cpu", *more])


@pytest.mark.parametrize("name", ["many.h5", "many.npz", "many.zip", "many"])
def test_a_few_batches_are_held_at_a_time(model, tmp_path, monkeypatch, name):
    """Of twelve, while they are made, and while the result is written from what was kept of them."""
    alive, most = weakref.WeakSet(), {"made": [], "read": []}

    def watched(batches, what):
        for batch in batches:
            alive.add(batch)
            most[what].append(len(alive))
            yield batch
            del batch

    make, read = StudentSampler.__call__, resumable.ResumableSampling.read
    monkeypatch.setattr(StudentSampler, "__call__", lambda self, seeds: watched(make(self, seeds), "made"))
    monkeypatch.setattr(
        resumable.ResumableSampling, "read", lambda self, *batch: watched(read(self, *batch), "read")
    )
    assert sample(model, tmp_path / name, "--seeds", "0-767") == 0
    assert len(most["made"]) == 12
    assert len(most["read"]) > 12
    assert max(*most["made"], *most["read"]) <= 5


def test_interrupted_sampling_continues(model, tmp_path, monkeypatch, capsys):
    """Killed in the middle, the second call makes only what is missing, and the file is the same."""
    assert sample(model, tmp_path / "whole.npz", "--seeds", "0-9", "--batch", "2") == 0
    real, made = resumable.counted, []

    def dies(batches, advance):
        for batch in real(batches, advance):
            if len(made) == 3:
                raise KeyboardInterrupt
            made.append(len(batch))
            yield batch

    monkeypatch.setattr(resumable, "counted", dies)
    assert sample(model, tmp_path / "parts.npz", "--seeds", "0-9", "--batch", "2") == 130
    assert capsys.readouterr().err.endswith("mrigen: interrupted; run the same command again to continue\n")
    assert not (tmp_path / "parts.npz").exists()
    monkeypatch.setattr(
        resumable, "counted", lambda batches, advance: map(count(made), real(batches, advance))
    )
    assert sample(model, tmp_path / "parts.npz", "--seeds", "0-9", "--batch", "2") == 0
    assert made == [2] * 5
    assert (tmp_path / "parts.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_the_batch_that_was_chosen_is_that_of_the_continuation(model, tmp_path, monkeypatch):
    """Free memory may be another then, and with it the company in which images are made."""
    real, made = resumable.counted, []

    def torn(batches, advance):
        yield from islice(real(batches, advance), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(resumable, "counted", torn)
    monkeypatch.setattr(sampling, "_batch", lambda *_: 3)
    assert sample(model, tmp_path / "out.h5", "--seeds", "0-9") == 130
    monkeypatch.setattr(sampling, "_batch", lambda *_: 5)
    monkeypatch.setattr(
        resumable, "counted", lambda batches, advance: map(count(made), real(batches, advance))
    )
    record = tmp_path / ".out.h5.partial" / "record.json"
    written = json.loads(record.read_text())
    assert written.pop("batch") == 3
    assert sample(model, tmp_path / "out.h5", "--seeds", "0-9") == 0
    assert made == [3, 1]
    assert sample(model, tmp_path / "other.h5", "--seeds", "0-9") == 0
    assert made == [3, 1, 5, 5]
    record.parent.mkdir()
    record.write_text(json.dumps(written))  # as earlier versions wrote it
    (record.parent / "rows.bin").write_bytes(bytes(2 * 3 * 4 * 4 * 4))
    assert sample(model, tmp_path / "out.h5", "--seeds", "0-9", "--batch", "2") == 0
    assert made == [3, 1, 5, 5, 2, 2, 2, 2]


def test_a_torn_batch_is_made_again_as_a_whole(model, tmp_path, monkeypatch):
    """Three of ten images are left of batches of two: the third one gets its company again."""
    real, made = resumable.counted, []

    def torn(batches, advance):
        yield from real(batches, advance)
        raise KeyboardInterrupt

    monkeypatch.setattr(resumable, "counted", torn)
    assert sample(model, tmp_path / "out.h5", "--seeds", "0-9", "--batch", "2") == 130
    rows = tmp_path / ".out.h5.partial" / "rows.bin"
    os.truncate(rows, rows.stat().st_size * 3 // 10 + 1)
    monkeypatch.setattr(
        resumable, "counted", lambda batches, advance: map(count(made), real(batches, advance))
    )
    assert sample(model, tmp_path / "out.h5", "--seeds", "0-9", "--batch", "2") == 0
    assert made == [2] * 4


def count(made):
    def note(batch):
        made.append(len(batch))
        return batch

    return note


def test_pictures_do_not_depend_on_the_batch(model, tmp_path):
    assert sample(model, tmp_path / "a.npz", "--seeds", "0-6") == 0
    assert sample(model, tmp_path / "b", "--seeds", "6,2", "--batch", "1") == 0
    with np.load(tmp_path / "a.npz") as file:
        for seed in (2, 6):
            with Image.open(tmp_path / "b" / f"{seed:06d}.png") as picture:
                gap = np.asarray(picture).astype(int) - file["arr_0"][seed]
            assert abs(gap).max() <= 1
    assert (tmp_path / "a.png").is_file()


def test_a_seed_twice_is_refused(model, tmp_path, capsys):
    assert sample(model, tmp_path / "a.zip", "--seeds", "0-3,2") == 2
    assert "says a seed twice" in capsys.readouterr().err
    assert json.loads((model / "model.json").read_text())["later_sigmas"] == [0.4]


def test_a_gpu_takes_as_many_images_as_fit_in_equal_batches(monkeypatch):
    """On its free memory; elsewhere and in several processes 64."""
    model, gpu = SimpleNamespace(description=None, image_shape=(1, 8, 8)), torch.device("cuda")
    asked = []
    monkeypatch.setattr(sampling, "batch_that_fits", lambda d, s, device, most: asked.append(most) or most)
    assert [sampling._batch(model, gpu, count) for count in (1000, 512, 3, 50_000)] == [500, 512, 3, 511]
    assert sampling._batch(model, torch.device("cpu"), 1000) == 64
    monkeypatch.setattr(sampling.ranks, "world_size", lambda: 2)
    assert sampling._batch(model, gpu, 1000) == 64
    assert len(asked) == 5
