"""One operator after another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator, linear
from mrigen.operators.corruption import (
    CORRUPTIONS,
    ImageCorruption,
    Shape,
    make_corruption,
)
from mrigen.operators.identity import Identity
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.noise import Noise
from mrigen.registry import Params


@dataclass(frozen=True, eq=False)
class Composition(Operator):
    """A(x) = A₂(A₁(x)): the measurement of ``inner`` is the image of ``outer``.

    Attributes:
        outer: A₂.
        inner: A₁.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.Clip.example() @ mg.operators.Identity(mg.operators.Clip.example().zero_image())
        >>> type(A).__name__, A(A.zero_image()).shape
        ('Composition', torch.Size([2, 3, 7, 5]))
    """

    outer: Operator
    inner: Operator

    def forward(self, x: Tensor) -> Tensor:
        """A₂ A₁ x."""
        return self.outer.forward(self.inner.forward(x))

    def as_image(self, y: Tensor) -> Tensor:
        """Each operator's image in turn."""
        return self.inner.as_image(self.outer.as_image(y))

    def zero_image(self) -> Tensor:
        """The zero image of ``inner``."""
        return self.inner.zero_image()

    def conditioning(self) -> Tensor | None:
        """The product of the planes that the operators show, repeated to the image's size."""
        planes = [plane for o in (self.inner, self.outer) if (plane := o.conditioning()) is not None]
        size = self.zero_image().shape[-2:]
        fitted = [
            p if p.shape[-2:] == size else functional.interpolate(p, size=size, mode="nearest")
            for p in planes
        ]
        return reduce(torch.mul, fitted) if fitted else None

    def noise(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """The noise of ``outer``, which measures."""
        return self.outer.noise(y, sigma, rng)

    @classmethod
    def example(cls) -> Composition:
        """Clipped after a blur."""
        from mrigen.operators.blur import Blur
        from mrigen.operators.nonlinear import Clip

        return cls(Clip.example(), Blur.example())


@dataclass(frozen=True, eq=False)
class LinearComposition(Composition, LinearOperator):
    """A = A₂ A₁ of linear operators; Aᴴ = A₁ᴴ A₂ᴴ.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.PixelMask.example()
        >>> B = A @ A
        >>> torch.equal(B(A.zero_image() + 1), A(A.zero_image() + 1))
        True
    """

    def adjoint(self, y: Tensor) -> Tensor:
        """A₁ᴴ A₂ᴴ y."""
        return linear(self.inner).adjoint(linear(self.outer).adjoint(y))

    @property
    def is_projection(self) -> bool:
        """Whether N N = N: for a projection of the image itself, and for one mask after another."""
        masks = isinstance(self.outer, PixelMask) and isinstance(self.inner, PixelMask)
        return masks or (isinstance(self.inner, Identity) and linear(self.outer).is_projection)

    def normal(self, x: Tensor) -> Tensor:
        """A₁ᴴ (A₂ᴴ A₂) A₁ x."""
        return linear(self.inner).adjoint(linear(self.outer).normal(self.inner.forward(x)))

    @classmethod
    def example(cls) -> LinearComposition:
        """Missing pixels of a blurred image."""
        from mrigen.operators.blur import Blur

        return cls(PixelMask.example(), Blur.example())


def compose(*operators: Operator) -> Operator:
    """The operators one after another, the first given acting first; linear if all of them are.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.PixelMask.example()
        >>> type(mg.operators.compose(A, A)).__name__
        'LinearComposition'
    """

    def after(inner: Operator, outer: Operator) -> Operator:
        both = isinstance(inner, LinearOperator) and isinstance(outer, LinearOperator)
        return (LinearComposition if both else Composition)(outer, inner)

    return reduce(after, operators)


def _complete(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [CORRUPTIONS.canonical(part) for part in parts]


class ComposeParams(Params):
    """Operators in the order in which they act.

    Attributes:
        parts: each in a recipe's notation, ``name`` and parameters.
    """

    parts: Annotated[list[dict[str, Any]], Field(min_length=2), AfterValidator(_complete)]


@CORRUPTIONS.register("compose")
class Compose(ImageCorruption):
    """Corruptions one after another; their draws are independent, the noise is added at the end.

    The further corruption is that of the last part, whose measurement it is. With A = A₂ A₁,

        E[AᴴA | Ã] = A₁ᴴ E[A₂ᴴA₂ | Ã₂] A₁

    has full rank if the last part's has and A₁ is injective: ambient training recovers the image
    that enters the last part, and no earlier one unless nothing was lost before.
    """

    Params = ComposeParams
    params: ComposeParams

    def __init__(self, params: ComposeParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self.parts: list[ImageCorruption] = []
        image = torch.zeros(1, *shape)
        rng = torch.Generator().manual_seed(0)
        for number, spec in enumerate(params.parts):
            part = make_corruption(spec, _plane(image, params.parts[number - 1]["name"]))
            operator = part.draw(1, rng)
            if number and operator.zero_image().is_complex() != image.is_complex():
                kinds = ("real", "complex")
                raise UsageError(
                    f"compose: {spec['name']} takes {kinds[operator.zero_image().is_complex()]} images, but "
                    f"{params.parts[number - 1]['name']} before it gives {kinds[image.is_complex()]} ones"
                )
            image = operator.forward(operator.zero_image())
            self.parts.append(part)
        lossy = [s["name"] for s, p in zip(params.parts, self.parts[:-1], strict=False) if not p.injective]
        self.ambient_obstacle, self.baseline = self.parts[-1].ambient_obstacle, self.parts[-1].baseline
        if lossy and not self.ambient_obstacle:
            self.ambient_obstacle = (
                f"{lossy[0]} may lose part of the image before {params.parts[-1]['name']} measures it, which "
                "no further corruption of that reveals; use standard or tweedie"
            )

    @property
    def injective(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(part.injective for part in self.parts)

    def draw(self, batch: int, rng: torch.Generator) -> Operator:
        """Every part, drawn in turn."""
        return compose(*[part.draw(batch, rng) for part in self.parts])

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> Operator:
        """Corrupt the last part further."""
        if not isinstance(operator, Composition):
            raise TypeError(f"Compose cannot corrupt a {type(operator).__name__} further")
        return replace(operator, outer=self.parts[-1].corrupt_further(operator.outer, rng))

    @classmethod
    def files(cls, params: Any) -> list[Path]:
        """The files of all parts."""
        return [path for part in params.parts for path in CORRUPTIONS.files(part)]

    @classmethod
    def example(cls) -> Self:
        """Missing pixels of blurred colour images of odd size."""
        parts = [{"name": "gaussian-blur", "size": 3}, {"name": "inpainting", "missing": 0.5}]
        return cls(ComposeParams(parts=parts), (3, 7, 5))


def _plane(image: Tensor, name: str) -> Shape:
    """(C, H, W) of an intermediate measurement, which the next part must take for an image."""
    if image.ndim != 4:
        raise UsageError(f"compose: the measurement of {name} is no image; let it be the last part")
    return image.shape[1], image.shape[2], image.shape[3]
