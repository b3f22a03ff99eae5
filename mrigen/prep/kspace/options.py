"""What ``mrigen prep-fastmri`` is asked to do; the manifest keeps all of it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from mrigen import plugins
from mrigen.coils import ESPIRIT_CROP
from mrigen.errors import UsageError
from mrigen.files import sha256
from mrigen.prep.split import Split, part_of
from mrigen.registry import Params

SIZE = re.compile(r"(?:(\d+)x)?(\d+)x(\d+)")


class Options(Params):
    """Options of the preparation that change what is written.

    Attributes:
        acceleration: R of the retrospective mask; None for data that carry their own mask.
        mask: name of the mask distribution, with its own parameters as ``poisson-disc:uniform=0.2``; None
            means exact-random.
        acs_lines: fully sampled lines around DC; of data that carry their own mask, how many of its fully
            sampled lines count as such.
        center_fraction: the same as a fraction of W; by default fastMRI's 0.32 / R, or all of the own mask.
        virtual_coils: coils are compressed to so many; 0 keeps them all.
        crop: H and W of the image; 0 keeps an axis.
        remove_oversampling: crop the readout to the reconstructed field of view of the header.
        noise_whitening: decorrelate the coils' noise; None means for fully sampled data.
        maps_from: compute maps from the ACS lines, or from the fully sampled centre (a leak).
        kernel_width: ESPIRiT's kernel.
        calib_readout: readout samples of the calibration region, whose other side is the ACS; both
            sides of it for maps from the fully sampled centre.
        espirit_threshold: singular values kept, relative to the largest.
        espirit_crop: eigenvalue below which maps are set to zero.
        phase: what the phase of an image is relative to: ``coil``, the first coil, as ESPIRiT has it;
            ``acs``, the low-resolution image of the ACS lines, whose phase the maps then carry (S e^{iφ}):
            images are nearly real and positive, and a model need not learn their phase.
        slices: ``all``, a Python slice such as ``5:-5``, or indices such as ``0,3,7``.
        split: parts of the data and their fractions.
        group: regular expression that finds the subject in a file's name (its first group, or all of it);
            files of one subject come into one part. None for what the file says of the subject, or else its
            name.
        only_size: take only volumes with k-space of ``HxW`` or ``COILSxHxW``.
        further_drop: lines that the further corruption drops; None for the distribution's own number, 0 for
            the naive masked loss, a baseline.
        fixed_further: also store one further mask per slice.
        seed: where masks and split come from.
        reader: format of the files; empty to see it by each file. Not kept where it is empty.
        choose: repetition, contrast and the like, as ``contrast=0``. Not kept where it is empty.
    """

    acceleration: Annotated[float, Field(ge=1)] | None = None
    mask: str | None = None
    acs_lines: Annotated[int, Field(ge=1)] | None = None
    center_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    virtual_coils: Annotated[int, Field(ge=0)] = 4
    crop: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (0, 0)
    remove_oversampling: bool = True
    noise_whitening: bool | None = None
    maps_from: Literal["acs", "full"] = "acs"
    kernel_width: Annotated[int, Field(ge=2, le=16)] = 6
    calib_readout: Annotated[int, Field(ge=2)] = 24
    espirit_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.02
    espirit_crop: Annotated[float, Field(ge=0, lt=1)] = ESPIRIT_CROP
    phase: Literal["coil", "acs"] = "coil"
    slices: str = "all"
    split: Split = Field(default={"train": 1.0})
    group: str | None = None
    only_size: str | None = None
    further_drop: Annotated[int, Field(ge=0)] | None = None
    fixed_further: bool = False
    seed: int = 0
    reader: str = ""
    choose: str = ""

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Stores that were written before there were readers have no such keys."""
        kept: dict[str, Any] = dump(self)
        return {k: v for k, v in kept.items() if v or k not in {"reader", "choose", "group"}}

    @field_validator("reader")
    @classmethod
    def _absolute(cls, value: str) -> str:
        """A reader of a user's file by the whole path, which workers and later runs know it by."""
        return ":".join(map(str, plugins.split(value))) if plugins.is_file(value) else value

    @property
    def recorded(self) -> dict[str, Any]:
        """The options as a store keeps them, with the checksum of a user's reader."""
        kept = self.model_dump(mode="json")
        if plugins.is_file(self.reader):
            kept["reader_sha256"] = sha256(plugins.split(self.reader)[0])
        return kept

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if self.acs_lines is not None and self.center_fraction is not None:
            raise ValueError("give --acs-lines or --center-fraction, not both")
        if self.only_size is not None and SIZE.fullmatch(self.only_size) is None:
            raise ValueError("write --only-size as HxW or COILSxHxW, for example 640x320")
        choose_slices(self.slices, None)
        taken = sorted({"acceleration", "acs_lines", "center_fraction"} & set(self._mask))
        if taken:
            option = f"--{taken[0].replace('_', '-')}"
            raise ValueError(f"--mask {self.mask}: give {taken[0]} with its own option {option}")
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise ValueError(f"--group {self.group!r} is no regular expression ({error})") from error
        return self

    @property
    def _mask(self) -> dict[str, Any]:
        """Name and own parameters of the masks."""
        if self.mask is None:
            return {"name": "exact-random"}
        if ":" not in self.mask:
            return {"name": self.mask}
        from mrigen.operators.masks import MASKS

        return MASKS.parse(self.mask)

    @property
    def law(self) -> dict[str, Any]:
        """The retrospective mask distribution in a recipe's notation."""
        spec = {
            **self._mask,
            "acceleration": self.acceleration,
            "acs_lines": self.acs_lines,
            "center_fraction": self.center_fraction,
            "further_drop": self.further_drop,
        }
        return {k: v for k, v in spec.items() if v is not None}

    @property
    def undersamples(self) -> bool:
        """Whether any option speaks of retrospective masks."""
        return any(v is not None for v in (self.acceleration, self.mask, self.further_drop))

    def calibration_lines(self, width: int) -> int | None:
        """How many lines around DC are to count as fully sampled; None for all that are."""
        if self.center_fraction is not None:
            return max(1, round(self.center_fraction * width))
        return self.acs_lines

    def wants(self, coils: int, height: int, width: int) -> bool:
        """Whether k-space of this size is to be prepared."""
        match = SIZE.fullmatch(self.only_size or "")
        if match is None:
            return True
        return (int(match[1] or coils), int(match[2]), int(match[3])) == (coils, height, width)

    def subject(self, name: str, known: str | None = None) -> str:
        """Whose volume a file holds: what ``group`` finds in its name, what the file says, or its name.

        Raises:
            UsageError: ``group`` finds nothing in the name.
        """
        if self.group is None:
            return known or name
        match = re.search(self.group, name)
        if match is None:
            raise UsageError(f"{name}: --group {self.group} finds no subject in this name; mend the pattern")
        return match[1] if match.groups() and match[1] is not None else match[0]

    def part(self, name: str, known: str | None = None) -> str:
        """The part of the split that a volume belongs to, by its subject and the seed alone."""
        return part_of(self.split, self.seed, self.subject(name, known))


def choose_slices(spec: str, count: int | None) -> list[int]:
    """Slice indices of a volume of ``count`` slices; with None only the notation is checked.

    Raises:
        ValueError: the notation is wrong.
        UsageError: the volume has no such slice.
    """
    try:
        if spec == "all":
            chosen: slice | list[int] = slice(None)
        elif ":" in spec:
            chosen = slice(*(int(part) if part.strip() else None for part in spec.split(":")))
        else:
            chosen = [int(part) for part in spec.split(",")]
        if isinstance(chosen, slice):
            range(1)[chosen]  # refuses a step of zero
    except (ValueError, TypeError) as error:
        raise ValueError(f"--slices {spec!r}: write all, 5:-5 or 0,3,7") from error
    if count is None:
        return []
    if isinstance(chosen, slice):
        indices = sorted(range(count)[chosen])
    else:
        if any(not -count <= i < count for i in chosen):
            raise UsageError(f"--slices {spec}: the volume has {count} slices; leave it out or choose others")
        indices = sorted({i % count for i in chosen})
    if not indices:
        raise UsageError(f"--slices {spec}: leaves none of {count} slices; choose others")
    return indices
