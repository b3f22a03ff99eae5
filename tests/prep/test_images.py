"""``mrigen prep-images``: what the store holds, how it depends on the seed, and how it continues."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mrigen.cli.main import run
from mrigen.data.image_store import ImageStore
from mrigen.data.stores import open_store
from mrigen.metrics.reference import open_reference

from .pictures import png, random_pictures, write_folder, write_zip
from .scans import arguments, digests


@pytest.fixture
def prep(tmp_path):
    """Run the command and return the store's folder; one process."""

    def call(source, out="store", code=0, **options):
        command = ["prep-images", str(source), "--out", str(tmp_path / out), "--jobs", "1"]
        assert run([*command, *arguments(options)]) == code
        return tmp_path / out

    return call


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures", random_pictures(9, 16, 16))


def manifest(store):
    return json.loads((store / "manifest.json").read_text())


def clean(store):
    references = open_reference(store.with_name(f"{store.name}-reference"))
    return references.images(list(range(len(references))))


def everything(store):
    opened = open_store(store, None)
    return opened.measurements(list(range(len(opened))))


def test_references_are_the_pictures_and_measurements_are_their_masked_values(prep, folder):
    store = prep(folder, operator="inpainting:missing=0.4")
    wanted = torch.from_numpy(random_pictures(9, 16, 16)).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(clean(store), wanted, rtol=0, atol=0)
    batch = everything(store)
    torch.testing.assert_close(batch.y, wanted * batch.operator.mask, rtol=0, atol=0)
    assert 0.35 < 1 - batch.operator.mask.float().mean() < 0.45
    assert (batch.operator.mask[0] != batch.operator.mask[1]).any()
    assert ImageStore(store).names([2, 0]) == ["002.png", "000.png"]


def test_noise_has_its_level_in_every_image_and_the_level_is_stored(prep, folder):
    store = prep(folder, noise="0.1,0.3")
    batch = everything(store)
    noise = (batch.y - clean(store)) / batch.sigma.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(noise.std((1, 2, 3)), torch.ones(9), rtol=0.12, atol=0)
    assert 0.1 <= batch.sigma.min() < batch.sigma.max() <= 0.3


def test_equal_commands_give_equal_bytes_and_another_seed_another_corruption(prep, folder):
    options = {"operator": "inpainting:missing=0.5", "noise": "0.2"}
    first, again, other = prep(folder, "a", **options), prep(folder, "b", **options), None
    assert digests(first) == digests(again)
    other = prep(folder, "c", seed=1, **options)
    assert (everything(first).operator.mask != everything(other).operator.mask).any()
    torch.testing.assert_close(clean(first), clean(other), rtol=0, atol=0)


def test_an_images_corruption_does_not_depend_on_the_others(prep, folder):
    options = {"operator": "inpainting:missing=0.5", "noise": "0.2"}
    before = everything(prep(folder, "a", **options))
    (folder / "000.png").unlink()
    after = everything(prep(folder, "b", **options))
    torch.testing.assert_close(before.y[1:], after.y, rtol=0, atol=0)


def test_several_processes_write_the_same(prep, tmp_path, folder, monkeypatch):
    from mrigen.prep.images import job as image_job

    monkeypatch.setattr(image_job, "SHARD_BYTES", 3 * 4 * 3 * 256)
    one = prep(folder, "one", noise="0.2")
    assert len(manifest(one)["shards"]) == 3
    command = ["prep-images", str(folder), "--out", str(tmp_path / "two"), "--jobs", "2", "--noise", "0.2"]
    assert run(command) == 0
    assert digests(one) == digests(tmp_path / "two")


def test_second_run_prepares_what_is_new_only(prep, folder, monkeypatch, capsys):
    from mrigen.prep.images import job as image_job

    monkeypatch.setattr(image_job, "SHARD_BYTES", 3 * 4 * 3 * 256)
    store = prep(folder, noise="0.2")
    before = {p.name: p.stat().st_mtime_ns for p in store.glob("*.h5")}
    (folder / "008.png").write_bytes(png(random_pictures(1, 16, 16)[0]))
    (store / "train-00001.h5").unlink()
    capsys.readouterr()
    prep(folder, noise="0.2")
    assert "6 prepared, 3 skipped" in " ".join(capsys.readouterr().out.split())
    assert (store / "train-00000.h5").stat().st_mtime_ns == before["train-00000.h5"]
    torch.testing.assert_close(clean(store)[8], clean(store)[0])


