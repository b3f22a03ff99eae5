"""Objectives that take a measurement for an image of its own kind, and the plain denoising objective."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mrigen import seeds
from mrigen.channels import PseudoInverseParams
from mrigen.denoiser import Denoiser
from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.objectives.base import OBJECTIVES, Objective, ObjectiveParams, squared_error
from mrigen.diffusion.schedules import per_sample
from mrigen.errors import UsageError
from mrigen.operators.base import Operator, linear
from mrigen.operators.corruption import Corruption
from mrigen.operators.identity import Identity
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like


class ImageObjective(Objective):
    """An objective on measurements as images: what remains is denoising, A = I."""

    @abstractmethod
    def images(self, batch: Measurements, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurements as images, and the standard deviation (B,) of their noise."""

    def augment(self, batch: Measurements, by: Augmentation, rng: torch.Generator) -> Measurements:
        """All of EDM's geometric transforms, applied to the measurements as images.

        Each label has a law of its own to learn, and at label zero that is the law of the measurements.
        Resampling correlates noise, so that a Tweedie denoiser is exact at label zero only; there it
        is used.
        """
        images, sigma = self.images(batch, rng)
        transformed, labels = by(images, rng)
        operator = Identity(images.new_zeros(()).expand(images.shape))
        return replace(batch, y=transformed, operator=operator, sigma=sigma, further=None, augment=labels)


class NoisyImageObjective(ImageObjective):
    """An objective on noisy measurements as images, which models A x of y = A x + σ ε.

    The noise of the measurement as an image must be white; missing pixels are filled with noise, so that a
    masked noisy image is modelled as an image with zeros in it.

    Raises:
        UsageError: the data have no noise, or it is correlated in the image.
    """

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        super().__init__(params, corruption)
        if not corruption.noise:
            raise UsageError(
                f"objective {OBJECTIVES.name_of(self)} cannot use this corruption: its measurements have no "
                "noise (σ = 0) to be accounted for; use standard"
            )
        rng = seeds.seeded_rng(0, "white")
        A = corruption.draw(1, rng)
        A.whitened_image(A.forward(A.zero_image()), torch.zeros(1), rng)

    def images(self, batch: Measurements, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurements as images with white noise."""
        return batch.operator.whitened_image(batch.y, batch.sigma, rng)

    def signal(self, x: Tensor, operator: Operator, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """A x without noise, as an image: the denoiser has already accounted for it (RSD algorithm 6)."""
        del sigma, rng
        return operator.as_image(operator.forward(x))


@OBJECTIVES.register("standard")
class Standard(ImageObjective):
    """λ(σ_t) ‖f(y + σ_t ε, σ_t) − y‖² (RSD eq. 7): models the law of the measurements themselves.

    Of noisy data that is the noisy law: the teacher's samples are noisy, and distillation compares
    generated images after adding measurement noise of their own. The generator's noiseless law is then
    still the right one, for two laws are equal if they are so after one Gaussian convolution; ``tweedie``
    gets there without that detour.
    """

    def __call__(self, denoiser: Denoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Loss per sample, on the measurements as images."""
        y, _ = self.images(batch, rng)
        sigma = self.levels(batch, rng)
        noise = per_sample(sigma) * randn_like(y, rng)
        estimate = denoiser(y + noise, sigma, None, batch.labels, batch.augment)
        return self.weight(sigma) * self.error(estimate - y, batch)

    def error(self, difference: Tensor, batch: Measurements) -> Tensor:
        """Squared error (B,) of estimates of y."""
        del batch
        return squared_error(difference)

    def images(self, batch: Measurements, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurements as images, with whatever noise they have."""
        del rng
        return batch.operator.as_image(batch.y), batch.sigma

    def signal(self, x: Tensor, operator: Operator, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """A x with measurement noise, as an image."""
        y = operator.forward(x)
        return operator.as_image(y + operator.noise(y, sigma, rng))


class ReconstructedParams(ObjectiveParams):
    """Weight of what was reconstructed, not measured.

    Attributes:
        unmeasured_weight: w, the weight of squared errors in what was not measured; those in what was have 1.
        pseudo_inverse: of P, the regularised projection on what was measured.
    """

    unmeasured_weight: Annotated[float, Field(ge=0, le=1)] = 0.05
    pseudo_inverse: PseudoInverseParams = PseudoInverseParams()


@OBJECTIVES.register("reconstructed")
class Reconstructed(Standard):
    """λ(σ_t) ‖P d + √w (d − P d)‖², d = f(x̂ + σ_t ε, σ_t) − x̂, of reconstructions x̂ of y = A x.

    P = (N + τ)⁻¹ N with N = Aᴴ A projects on what was measured. The fixed point is that of w = 1: if x̂ is a
    draw of p(x | y) of the true law, it has that law for every A, and a weight that depends on A and σ_t
    alone leaves the minimiser E[x | x_t] unchanged. Before that, the error in the variance of a component
    that a share m of the images measure shrinks with each pass of reconstruction and training by

        w (1 − m) / (m + w (1 − m)),

    which is 1 − m for w = 1 (expectation-maximisation): hardly at all for lines of k-space that few images
    measure. Images that were measured themselves are learnt from as by ``standard``.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> x = torch.tensor([[[[1.0, 2.0]]]])
        >>> A = mg.operators.PixelMask(torch.tensor([[[[True, False]]]]), 1)
        >>> data = mg.Measurements(x, mg.operators.Identity(x), reconstructed_from=A)
        >>> words = {"name": "reconstructed", "unmeasured_weight": 0.0}
        >>> loss = mg.objectives.OBJECTIVES.build(words, corruption=None)
        >>> hidden = torch.tensor([[[[1.0, 5.0]]]])  # an error where nothing was measured
        >>> loss(lambda *_: hidden, data, torch.Generator())
        tensor([0.])
    """

    Params: ClassVar[type[ObjectiveParams]] = ReconstructedParams
    params: ReconstructedParams

    def error(self, difference: Tensor, batch: Measurements) -> Tensor:
        """Squared error (B,), weighted by component."""
        if batch.reconstructed_from is None:
            return squared_error(difference)
        inverse = linear(batch.reconstructed_from).pseudo_inverse(**self.params.pseudo_inverse.model_dump())
        measured = inverse.project(difference)
        return squared_error(measured + self.params.unmeasured_weight**0.5 * (difference - measured))

    def augment(self, batch: Measurements, by: Augmentation, rng: torch.Generator) -> Measurements:
        """Images that were measured, transformed as by ``standard``.

        Raises:
            UsageError: reconstructions, whose measured components a transform moves.
        """
        if batch.reconstructed_from is not None:
            raise UsageError(
                "objective reconstructed cannot learn from transformed reconstructions: a transform moves "
                "what was measured; leave out teacher.augment, or use objective standard"
            )
        return super().augment(batch, by, rng)
