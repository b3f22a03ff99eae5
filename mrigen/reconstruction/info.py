"""What a model or a run is.

Models and runs, of which no pixel is read, so that torch is not loaded; ``file_info`` knows all the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrigen.checkpoints.description import DESCRIPTION, read_description
from mrigen.recipe import health

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Info:
    """What ``mrigen info`` shows.

    Attributes:
        facts: values by name, JSON's types, in the order in which they are shown.
        picture: magnitudes (H, W) of one slice, or None.
        faults: what is damaged, one line each.
    """

    facts: dict[str, Any]
    picture: NDArray[Any] | None = None
    faults: list[str] = field(default_factory=list)


def of_run(path: Path) -> Info | None:
    """What a model folder or a run is; None for everything else, which ``file_info.info`` knows."""
    facts: dict[str, Any] = {"file": path.name, "what": "run folder"}
    if (path / DESCRIPTION).is_file():
        model = read_description(path)
        facts |= {"what": f"model folder, a {model.role}", "image_shape": list(model.image_shape)}
        known = {"provenance", "image_shape", "role"}
        facts |= {name: value for name, value in model.model_dump(mode="json").items() if name not in known}
    elif not (path / "recipe.yaml").is_file():
        return None
    return checked(path, facts)


def checked(path: Path, facts: dict[str, Any]) -> Info:
    """Facts and whether everything below a folder is as its checksums say."""
    faults = [f"{folder}: {fault}" for folder, faults in health.check(path).items() for fault in faults]
    return Info({**facts, "checksums": "damaged" if faults else "sound"}, faults=faults)
