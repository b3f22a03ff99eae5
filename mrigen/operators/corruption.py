"""A corruption: a distribution p(A) over forward models, with the noise level of the data.

A recipe describes one by a name and parameters, ``{"name": "gaussian-blur", "std": 2.0}``. The name
is a registered one, or a class in a user's own file, ``my_ops.py:MyOperator``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.files import sha256
from mrigen.operators import user
from mrigen.operators.base import Measurements, Operator, sent
from mrigen.operators.checks import check
from mrigen.operators.noise import Noise
from mrigen.registry import Params, Registry

Shape = tuple[int, int, int]
Spec = Mapping[str, Any]

FIXED = "drops nothing at random, so that what it hides is never measured; use standard or tweedie"
NAIVE = (
    "the further corruption hides nothing (δ = 0): this is the naive masked loss, a baseline, which learns "
    "nothing of what the operators do not measure"
)
CHECKSUMS = "sha256"


class OperatorRegistry(Registry["Corruption"]):
    """The operators by name; also finds classes in a user's own files."""

    def __getitem__(self, name: str) -> type[Any]:
        return user.load_class(name, ImageCorruption) if user.is_file(name) else super().__getitem__(name)


CORRUPTIONS = OperatorRegistry("operator", "mrigen.operators")


class Corruption(ABC):
    """Distribution over operators A, and over operators Ã that see a little less than A.

    Attributes:
        noise: distribution of the measurement noise's standard deviation.
        reason: why ambient training cannot work with it: E[Aᵀ A | Ã] must have full rank (Ambient
            Diffusion, theorem 4.1); empty where it can.
        baseline: what ambient training with it is where the theorem is given up on purpose (``NAIVE``);
            empty otherwise.
    """

    Params: ClassVar[type[Params]]
    noise: Noise = Noise()
    reason: str = ""
    baseline: str = ""

    def noisy(self) -> Corruption:
        """The same with the noise of the data in ``noise``, for objectives that account for it.

        Raises:
            UsageError: nobody knows the data's noise.
        """
        return self

    @abstractmethod
    def draw(self, batch: int, generator: torch.Generator) -> Operator:
        """A ~ p(A), one per sample."""

    @abstractmethod
    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        """Ã ~ p(Ã | A), one per sample."""

    def measure(self, x: Tensor, generator: torch.Generator) -> Measurements:
        """Corrupt clean images as the data are: y = A x + σ ε with a fresh A and σ per sample."""
        return self.measure_by(self.draw(len(x), generator).sent(x.device), x, generator)

    def measure_by(self, operator: Operator, x: Tensor, generator: torch.Generator) -> Measurements:
        """The same by a given A on the device of x."""
        sigma = sent(self.noise.draw(len(x), generator), x.device)
        y = operator.forward(x)
        if bool(self.noise):
            y = y + operator.noise(y, sigma, generator)
        return Measurements(y, operator, sigma)


class ImageCorruption(Corruption):
    """A corruption of images of one shape, made from a recipe's words.

    Attributes:
        injective: whether every A keeps all of the image, so that nothing is lost in it.

    Args:
        params: the operator's constants.
        shape: (C, H, W) of the clean images.
        noise: measurement noise.

    Raises:
        UsageError: the operator does not fit images of this shape.
    """

    injective: ClassVar[bool] = False

    def __init__(self, params: Params, shape: Shape, noise: Noise | None = None) -> None:
        self.params = params
        self.shape = shape
        self.noise = noise if noise is not None else Noise()

    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        """Refuse: an operator that is not random has nothing to drop."""
        del operator, generator
        raise UsageError(
            f"{type(self).__name__} has no further corruption: {self.reason or 'define further'}"
        )

    def zeros(self, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A batch of zero images that takes the memory of one number."""
        return torch.zeros((), dtype=dtype).expand(batch, *self.shape)

    @classmethod
    def files(cls, params: Any) -> list[Path]:
        """Files that the parameters name and that decide what the operator is."""
        del params
        return []

    @classmethod
    def example(cls) -> Self:
        """Small instance, of odd size, for the contract tests; every registered class has one."""
        raise NotImplementedError(f"{cls.__name__} has no example for the contract tests")


def corruption_class(name: str) -> type[ImageCorruption]:
    """The corruption of a name: registered, or ``my_ops.py:MyOperator``.

    Raises:
        UsageError: there is none, or the file does not define it.
    """
    return CORRUPTIONS[name]


def make_corruption(spec: Spec, shape: Shape, noise: Noise | None = None) -> ImageCorruption:
    """The corruption that a recipe or a store describes.

    Args:
        spec: ``name`` and parameters, as written or as ``freeze`` returned them.
        shape: (C, H, W) of the clean images.
        noise: measurement noise; None for noiseless data.

    Raises:
        UsageError: unknown name or parameter, an operator that does not fit the images, a file that
            changed since the spec was frozen, or a user's operator that is not right.
    """
    spec = _checked(spec)
    name = str(spec.get("name", ""))
    if not user.is_file(name):
        return CORRUPTIONS.build(spec, shape=shape, noise=noise)  # type: ignore[no-any-return]
    cls, params = corruption_class(name), CORRUPTIONS.params(spec)
    with user.blamed(user.split(name)[0], "making the operator"):
        corruption = cls(params, shape, noise)  # type: ignore[arg-type]
        check(corruption.draw(2, seeds.generator(0, "check")), (2, *shape), name)
    return corruption


def canonical(spec: Spec) -> dict[str, Any]:
    """A spec with every parameter written out and paths made absolute; ready for JSON."""
    spec = _checked(spec)
    params = CORRUPTIONS.params(spec)
    name = str(spec["name"])
    if user.is_file(name):
        name = ":".join(map(str, user.split(name)))
    return {"name": name, **params.model_dump(mode="json")}


def freeze(spec: Spec) -> dict[str, Any]:
    """A spec to store with data and models: canonical, with the SHA-256 of every file that it needs.

    ``make_corruption`` refuses it once one of these files has changed.

    Raises:
        UsageError: as ``make_corruption``.
    """
    frozen = canonical(spec)
    checksums = {str(path): sha256(path) for path in files_of(frozen)}
    return {**frozen, CHECKSUMS: checksums} if checksums else frozen


def files_of(spec: Spec) -> list[Path]:
    """The user's files that decide what a canonical spec means."""
    name = str(spec["name"])
    own = [user.split(name)[0]] if user.is_file(name) else []
    return own + corruption_class(name).files(CORRUPTIONS.params(spec))


def _checked(spec: Spec) -> dict[str, Any]:
    """The spec without its checksums, which must be those of the files."""
    values = dict(spec)
    for path, checksum in values.pop(CHECKSUMS, {}).items():
        if not Path(path).is_file():
            raise UsageError(
                f"{path}: no such file, but operator {values.get('name')!r} needs it; restore it"
            )
        if sha256(Path(path)) != checksum:
            raise UsageError(
                f"{path}: changed since operator {values.get('name')!r} was recorded "
                f"(sha256 {checksum[:12]}...); restore the file, or prepare the data and train again"
            )
    return values
