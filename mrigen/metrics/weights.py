"""Weights of published networks: a file that the user names, one from before, or a download on request."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.files import sha256


@dataclass(frozen=True)
class WeightsFile:
    """Weights that somebody published.

    Attributes:
        what: word for messages.
        url: where they are.
        option: the option that names a file of them; empty where there is none.
        instead: what does without them, for messages.
    """

    what: str
    url: str
    instead: str
    option: str = ""

    @property
    def stored(self) -> Path:
        """Where a download puts them, torch-fidelity's as well as ours."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[1]

    def find(self, file: Path | None, *, download: bool) -> Path:
        """The weights' file.

        Args:
            file: named by the user; None to look where downloads are kept.
            download: fetch them when they are not there.

        Raises:
            UsageError: they are nowhere; names every way to get them.
        """
        if file is not None:
            if not file.is_file():
                raise UsageError(f"{self.option} {file}: no such file")
            return file
        if not self.stored.is_file():
            if not download:
                raise UsageError(
                    f"the weights of {self.what} are not on this machine: add --download to fetch them from "
                    f"{self.url}, or {self._by_hand()}; {self.instead}"
                )
            self._download()
        return self.stored

    def _by_hand(self) -> str:
        return (
            f"give the file by {self.option} FILE (in a recipe evaluate.weights)"
            if self.option
            else f"put the file at {self.stored}"
        )

    def _download(self) -> None:
        try:
            self.stored.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(self.stored))
        except (URLError, OSError) as error:
            raise UsageError(
                f"--download: cannot fetch {self.url} ({error}); {self._by_hand()}; {self.instead}"
            ) from error


def tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file, by name; nothing but tensors is unpickled.

    Raises:
        UsageError: something else is in it.
    """
    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, LookupError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(f"{path}: no file of weights ({reason})") from error
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise UsageError(f"{path}: no file of weights (no mapping of tensors)")
    return weights


def digest(path: Path) -> str:
    """What identifies a weights file, whatever its name."""
    return f"sha256 {sha256(path)}"
