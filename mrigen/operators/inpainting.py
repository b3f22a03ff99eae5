"""Missing pixels: at random, in a rectangle, or all but a rectangle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import CORRUPTIONS, FIXED, NAIVE, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params
from mrigen.tensors import mirrored, randn_like

Pixels = Annotated[int, Field(ge=1)]
Size = Annotated[
    tuple[Pixels, Pixels] | Pixels, AfterValidator(lambda v: v if isinstance(v, tuple) else (v, v))
]
"""(h, w), or one number for a square."""


@dataclass(frozen=True, eq=False)
class PixelMask(LinearOperator):
    """A x = M x: pixels outside the mask are zero in the measurement.

    Attributes:
        mask: measured pixels, bool (B or 1, 1 or C, H, W).
        channels: C.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.PixelMask(torch.tensor([[[[True, False]]]]), 1)
        >>> A(torch.ones(1, 1, 1, 2))
        tensor([[[[1., 0.]]]])
    """

    mask: Tensor
    channels: int

    def forward(self, x: Tensor) -> Tensor:
        """M x."""
        return x * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        """M y."""
        return y * self.mask

    def normal(self, x: Tensor) -> Tensor:
        """M x, for M is a projection."""
        return x * self.mask

    @property
    def is_projection(self) -> bool:
        """Whether N N = N: N = M."""
        return True

    def zero_image(self) -> Tensor:
        """Zeros, float32 (B, C, H, W)."""
        batch, _, height, width = self.mask.shape
        return torch.zeros(batch, self.channels, height, width, device=self.mask.device)

    def conditioning(self) -> Tensor:
        """The mask as float32."""
        return self.mask.float()

    def noise(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """Noise on the measured pixels."""
        return super().noise(y, sigma, rng) * self.mask

    def whitened_image(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurement with noise on the missing pixels too."""
        return y + sigma.reshape(-1, 1, 1, 1) * randn_like(y, rng) * ~self.mask, sigma

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """Measurement and mask mirror like the image."""
        return mirrored(y, which, axis), replace(self, mask=mirrored(self.mask, which, axis))

    @classmethod
    def example(cls) -> PixelMask:
        """Two colour images of odd size, masked per channel."""
        rng = torch.Generator().manual_seed(0)
        return cls(torch.rand(2, 3, 7, 5, generator=rng) < 0.5, 3)


class InpaintingParams(Params):
    """Random missing pixels.

    Attributes:
        missing: p, the probability that a pixel is missing.
        further_missing: δ, the probability that a measured pixel is hidden further; 0 for the naive masked
            loss, a baseline.
        per_channel: mask the colours of a pixel independently.
    """

    missing: Annotated[float, Field(ge=0, lt=1)] = 0.6
    further_missing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    per_channel: bool = False


