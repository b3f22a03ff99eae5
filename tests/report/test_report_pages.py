"""Reports are one file that asks nobody for anything, with alternatives for what is drawn."""

import json
import re
import shutil
import subprocess
import zlib
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrigen.cli.main import run
from mrigen.recipe import page as run_page
from mrigen.reconstruction import page as reconstruction_page
from mrigen.report import html

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Elements with their attributes, and whether every one is closed."""

    VOID = frozenset({"meta", "input", "img", "br", "line", "path"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def sound(text):
    """A page that opens no connection and says in words what it draws."""
    page = Page(text)
    assert page.open == []
    assert len(text.encode()) <= html.LARGEST
    links = [
        v for _, attrs in page.elements for k, v in attrs.items() if k in {"src", "href", "srcset", "data"}
    ]
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert "url(" not in text
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\s*\(", text)
    assert not re.search(r"https?://", text)
    assert any("default-src 'none'" in attrs.get("content", "") for attrs in page.of("meta"))
    assert all(attrs["alt"].strip() for attrs in page.of("img"))
    assert all(attrs["aria-label"].strip() for attrs in page.of("svg") + page.of("canvas"))
    assert dict(page.elements)["html"]["lang"] == "en"
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    return page


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "run"
    assert run(["run", str(TINY), "--out", str(out), "--device", "cpu"]) == 0
    return out


@pytest.fixture(scope="module")
def reconstructed(study):
    out = study.parent / "images"
    words = [
        "--solver",
        "dds:steps=2",
        "--model",
        str(study / "teacher"),
        "--samples",
        "2",
        "--device",
        "cpu",
    ]
    assert run(["reconstruct", str(study / "store"), *words, "--out", str(out)]) == 0
    return out


def test_a_run_ends_with_its_report(study):
    text = (study / "report.html").read_text()
    page = sound(text)
    summary = json.loads((study / "summary.json").read_text())
    for name in ("observation", "teacher", "student"):
        assert f"{summary[name]['fd']:.4g}" in page.words
    headings = "Samples", "Nearest neighbours", "Settings", "Checksums", "Again", "Versions"
    for heading in headings:
        assert heading in page.words
    weights = json.loads((study / "student" / "model" / "model.json").read_text())["weights_sha256"]
    assert weights in page.words
    assert "mrigen run run/recipe.yaml --out run-again" in page.words
    assert "seed 0" in page.words
    assert "correlation" in page.words
    assert str(study.parent) not in text


def test_curves_of_a_run(study, tmp_path):
    """A continued run has logged some images twice: the last line of them counts."""
    run_folder = tmp_path / "run"
    shutil.copytree(study, run_folder, ignore=shutil.ignore_patterns("samples", "*.pt"))
    lines = [{"images": 8, "loss": 4.0}, {"images": 8, "loss": 2.0}, {"images": 16, "loss": 1.0}]
    (run_folder / "teacher" / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    page = sound(run_page.write_page(run_folder, tmp_path / "a.html").read_text())
    assert "teacher: loss: 2 after 8 images, 1 after 16; least 1, largest 2" in page.words


def test_a_run_of_large_images_shows_fewer_samples(study, tmp_path, monkeypatch):
    whole = (study / "report.html").stat().st_size
    monkeypatch.setattr(html, "LARGEST", whole - 1000)
    page = sound(run_page.write_page(study, tmp_path / "a.html").read_text())
    assert 0 < page.words.count("seed 0") < (study / "report.html").read_text().count(">seed ")
    assert (tmp_path / "a.html").stat().st_size < whole


def test_the_command_of_a_report_repeats_the_run(study, tmp_path):
    again = tmp_path / "again"
    assert run(["train", str(study / "recipe.yaml"), "--out", str(again), "--device", "cpu"]) == 0
    digests = [
        json.loads((folder / "teacher" / "model" / "model.json").read_text())["weights_sha256"]
        for folder in (study, again)
    ]
    assert digests[0] == digests[1]


def layers(text):
    """Names and slices of the viewer's layers, in its own units."""
    about = json.loads(re.search(r"<script [^>]*data-about>(.*?)</script>", text)[1])
    blobs = re.findall(r"data-layer>(.*?)</script>", text)
    shape = (len(about["names"]), *about["shape"])
    found = {}
    for layer, blob in zip(about["layers"], blobs, strict=True):
        pixels = np.frombuffer(zlib.decompress(b64decode(blob)), np.uint8).reshape(shape)
        found[layer["name"]] = pixels / 255 * layer["top"]
    return about["names"], found


def test_the_slices_of_a_reconstruction(reconstructed):
    path = reconstruction_page.write_page(reconstructed, reconstructed / "report.html")
    page = sound(path.read_text())
    names, shown = layers(path.read_text())
    with h5py.File(reconstructed / "reconstruction.h5") as file:
        image, truth = (np.abs(file[name][:, 0]) for name in ("image", "reference"))
        assert next(iter(shown)) == "measurement, zero-filled"
        assert [name.decode() for name in file["names"]] == names
        unit = image.max() / shown["reconstruction"].max()
        np.testing.assert_allclose(shown["reconstruction"] * unit, image, atol=image.max() / 500)
        error = np.abs(image - truth)
        np.testing.assert_allclose(shown["error"] * unit, error, atol=error.max() / 500)
        width = 3.29 * file["std"][:, 0]
        interval = next(values for name, values in shown.items() if "90 %" in name)
        np.testing.assert_allclose(interval * unit, width, atol=width.max() / 400)
    assert "dds:steps=2" in page.words
    assert "times the predicted deviation" in page.words
    assert "NRMSE" in page.words


