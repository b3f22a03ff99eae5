"""``mrigen evaluate`` and ``mrigen audit`` on a small image store, and what they refuse."""

import json
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from mrigen.cli.main import run
from mrigen.data.images import open_images, write_images
from mrigen.data.stores import open_store
from mrigen.engine.params import TeacherParams
from mrigen.engine.teacher import describe_teacher
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import extractor
from mrigen.metrics.frechet import frechet_distance, statistics
from mrigen.metrics.proximal import EmpiricalCorruption, corrupted_images, zero_filled_images
from mrigen.metrics.reference import open_reference
from mrigen.model import Model
from mrigen.recipe.comparison import Comparison, compare, taken_samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 pictures, their store (half of the pixels, noise) and references, and copies of the pictures."""
    root = tmp_path_factory.mktemp("evaluate")
    (root / "pictures").mkdir()
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(40, 1, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(8, 8), mode="bicubic").clamp(-1, 1)
    for number, picture in enumerate(((smooth + 1) / 2 * 255).round().to(torch.uint8).numpy()):
        Image.fromarray(picture[0]).save(root / "pictures" / f"{number:03d}.png")
    options = ["--operator", "inpainting:missing=0.5", "--noise", "0.1", "--jobs", "1"]
    split = ["--split", "train=0.6,test=0.4", "--seed", "1"]
    assert run(["prep-images", str(root / "pictures"), "--out", str(root / "store"), *options, *split]) == 0
    noise = torch.randn(12, 1, 8, 8, generator=generator)
    write_images(root / "samples.h5", list(range(12)), [smooth[:12] + 0.3 * noise])
    return root


@pytest.fixture
def evaluate(folder, tmp_path, capsys):
    """Run the command; its rows, or the error of one line."""

    def call(*arguments, code=0, samples="samples.h5"):
        out = tmp_path / "numbers.json"
        given = [str(folder / samples), *map(str, arguments), "--out", str(out), "--device", "cpu"]
        light = [] if "--features" in arguments else ["--features", "pixels"]
        assert run(["evaluate", *given, *light, "--cache", str(tmp_path / "cache")]) == code
        shown = capsys.readouterr()
        if code:
            lines = [line for line in shown.err.splitlines() if line.startswith("mrigen:")]
            assert len(lines) == 1
            return lines[0]
        return json.loads(out.read_text())["results"]

    return call


def test_numbers_are_those_of_the_parts(folder, evaluate):
    """Distance from prepared references, with interval, n, and a warning; unchanged from the cache."""
    wanted = ("--metrics", "fd,kid,precision,recall", "--bootstrap", 20)
    command = ("--reference", folder / "store-reference", *wanted)
    row = evaluate(*command)[0]
    references = open_reference(folder / "store-reference", "test")
    base = Reference.of(references.images(list(range(len(references)))), extractor("pixels"))
    samples = torch.cat(list(open_images(folder / "samples.h5").read()))
    assert row["fd"] == pytest.approx(base.distance([samples]), rel=1e-5)
    assert row["fd_interval"][0] < row["fd"] < row["fd_interval"][1]
    assert (row["n"], row["references"], row["kid_subset"]) == (12, len(references), 12)
    assert 0 <= row["precision"] <= 1
    assert "fewer than 5,000" in row["warnings"][0]
    assert evaluate(*command)[0] == row


def test_figure_has_a_row_of_images_for_every_set(folder, evaluate, tmp_path):
    """As tall as its rows; proximal distances need no references; two sets that differ are refused."""
    reference = ("--reference", folder / "store-reference", "--bootstrap", 0)
    heights = {}
    for name, arguments in {
        "two": reference,
        "one": ("--proximal", "--data", folder / "store", "--bootstrap", 0),
        "three": (folder / "pictures", *reference),
    }.items():
        evaluate(*arguments, "--figure", tmp_path / f"{name}.png")
        heights[name] = np.asarray(Image.open(tmp_path / f"{name}.png")).shape[0]
    row = heights["two"] - heights["one"]
    assert row > 50
    assert abs(heights["three"] - heights["two"] - row) <= 2
    refused = evaluate("--held-out", folder / "store", "--figure", tmp_path / "no.png", code=2)
    assert "--figure" in refused
    assert not (tmp_path / "no.png").exists()


def test_cache_follows_the_data(folder, evaluate, tmp_path):
    """Another split is another entry; a changed entry shows that it is used, a damaged one is replaced."""
    command = ("--reference", folder / "store-reference", "--bootstrap", 0)
    first = evaluate(*command)[0]["fd"]
    (entry,) = (tmp_path / "cache").iterdir()
    assert evaluate(*command, "--split", "train")[0]["fd"] != first
    assert len(list((tmp_path / "cache").iterdir())) == 2
    arrays = dict(np.load(entry))
    np.savez(entry, **{**arrays, "mean": arrays["mean"] + 1})
    assert evaluate(*command)[0]["fd"] != first
    entry.write_bytes(b"damaged")
    assert evaluate(*command)[0]["fd"] == first


def test_every_kind_of_samples_is_read(folder, evaluate, tmp_path):
    """Pictures in a folder, a zip, and arrays give the same distance; one is zero of itself."""
    pictures = sorted((folder / "pictures").iterdir())
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in pictures:
            archive.write(path, f"some/{path.name}")
    stack = np.stack([np.asarray(Image.open(path)) for path in pictures])
    np.savez(tmp_path / "pictures.npz", arr_0=stack[..., None])
    np.savez(tmp_path / "floats.npz", images=stack[:, None].astype(np.float64) / 127.5 - 1)
    for name in ("pictures.zip", "pictures.npz", "floats.npz"):
        row = evaluate("--reference", tmp_path / name, "--bootstrap", 0, samples="pictures")[0]
        assert row["n"] == row["references"] == 40
        assert row["fd"] == pytest.approx(0, abs=1e-3)


def test_proximal_distance_compares_measurements(folder, evaluate):
    """The number is that of samples corrupted by operators and noise of the store."""
    row = evaluate("--proximal", "--data", folder / "store")[0]
    store = open_store(folder / "store")
    seen = torch.cat(list(zero_filled_images(store).read()))
    base = Reference.of(seen, extractor("pixels"))
    samples = torch.cat(list(open_images(folder / "samples.h5").read()))
    corrupted = torch.cat(list(corrupted_images([samples], EmpiricalCorruption(store), 0)))
    expected = frechet_distance(statistics(base.features_of([corrupted])["pixels"]), base.statistics)
    assert row["proximal"] == pytest.approx(expected, rel=1e-5)
    assert row["observations"] == len(store)
    assert "fd" not in row


def test_teachers_are_ranked(folder, tmp_path):
    """Of two denoisers, the one that returns only what it sees has an error of one, and comes last."""
    store = open_store(folder / "store")
    spec = {
        "name": "song-unet",
        "model_channels": 8,
        "channel_mult": [1],
        "num_blocks": 1,
        "attn_resolutions": [],
    }
    params = TeacherParams(images=1, objective={"name": "ambient-tweedie"}, network=spec)
    description = describe_teacher(params, store)
    for name, gain in (("blind", 0.0), ("random", 1.0)):
        model = Model.random_init(description)
        with torch.no_grad():
            for parameter in model.denoiser.parameters():
                parameter.mul_(gain)
        model.save(tmp_path / name)
    out = tmp_path / "rank.json"
    command = [
        "evaluate",
        str(tmp_path / "random"),
        str(tmp_path / "blind"),
        "--held-out",
        str(folder / "store"),
    ]
    assert run([*command, "--out", str(out), "--device", "cpu"]) == 0
    rows = json.loads(out.read_text())["results"]
    assert {row["teacher"] for row in rows} == {str(tmp_path / "blind"), str(tmp_path / "random")}
    assert rows[0]["mean"] < rows[1]["mean"]
    blind = next(row for row in rows if row["teacher"].endswith("blind"))
    for name, value in blind.items():
        if name.startswith("σ"):
            assert value == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to compare with"),
        (["--reference", "R", "--metrics", "fid"], "--features inception"),
        (["--reference", "R", "--metrics", "nonsense"], "choose from fd, fid"),
        (["--reference", "R", "--features", "vgg"], "choose from r64, "),
        (["--reference", "R", "--inception-weights", "f.pth"], "belongs to --features inception"),
        (["--reference", "R", "--features", "inception", "--inception-weights", "f.pth"], "no such file"),
        (["--reference", "R", "--fid-mode", "paper"], "complex MR images"),
        (["--reference", "R", "--samples", "13"], "has 12 images only"),
        (["--reference", "R", "--metrics", "proximal"], "not used by --metrics proximal"),
        (["--reference", "R", "--proximal"], "--data STORE belong together"),
        (["--data", "S", "--metrics", "fd"], "needs --reference"),
        (["--proximal", "--data", "R"], "give the measurement store"),
        (["--held-out", "S", "--metrics", "fd"], "leave out"),
        (["--held-out", "S"], "is not a model folder"),
        (["--reference", "R", "--split", "val"], "nothing in split 'val'"),
        (["--reference", "missing"], "no such file or folder"),
    ],
)
def test_mistakes_are_one_line(folder, evaluate, arguments, says):
    places = {"R": str(folder / "store-reference"), "S": str(folder / "store")}
    assert says in evaluate(*(places.get(a, a) for a in arguments), code=2)


def test_missing_weights_name_every_way(folder, evaluate, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for features in ("inception", "dinov2", "vgg16"):
        option = f"--{features}-weights"
        error = evaluate("--reference", folder / "store-reference", "--features", features, code=2)
        for way in ("--download", f"{option} FILE", "--features r64"):
            assert way in error


def test_weights_of_something_else_are_refused(folder, evaluate, tmp_path):
    """No file of tensors is unpickled beyond tensors; other networks' tensors are named."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("hello")
    for features in ("inception", "dinov2"):
        for name, says in (("other.pth", "no weights of"), ("text.pth", "no file of weights")):
            weights = (f"--{features}-weights", tmp_path / name)
            error = evaluate(
                "--reference", folder / "store-reference", "--features", features, *weights, code=2
            )
            assert says in error


