"""What ``mrigen prep-images`` is asked to do; the manifest keeps all of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from mrigen.errors import UsageError
from mrigen.operators.corruption import CORRUPTIONS
from mrigen.operators.noise import UNKNOWN, Noise, parse_noise
from mrigen.prep.images.base import Item
from mrigen.prep.images.geometry import Geometry
from mrigen.prep.split import Split, part_of


def _noise(value: Any) -> Any:
    parse_noise(value)
    return value


def _operator(value: dict[str, Any]) -> dict[str, Any]:
    return CORRUPTIONS.freeze(value)


class ImageOptions(Geometry):
    """Options of the preparation that change what is written.

    Attributes:
        operator: the forward model, ``name`` and parameters; kept with every parameter written out and
            with the checksums of a user's own files.
        noise: σ in units of images in [-1, 1]; two numbers [a, b] for σ ~ U[a, b] per image; or
            ``unknown``, for ``measured`` images.
        measured: the source holds measurements already: nothing is corrupted, and there are no references.
        estimate_noise: the noise is simulated, but training is told the estimate of σ instead of σ.
        stated_noise: the noise is simulated, but training is told this σ instead of σ, to study wrong ones;
            None for the true one.
        split: parts of the data and their fractions, by image; None for the source's own parts, or all
            of it in ``train`` where it has none.
        labels: keep class labels.
        limit: take only so many images, evenly from the source; None for all.
        seed: where operators, noise and split come from.
    """

    operator: Annotated[dict[str, Any], AfterValidator(_operator)] = Field(
        default={"name": "identity"}, validate_default=True
    )
    noise: Annotated[Any, AfterValidator(_noise)] = 0.0
    measured: bool = False
    estimate_noise: bool = False
    stated_noise: Annotated[float, Field(gt=0)] | None = None
    split: Split | None = None
    labels: bool = False
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> ImageOptions:
        law = self.law
        if law is None and not self.measured:
            raise ValueError(
                "noise unknown is for images that are measurements already (--measured); to simulate noise "
                "and hide its level from training give a number and --estimate-noise"
            )
        if law is not None and self.measured and law.high is not None:
            raise ValueError("measured images need one noise level, or unknown")
        if self.estimate_noise and (self.measured or not law):
            raise ValueError("estimate_noise is for simulated noise; give --noise a number above 0")
        if self.stated_noise is not None and (self.measured or self.estimate_noise):
            other = "measured" if self.measured else "estimate_noise"
            raise ValueError(f"stated_noise and {other} exclude each other; leave one of them out")
        return self

    @property
    def law(self) -> Noise | None:
        """The law of σ; None where it is unknown."""
        return parse_noise(self.noise)

    @property
    def hides_noise(self) -> bool:
        """Whether training goes by an estimate of σ."""
        return self.estimate_noise or self.noise == UNKNOWN

    def part(self, item: Item) -> str:
        """The part of the data that an image belongs to."""
        if self.split is None:
            return item.part or "train"
        return part_of(self.split, self.seed, item.name)

    def positions(self, count: int) -> list[int]:
        """Which images of ``count`` are taken.

        Raises:
            UsageError: there are not so many.
        """
        if self.limit is None:
            return list(range(count))
        if self.limit > count:
            raise UsageError(f"--limit {self.limit}: the source has only {count} images; lower it")
        return [i * count // self.limit for i in range(self.limit)]