def test_a_large_reconstruction_leaves_slices_out(reconstructed, tmp_path, monkeypatch):
    with h5py.File(reconstructed / "reconstruction.h5") as file:
        height, width = file["image"].shape[-2:]
    monkeypatch.setattr(reconstruction_page, "RAW", 2 * 5 * height * width)
    path = reconstruction_page.write_page(reconstructed, tmp_path / "a.html")
    names, _ = layers(path.read_text())
    with h5py.File(reconstructed / "reconstruction.h5") as file:
        count = len(file["names"])
    assert len(names) < count
    assert f"{count - len(names)} of {count} slices are left out" in path.read_text()


@pytest.fixture(scope="module")
def baseline(study):
    """Another reconstruction of the same measurements."""
    out = study.parent / "sense"
    words = ["--solver", "cg-sense:steps=2", "--device", "cpu"]
    assert run(["reconstruct", str(study / "store"), *words, "--out", str(out)]) == 0
    return out


def test_baselines_stand_beside_a_reconstruction(reconstructed, baseline, tmp_path):
    path = tmp_path / "a.html"
    assert run(["report", str(reconstructed), "--beside", str(baseline), "--out", str(path)]) == 0
    page = sound(path.read_text())
    numbers = json.loads((baseline / "metrics.json").read_text())["mean"]
    assert f"sense: cg-sense:steps=2{numbers['psnr']:.4g}" in page.words
    _, shown = layers(path.read_text())
    with (
        h5py.File(baseline / "reconstruction.h5") as file,
        h5py.File(reconstructed / "reconstruction.h5") as own,
    ):
        image = np.abs(file["image"][:, 0])
        error = np.abs(image - np.abs(file["reference"][:, 0]))
        unit = np.abs(own["image"][:, 0]).max() / shown["reconstruction"].max()
    name = "sense: cg-sense:steps=2"
    np.testing.assert_allclose(shown[name] * unit, image, atol=image.max() / 500)
    np.testing.assert_allclose(shown[f"error, {name}"] * unit, error, atol=error.max() / 500)


def test_what_cannot_be_compared_is_refused(study, reconstructed, baseline, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(baseline, other)
    with h5py.File(other / "reconstruction.h5", "r+") as file:
        file["zero_filled"][0] = 2 * file["zero_filled"][0]
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    summary = json.loads((study / "summary.json").read_text())
    (run_folder / "summary.json").write_text(json.dumps({**summary, "n": 3}))
    for folder, beside, said in [
        (reconstructed, [other], "other measurements"),
        (reconstructed, [baseline, baseline], "same name"),
        (reconstructed, [study], "no reconstruction.h5"),
        (study, [run_folder], "n differ"),
        (study, [study, study], "same name"),
        (study, [baseline], "no summary.json"),
    ]:
        words = [word for one in beside for word in ("--beside", str(one))]
        assert run(["report", str(folder), *words, "--out", str(tmp_path / "b.html")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "b.html").exists()


def test_other_runs_stand_in_the_table(study, tmp_path):
    other = tmp_path / "l1-edm"
    other.mkdir()
    summary = json.loads((study / "summary.json").read_text())
    summary["student"]["fd"] = 123.4
    (other / "summary.json").write_text(json.dumps(summary))
    page = sound(run_page.write_page(study, tmp_path / "a.html", [other]).read_text())
    assert "l1-edm: student123.4" in page.words
    assert "l1-edm: observation" not in page.words


def test_names_cannot_inject(reconstructed, tmp_path):
    folder = tmp_path / "evil"
    shutil.copytree(reconstructed, folder)
    evil = "</script><script>alert(1)</script>"
    with h5py.File(folder / "reconstruction.h5", "r+") as file:
        file.attrs["source"] = evil
        file["names"][0] = evil
    text = reconstruction_page.write_page(folder, tmp_path / "a.html").read_text()
    assert "<script>alert" not in text
    sound(text)


@pytest.mark.parametrize("folder", ["missing", "."])
def test_a_folder_of_something_else(folder, tmp_path, capsys):
    assert run(["report", str(tmp_path / folder)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_curves_say_what_they_show():
    figure = html.curve("loss", [0, 10, 20], [1.0, float("nan"), 0.1])
    assert "loss: 1 after 0 images, 0.1 after 20; least 0.1, largest 1, logarithmic" in Page(figure).words
    assert html.curve("loss", [1], [1.0]) == ""


def test_pictures_of_colour():
    rgb = np.zeros((4, 4, 3), np.uint8)
    assert Page(html.picture(rgb, "black", "seed 1")).of("img")[0]["alt"] == "black"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_chromium_draws_it(reconstructed, tmp_path):
    path = reconstruction_page.write_page(reconstructed, tmp_path / "a.html")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert 'data-ready="yes"' in done.stdout
    assert re.search(r"aria-live=\"polite\">\d+ of \d+: ", done.stdout)