def test_other_options_or_another_source_are_refused(prep, folder, tmp_path, capsys):
    prep(folder, noise="0.2")
    prep(folder, noise="0.1", code=2)
    assert "written with other parameters (noise 0.2 -> 0.1)" in capsys.readouterr().err
    write_folder(tmp_path / "others", random_pictures(2, 16, 16))
    prep(tmp_path / "others", noise="0.2", code=2)
    assert "source pictures -> others" in capsys.readouterr().err


def test_split_is_by_image_and_seed(prep, folder):
    split = {"split": "train=0.6,test=0.4"}
    first, again = prep(folder, "a", **split), prep(folder, "b", noise="0.1", **split)
    parts = [
        {name: ImageStore(s, name).names(list(range(len(ImageStore(s, name))))) for name in ("train", "test")}
        for s in (first, again)
    ]
    assert parts[0] == parts[1]
    assert sorted(parts[0]["train"] + parts[0]["test"]) == [f"{i:03d}.png" for i in range(9)]


def test_folders_called_train_and_test_are_parts(prep, tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        write_folder(tmp_path / "set" / part, random_pictures(count, 8, 8))
    store = prep(tmp_path / "set")
    assert [(s["split"], s["images"]) for s in manifest(store)["shards"]] == [("train", 3), ("test", 2)]


def test_crop_and_size(prep, tmp_path):
    """The centred square of a 12 x 16 picture, halved by block averages."""
    pictures = random_pictures(2)
    store = prep(write_folder(tmp_path / "wide", pictures), size=6, resample="box")
    blocks = pictures[:, :, 2:14].reshape(2, 6, 2, 6, 2, 3).mean((2, 4))
    wanted = torch.from_numpy(blocks).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(
        clean(store), wanted, rtol=0, atol=1.01 / 127.5
    )  # Pillow rounds after each axis


def test_edm_zip_round_trip(prep, tmp_path):
    """From EDM's layout with labels, through a store, to EDM's layout: the same pixels and labels."""
    pictures = random_pictures(4, 8, 8)
    members = {f"00000/img{i:08d}.png": png(p) for i, p in enumerate(pictures)}
    labels = [[name, i % 3] for i, name in enumerate(members)]
    source = write_zip(tmp_path / "set.zip", members, labels)
    store = prep(source, labels=True, edm_zip=str(tmp_path / "out.zip"))
    batch = everything(store)
    assert batch.labels.tolist() == torch.eye(3)[[0, 1, 2, 0]].tolist()
    assert manifest(store)["classes"] == 3
    again = prep(tmp_path / "out.zip", "again", labels=True)
    torch.testing.assert_close(clean(again), clean(store), rtol=0, atol=0)
    torch.testing.assert_close(everything(again).labels, batch.labels)


def test_digits_are_there_without_a_file(prep):
    from sklearn.datasets import load_digits

    store = prep("digits", limit=20, labels=True)
    digits = load_digits()
    positions = [i * 1797 // 20 for i in range(20)]
    wanted = torch.from_numpy(digits.images[positions]).float()[:, None] / 8 - 1
    torch.testing.assert_close(clean(store), wanted, rtol=0, atol=1e-6)
    assert everything(store).labels.argmax(1).tolist() == digits.target[positions].tolist()


def test_unknown_noise_is_estimated_with_an_interval(prep, tmp_path):
    """Grey squares with noise of σ = 0.2: the manifest has the estimate, training uses it."""
    noisy = np.random.default_rng(0).normal(0, 0.2, (30, 32, 32))
    pictures = ((noisy + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    store = prep(write_folder(tmp_path / "noisy", pictures), measured=True, noise="unknown")
    estimate = manifest(store)["estimate"]
    assert estimate["low"] <= estimate["sigma"] <= estimate["high"]
    assert 0.2 < estimate["sigma"] < 0.24
    assert not store.with_name("store-reference").exists()
    batch = everything(store)
    assert batch.sigma.tolist() == pytest.approx([estimate["sigma"]] * 30)
    torch.testing.assert_close(batch.y[:, 0], torch.from_numpy(pictures) / 127.5 - 1, rtol=0, atol=1e-6)


def test_simulated_noise_can_be_hidden_from_training(prep, folder):
    store = prep(folder, noise="0.5", estimate_noise=True)
    assert manifest(store)["noise"]["low"] == 0.5
    sigma = everything(store).sigma
    assert (sigma == sigma[0]).all()
    assert sigma[0].item() == pytest.approx(manifest(store)["estimate"]["sigma"])
    assert ImageStore(store).corruption().noise.low == pytest.approx(sigma[0].item())


def test_training_is_told_a_stated_level_and_the_data_stay(prep, folder):
    true = prep(folder, "true", operator="inpainting:missing=0.4", noise="0.1,0.3")
    store = prep(folder, "stated", operator="inpainting:missing=0.4", noise="0.1,0.3", stated_noise="0.4")
    assert manifest(store)["noise"] == manifest(true)["noise"]
    drawn, stated = everything(true), everything(store)
    torch.testing.assert_close(stated.y, drawn.y, rtol=0, atol=0)
    torch.testing.assert_close(stated.operator.mask, drawn.operator.mask, rtol=0, atol=0)
    assert stated.sigma.tolist() == pytest.approx([0.4] * 9)
    assert ImageStore(store).corruption().noise.model_dump() == {"low": 0.4, "high": None}
    assert ImageStore(store).described()["sigma"]["low"] == 0.4
    reference = json.loads((store.with_name("stated-reference") / "manifest.json").read_text())
    assert reference["stated"] is None


def test_operator_and_noise_of_a_recipe(prep, folder):
    store = prep(folder, operator="celeba/deblur-s20")
    assert manifest(store)["operator"] == {"name": "gaussian-blur", "size": 9, "std": 2.0}
    assert manifest(store)["noise"]["low"] == 0.2
    stated = prep(folder, "stated", operator="cifar10/denoise-stated-s15")
    assert (manifest(stated)["noise"]["low"], manifest(stated)["stated"]) == (0.2, 0.15)


def test_damaged_images_are_left_out_and_told(prep, folder, capsys):
    (folder / "004.png").write_bytes(b"no image")
    store = prep(folder, code=1)
    assert "004.png" in capsys.readouterr().out
    assert manifest(store)["shards"][0]["left_out"] == {"004.png": "is no image of a known format"}
    assert len(open_store(store)) == 8


def test_sixteen_bits_stay_as_precise_as_they_are(prep, tmp_path):
    values = np.array([[0, 1], [40000, 65535]], np.uint16)
    (tmp_path / "deep").mkdir()
    Image.fromarray(values).save(tmp_path / "deep" / "a.png")
    store = prep(tmp_path / "deep")
    torch.testing.assert_close(clean(store)[0, 0], torch.from_numpy(values.astype(np.float32)) / 32767.5 - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operator": "inpaint"}, "did you mean 'inpainting'"),
        ({"operator": "inpainting:missing=2"}, "missing: .*less than 1"),
        ({"noise": "much"}, "give σ"),
        ({"noise": "unknown"}, "--measured"),
        ({"estimate_noise": True}, "simulated noise"),
        ({"stated_noise": "0"}, "stated_noise: .*greater than 0"),
        ({"stated_noise": "0.2", "measured": True}, "stated_noise and measured exclude each other"),
        ({"stated_noise": "0.2", "noise": "0.2", "estimate_noise": True}, "and estimate_noise exclude"),
        ({"measured": True, "operator": "inpainting"}, "the same for all images"),
        ({"size": 0}, "size: "),
        ({"crop": "middle"}, "crop"),
        ({"split": "train=0.5"}, "sum to 1"),
        ({"limit": 10}, "only 9 images"),
        ({"labels": True}, "leave out --labels"),
        ({"size": 200, "crop": 100}, "smaller than --crop 100"),
    ],
)
def test_mistakes_are_named_in_one_line(prep, folder, capsys, options, message):
    prep(folder, code=2, **options)
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    import re

    assert re.search(message, error), error


def test_training_cannot_open_references_and_evaluation_no_measurements(prep, folder):
    from mrigen.errors import UsageError

    store = prep(folder)
    with pytest.raises(UsageError, match="reference images for evaluation"):
        open_store(store.with_name("store-reference"))
    with pytest.raises(UsageError, match="not references"):
        open_reference(store)


def test_preview_shows_the_measurements(prep, folder):
    store = prep(folder)
    with Image.open(store / "preview.png") as picture:
        assert picture.size == (512, 128)
        shown = np.asarray(picture)[::4, ::4]
    np.testing.assert_array_equal(shown[:16, :16], random_pictures(9, 16, 16)[0])
