"""Models with cards: the shipped one, a folder, a static web address."""

import functools
import hashlib
import http.server
import json
import shutil
import threading

import pytest
import torch

import mrigen as mg
from mrigen.checkpoints import hub
from mrigen.cli.main import run

NAME = "demo-brain"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A hub with the shipped model, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(hub.shipped() / NAME, tmp_path / "hub" / "mine")
    return tmp_path / "hub"


@pytest.fixture
def address(folder):
    """The folder on a web server of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_shipped_generator_makes_images_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = mg.load(NAME).sample(2, seed=3)
    assert images.shape == (2, 1, 32, 32)
    assert images.abs().amax() > 0.5
    assert run(["sample", NAME, "--seeds", "3-4", "--out", "first", "--device", "cpu"]) == 0
    assert (tmp_path / "first.png").is_file()
    assert (tmp_path / "first" / "images.h5").is_file()


def test_the_shipped_generator_is_small_and_as_its_card_says():
    folder = hub.shipped() / NAME
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2e6
    card = hub.read_card(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert card.weights_sha256 == digest
    assert all(n.floor < n.value < n.observation and n.n > 100 for n in card.numbers)
    assert len(card.numbers) == 2


def test_a_path_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hub.shipped() / NAME, tmp_path / NAME)
    assert mg.load(NAME).folder.resolve() == (tmp_path / NAME).resolve()


def test_models_of_a_folder(folder, capsys):
    assert run(["models", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mine"]["card"]["licence"] == "Apache-2.0"
    assert run(["models", str(folder)]) == 0
    assert "n = 648" in capsys.readouterr().out


def test_a_model_of_a_web_address(folder, address, capsys):
    assert run(["models", str(folder), "--index"]) == 0
    assert run(["models", address]) == 2
    assert "--download" in capsys.readouterr().err
    assert run(["models", address, "--download"]) == 0
    assert "mine" in capsys.readouterr().out
    assert hub.named("mine") is None
    assert run(["models", address, "--download", "--get", "mine"]) == 0
    assert torch.equal(mg.load("mine").sample(1), mg.load(NAME).sample(1))


@pytest.mark.parametrize("file", ["model.safetensors", "card.json"])
def test_changed_files_of_a_web_address_are_not_kept(folder, address, file, capsys):
    hub.write_index(folder)
    path = folder / "mine" / file
    path.write_bytes(path.read_bytes() + b" ")
    assert run(["models", address, "--download", "--get", "mine"]) == 2
    assert "checksum" in capsys.readouterr().err
    assert not hub.downloaded().is_dir() or list(hub.downloaded().iterdir()) == []


@pytest.mark.parametrize(
    "index", ["[]", '{"models": {"../up": {}}}', '{"models": {"a": {"model.json": "0"}}}', "no"]
)
def test_an_index_that_is_none(folder, address, index, capsys):
    (folder / "models.json").write_text(index)
    assert run(["models", address, "--download"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_card_of_other_weights_is_refused(folder, capsys):
    path = folder / "mine" / "card.json"
    path.write_text(path.read_text().replace(hub.read_card(folder / "mine").weights_sha256, "0" * 64))
    assert run(["models", str(folder)]) == 2
    assert "other weights" in capsys.readouterr().err


def test_published_models_have_a_card_and_a_picture(folder, tmp_path, capsys):
    command = ["publish", str(folder / "mine"), str(tmp_path / "out" / "second")]
    assert run([*command, "--data", "slices", "--licence", "CC0-1.0", "--note", "small"]) == 0
    card = hub.read_card(tmp_path / "out" / "second")
    assert (card.data, card.licence, card.notes, card.numbers) == ("slices", "CC0-1.0", ("small",), ())
    assert (tmp_path / "out" / "second" / "picture.png").is_file()
    capsys.readouterr()
    (tmp_path / "out" / "second" / "mine.txt").write_text("mine")
    assert run([*command, "--data", "slices", "--licence", "CC0-1.0"]) == 2
    assert "holds something" in capsys.readouterr().err
    assert run([*command[:2], str(tmp_path / "No Name"), "--data", "s", "--licence", "l"]) == 2