def test_images_of_another_size_are_refused(folder, evaluate, tmp_path):
    np.savez(tmp_path / "small.npz", images=np.zeros((3, 1, 9, 9), np.float32))
    assert "(1, 8, 8)" in evaluate("--reference", tmp_path / "small.npz", code=2)


def test_paper_mode_shows_raw_magnitudes(tmp_path, inception_file):
    """Scaling samples and references together changes the published number, and n is 100 unless told."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 1, 8, 8, dtype=torch.complex64, generator=generator)
    found = []
    for scale in (1, 60):
        for name, some in (("samples", images), ("references", images + 1)):
            write_images(tmp_path / f"{name}.h5", list(range(len(some))), [scale * some])
        paper = Comparison(
            ("kid",),
            reference=tmp_path / "references.h5",
            features=("inception",),
            weights=inception_file,
            paper=True,
            device="cpu",
        )
        found.append(compare([tmp_path / "samples.h5"], paper)[0])
    assert found[0]["kid"] != pytest.approx(found[1]["kid"], rel=0.1)
    write_images(tmp_path / "many.h5", list(range(101)), [images[:1].expand(101, -1, -1, -1)])
    assert len(taken_samples(open_images(tmp_path / "many.h5"), paper)) == 100
    assert len(taken_samples(open_images(tmp_path / "many.h5"), replace(paper, samples=7))) == 7


def test_audit_finds_the_copies(folder, tmp_path):
    """Samples made of training pictures are more alike than pictures nobody trained on."""
    store = open_store(folder / "store")
    pictures = open_images(folder / "pictures").take(0, 40)
    names = [f"{number:03d}.png" for number in range(40)]
    trained = [names.index(name) for name in store.names(list(range(len(store))))]
    held = [i for i in range(40) if i not in trained]
    write_images(tmp_path / "copies.h5", [0, 1, 2], [pictures[trained[:3]].flip(-1)])
    write_images(tmp_path / "others.h5", held[:4], [pictures[held[:4]]])
    given = ["--data", str(folder / "store"), "--out", str(tmp_path / "audit")]
    assert run(["audit", str(tmp_path / "copies.h5"), *given, "--baseline", str(tmp_path / "others.h5")]) == 0
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert [pair["training"] for pair in found["pairs"]] == [0, 1, 2]
    assert all(pair["mirrored"] for pair in found["pairs"])
    assert found["samples"]["mean"] > found["baseline"]["largest"]
    for name in ("histogram.png", "pairs.png"):
        with Image.open(tmp_path / "audit" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_hdf5_without_images_is_refused(tmp_path, evaluate, folder):
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["images"] = np.zeros((2, 3))
    assert "needs images (n, C, H, W)" in evaluate("--reference", tmp_path / "empty.h5", code=2)