@CORRUPTIONS.register("inpainting")
class RandomInpainting(ImageCorruption):
    """Every pixel is missing with probability p; the further corruption hides measured ones with δ.

    Given Ã, a pixel that it hides was measured with probability δ(1 − p) / (p + δ(1 − p)) > 0: E[AᵀA | Ã]
    is diagonal and positive (Ambient Diffusion, corollary A.1 of theorem 4.1).
    """

    Params = InpaintingParams
    params: InpaintingParams

    def __init__(self, params: InpaintingParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self.baseline = "" if params.further_missing else NAIVE

    def draw(self, batch: int, rng: torch.Generator) -> PixelMask:
        """Independent pixels."""
        channels, height, width = self.shape
        planes = channels if self.params.per_channel else 1
        mask = torch.rand(batch, planes, height, width, generator=rng) >= self.params.missing
        return PixelMask(mask, channels)

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> PixelMask:
        """Hide each measured pixel with probability δ."""
        if not isinstance(operator, PixelMask):
            raise TypeError(f"RandomInpainting cannot corrupt a {type(operator).__name__} further")
        kept = torch.rand(operator.mask.shape, generator=rng) >= self.params.further_missing
        return replace(operator, mask=operator.mask & kept.to(operator.mask.device))

    @classmethod
    def example(cls) -> Self:
        """Half of the pixels of colour images of odd size."""
        return cls(InpaintingParams(missing=0.5), (3, 7, 5))


class BoxParams(Params):
    """A rectangle within the image.

    Attributes:
        size: its height and width in pixels, or one number for both.
        position: ``random``, drawn per sample by the operator, or always in the ``centre``.
    """

    size: Size = (16, 16)
    position: Literal["random", "centre"] = "random"


class BoxCorruption(ImageCorruption):
    """What corruptions by a rectangle share."""

    Params = BoxParams
    params: BoxParams

    def __init__(self, params: BoxParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self.size: tuple[int, int] = params.size  # type: ignore[assignment]
        (h, w), (_, height, width) = self.size, shape
        if h > height or w > width or (h, w) == (height, width):
            raise UsageError(
                f"a box of {h} x {w} pixels must be smaller than the image of {height} x {width}"
            )

    def boxes(self, batch: int, rng: torch.Generator) -> Tensor:
        """Rectangles as bool (batch, 1, H, W), by the law that the parameters say."""
        corners = []
        for side, length in zip(self.size, self.shape[1:], strict=True):
            if self.params.position == "random":
                corners.append(torch.randint(length - side + 1, (batch,), generator=rng))
            else:
                corners.append(torch.full((batch,), (length - side) // 2))
        return rectangles(corners, self.size, self.shape)


def rectangles(corners: list[Tensor], size: tuple[int, int], shape: Shape) -> Tensor:
    """Rectangles of one size by their first row and column (B,): bool (B, 1, H, W)."""
    rows, columns = (
        (torch.arange(length) >= first[:, None]) & (torch.arange(length) < first[:, None] + side)
        for first, side, length in zip(corners, size, shape[1:], strict=True)
    )
    return (rows[:, :, None] & columns[:, None, :])[:, None]


@CORRUPTIONS.register("missing-box")
class MissingBox(BoxCorruption):
    """The pixels of a rectangle are missing; the further corruption hides another one of its size.

    All ordered pairs of rectangles within the image that do not overlap are equally likely: the missing
    one lies at a place with the probability of its number n of partners there, and the further
    corruption takes one of these n. Given the pair, either may be the missing one, so that

        E[AᵀA | Ã] = ½ in both rectangles and 1 elsewhere

    has full rank (Ambient Diffusion, theorem 4.1; block inpainting in its section 5). Rectangles of up to
    half of the image's height or width have partners, a quarter of the image for example.
    """

    def __init__(self, params: BoxParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        overlapping = [
            _overlap(length - side + 1, side).sum(1)
            for side, length in zip(self.size, shape[1:], strict=True)
        ]
        places = len(overlapping[0]) * len(overlapping[1])
        self._partners = places - overlapping[0][:, None] * overlapping[1]
        if params.position != "random":
            self.ambient_obstacle = f"a box that is always at the same place {FIXED}"
        elif not self._partners.any():
            self.ambient_obstacle = (
                "a box of more than half of the image's height and width leaves no room for a second one, "
                "which the further corruption hides; use a smaller box, or standard or tweedie"
            )

    def draw(self, batch: int, rng: torch.Generator) -> PixelMask:
        """One rectangle per sample; anywhere, if none has a partner."""
        if self.ambient_obstacle:
            return PixelMask(~self.boxes(batch, rng), self.shape[0])
        weights = self._partners.flatten().double()
        places = weights.multinomial(batch, replacement=True, generator=rng)
        return PixelMask(~self._at(places), self.shape[0])

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> PixelMask:
        """Hide one of the missing rectangle's partners.

        Raises:
            UsageError: a rectangle has none, because the data were prepared when they could lie anywhere.
        """
        if not isinstance(operator, PixelMask):
            raise TypeError(f"MissingBox cannot corrupt a {type(operator).__name__} further")
        if self.ambient_obstacle:
            raise UsageError(f"missing-box has no further corruption: {self.ambient_obstacle}")
        missing = ~operator.mask.cpu()
        rows, columns = (
            _overlap(length - side + 1, side)[missing.any(3 - axis)[:, 0].float().argmax(1)]
            for axis, (side, length) in enumerate(zip(self.size, self.shape[1:], strict=True))
        )
        apart = ~(rows[:, :, None] & columns[:, None, :]).flatten(1)
        if not apart.any(1).all():
            raise UsageError(
                "missing-box: a box of these data has no room for a second one beside it; prepare the data "
                "again with mrigen prep-images, which draws boxes that have"
            )
        places = apart.double().multinomial(1, generator=rng)[:, 0]
        return replace(operator, mask=operator.mask & ~self._at(places).to(operator.mask.device))

    def _at(self, places: Tensor) -> Tensor:
        """Rectangles at places (B,), numbered row by row: bool (B, 1, H, W)."""
        columns = self._partners.shape[1]
        return rectangles([places // columns, places % columns], self.size, self.shape)

    @classmethod
    def example(cls) -> Self:
        """A box of 3 x 2 pixels in colour images of odd size."""
        return cls(BoxParams(size=(3, 2)), (3, 7, 5))


def _overlap(places: int, side: int) -> Tensor:
    """Whether segments of ``side`` pixels that begin at i and j overlap, bool (places, places)."""
    index = torch.arange(places)
    return (index[:, None] - index).abs() < side


@CORRUPTIONS.register("kept-patch")
class KeptPatch(BoxCorruption):
    """All pixels but those of a rectangle are missing.

    There is no further corruption for ambient training: whatever is left of a patch shows about
    where it lies, and E[AᵀA | Ã] is zero at the pixels that are further from it than the patch is
    wide (Ambient Diffusion, theorem 4.1).
    """

    ambient_obstacle = (
        "pixels that lie further apart than a patch is wide are never measured together; "
        "use standard or tweedie, or random inpainting"
    )

    def draw(self, batch: int, rng: torch.Generator) -> PixelMask:
        """One rectangle per sample."""
        return PixelMask(self.boxes(batch, rng), self.shape[0])

    @classmethod
    def example(cls) -> Self:
        """A patch of 4 x 3 pixels of colour images of odd size."""
        return cls(BoxParams(size=(4, 3)), (3, 7, 5))
