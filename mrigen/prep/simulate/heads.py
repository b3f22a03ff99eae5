"""Which heads a simulation acquires, and what they are painted as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mrigen.errors import UsageError

if TYPE_CHECKING:
    from mrigen.prep.simulate.anatomy import Anatomy
    from mrigen.prep.simulate.label_map import LabelMap


@dataclass(frozen=True)
class Heads:
    """The heads of a simulation: volume i has head i modulo their number; contrasts take turns then.

    Attributes:
        anatomies: files and folders of volumes and label maps; none for the bundled head.
        selection: which of their files, counted from 1, such as ``1-14``; None for all.
        labels: table of labels that are not FreeSurfer's or CHARM's.
        contrasts: what label maps are painted as; T1 by default.
    """

    anatomies: tuple[Path, ...] = ()
    selection: str | None = None
    labels: Path | None = None
    contrasts: tuple[str, ...] = ()

    def each(self) -> list[tuple[Path | None, str | None, Anatomy | LabelMap]]:
        """File, name (None for a single volume of intensities) and content of every head.

        Raises:
            UsageError: no heads, or options that none of them uses.
        """
        from mrigen.prep.simulate import anatomy
        from mrigen.prep.simulate.label_map import LabelMap
        from mrigen.prep.simulate.tissues import CONTRASTS

        if self.selection is not None and not self.anatomies:
            raise UsageError("--heads: chooses among several; give them with --anatomy")
        files = anatomy.choose(self.anatomies, self.selection) if self.anatomies else [None]
        read = [(file, anatomy.load(file, self.labels)) for file in files]
        painted = any(isinstance(head, LabelMap) for _, head in read)
        for option, value in (("--labels", self.labels), ("--contrast", self.contrasts)):
            if value and not painted:
                raise UsageError(f"{option}: is for label maps, and --anatomy gives none; leave it out")
        for contrast in self.contrasts:
            if contrast not in CONTRASTS:
                raise UsageError(f"--contrast {contrast}: unknown; choose from {', '.join(CONTRASTS)}")
        named = painted or len(read) > 1
        return [(file, anatomy.name_of(file) if named and file else None, head) for file, head in read]
