"""A hub: a folder of model folders with cards, on disk, in the package, or at a static web address."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.error import URLError
from urllib.parse import urljoin, urlparse
from urllib.request import Request, urlopen

from pydantic import Field, ValidationError

from mrigen.errors import UsageError
from mrigen.files import atomic, cache_folder, scratch, sha256, write_json
from mrigen.registry import Params, describe

CARD = "card.json"
PICTURE = "picture.png"
DESCRIPTION = "model.json"
INDEX = "models.json"
FILES = (DESCRIPTION, "model.safetensors", CARD, PICTURE)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
MOST_TEXT = 1 << 20
MOST_WEIGHTS = 1 << 33
SECONDS = 30.0


class Number(Params):
    """A measured number of a model.

    Attributes:
        metric: what it is, with its feature space.
        value: of the model.
        n: images on each side.
        observation: the same of the corrupted data as they are.
        floor: the same of another part of the references.
    """

    metric: str
    value: float
    n: Annotated[int, Field(ge=1)]
    observation: float | None = None
    floor: float | None = None


class Card(Params):
    """What a user of a model should know.

    Attributes:
        schema_version: version of this format.
        title: one line.
        data: what it learned from.
        corruption: how these data were corrupted.
        numbers: how good it is.
        command: what made it.
        licence: of the weights.
        notes: limits.
        weights_sha256: checksum of the weights file.
    """

    schema_version: Literal[1] = 1
    title: str
    data: str
    corruption: str
    numbers: tuple[Number, ...] = ()
    command: str = ""
    licence: str
    notes: tuple[str, ...] = ()
    weights_sha256: str


def shipped() -> Path:
    """The folder of the models that the package carries."""
    return Path(str(files("mrigen.assets"))) / "models"


def downloaded() -> Path:
    """Where downloads are kept: ``$XDG_CACHE_HOME/mrigen/models``, by default under ``~/.cache``."""
    return cache_folder() / "models"


def named(name: str) -> Path | None:
    """The model folder that a name means: one of the package's models, or one that was downloaded."""
    if NAME.fullmatch(name) is None:
        return None
    places = [folder / name for folder in (shipped(), downloaded())]
    return next((path for path in places if (path / DESCRIPTION).is_file()), None)


def read_card(folder: Path) -> Card | None:
    """The card of a model folder; None where there is none.

    Raises:
        UsageError: a card that is damaged, or of other weights than the folder's description says.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    card = _card(path, _json(path, path.read_bytes()))
    description = folder / DESCRIPTION
    weights = _json(description, description.read_bytes()).get("weights_sha256")
    if weights != card.weights_sha256:
        raise UsageError(f"{path}: is the card of other weights than those of {description}; write it again")
    return card


def models_in(folder: Path) -> dict[str, Card | None]:
    """Model folders in a folder, by name, with their cards.

    Raises:
        UsageError: no folder, or a damaged card.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give a folder of model folders or a web address")
    folders = sorted(path.parent for path in folder.glob(f"*/{DESCRIPTION}"))
    return {path.name: read_card(path) for path in folders}


def write_index(folder: Path) -> list[str]:
    """Write ``models.json``, from which the folder can be used at a static web address; the models in it.

    Raises:
        UsageError: a model without a card, or with a name that is none.
    """
    cards = models_in(folder)
    for name, card in cards.items():
        if card is None:
            raise UsageError(f"{folder / name}: has no {CARD}; mrigen publish writes one")
        if NAME.fullmatch(name) is None:
            raise UsageError(f"{folder / name}: name it with a-z, 0-9, '.', '_' and '-'")
    hashes = {
        name: {file: sha256(folder / name / file) for file in FILES if (folder / name / file).is_file()}
        for name in cards
    }
    write_json(folder / INDEX, {"schema_version": 1, "models": hashes})
    return list(cards)


def is_address(where: str) -> bool:
    """Whether it is a web address and not a path."""
    return urlparse(where).scheme in {"http", "https"}


def remote_models(address: str) -> dict[str, Card]:
    """Cards of the models at a web address, by name.

    Raises:
        UsageError: no hub there, or a card whose checksum is not the index's.
    """
    base = _base(address)
    cards = {}
    for name, hashes in _index(base).items():
        url = urljoin(base, f"{name}/{CARD}")
        text = _read(url, MOST_TEXT)
        _check(url, text, hashes.get(CARD, ""))
        cards[name] = _card(url, _json(url, text))
    return cards


def download(address: str, name: str) -> Path:
    """The folder of a model of a web address, fetched unless it was before; checked against the index.

    Raises:
        UsageError: no such model there, a file that is too large, or one of another checksum.
    """
    base = _base(address)
    models = _index(base)
    if name not in models:
        raise UsageError(f"{address}: has no model {name!r}; it has {', '.join(models) or 'none'}")
    target = downloaded() / name
    hashes = models[name]
    if target.is_dir() and all((target / f).is_file() and sha256(target / f) == d for f, d in hashes.items()):
        return target
    with scratch(target) as temporary:
        folder = temporary / name
        folder.mkdir()
        for file, digest in hashes.items():
            url = urljoin(base, f"{name}/{file}")
            data = _read(url, MOST_WEIGHTS if file.endswith(".safetensors") else MOST_TEXT * 16)
            _check(url, data, digest)
            with atomic(folder / file) as path:
                path.write_bytes(data)
        read_card(folder)
        if target.exists():
            target.replace(temporary / "before")
        folder.replace(target)
    return target


def _base(address: str) -> str:
    return address if address.endswith("/") else f"{address}/"


def _index(base: str) -> dict[str, dict[str, str]]:
    """File checksums by model."""
    url = urljoin(base, INDEX)
    content = _json(url, _read(url, MOST_TEXT))
    models = content.get("models")
    if not isinstance(models, dict) or not all(
        NAME.fullmatch(name)
        and isinstance(hashes, dict)
        and {DESCRIPTION, "model.safetensors", CARD} <= hashes.keys() <= set(FILES)
        and all(isinstance(d, str) and DIGEST.fullmatch(d) for d in hashes.values())
        for name, hashes in models.items()
    ):
        raise UsageError(f"{url}: is no index of models; mrigen models FOLDER --index writes one")
    return models


def _read(url: str, most: int) -> bytes:
    """The content of a web address, at most so many bytes."""
    try:
        with urlopen(Request(url, headers={"User-Agent": "mrigen"}), timeout=SECONDS) as answer:  # noqa: S310
            data: bytes = answer.read(most + 1)
    except (URLError, OSError, ValueError) as error:
        raise UsageError(f"--download: cannot fetch {url} ({error}); check the address") from error
    if len(data) > most:
        raise UsageError(f"{url}: has more than {most} bytes; not fetched")
    return data


def _check(url: str, data: bytes, digest: str) -> None:
    import hashlib

    if hashlib.sha256(data).hexdigest() != digest:
        raise UsageError(f"{url}: its checksum is not that of the index; nothing was kept")


def _json(path: Path | str, text: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}: is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: is no JSON object")
    return content


def _card(path: Path | str, content: Mapping[str, Any]) -> Card:
    try:
        return Card.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {describe(error)}") from error
