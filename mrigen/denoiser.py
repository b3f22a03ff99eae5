"""What a denoiser is, and how a network becomes one: from images to its channels and back.

Nothing else knows how a network sees an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mrigen.channels import ChannelLayout


def to_channels(x: Tensor) -> Tensor:
    """Complex (B, C, H, W) to real (B, 2C, H, W), real part first; real images pass."""
    return torch.cat([x.real, x.imag], 1) if x.is_complex() else x


def to_complex(channels: Tensor) -> Tensor:
    """Inverse of ``to_channels`` for complex images."""
    real, imaginary = channels.chunk(2, 1)
    return torch.complex(real, imaginary)


class ConditioningOperator(Protocol):
    """Ã as a denoiser needs it; see ``mrigen.operators.LinearOperator``."""

    def conditioning(self) -> Tensor | None:
        """Extra network channels (B, c, H, W) that describe Ã."""
        ...

    def pseudo_inverse(self, tau: float, steps: int) -> Any:
        """(Ñ + τ)⁻¹, by ``apply``, and P = (Ñ + τ)⁻¹ Ñ, by ``project``."""
        ...


class Denoiser(Protocol):
    """Estimate E[x | Ñ(x + σ ε), Ã] for a batch of images."""

    def __call__(
        self,
        x: Tensor,
        sigma: Tensor,
        A_tilde: Any = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Denoise x (B, C, H, W), real or complex, at noise levels σ (B,).

        Args:
            x: observed noisy images Ñ(x₀ + σ ε).
            sigma: noise levels.
            A_tilde: Ã, a ``ConditioningOperator``; None where everything is seen, Ñ = I.
            labels: class labels (B, classes), or None.
            augment: augmentation labels (B, 9), or None for images as they are.
        """
        ...


class NetworkDenoiser(nn.Module):
    """A preconditioned network as a denoiser of images.

    With ``conventions.pseudo_inverse``, z = (Ñ + τ)⁻¹ x̃ and P = (Ñ + τ)⁻¹ Ñ, the estimate is

        D = c_skip z + [c_out P + σ_d (I − P)] F(c_in z, mask, σ):

    EDM's preconditioning (Karras et al. 2022) of every component at its own noise level, which is σ where Ã
    sees and infinite where it does not (c_skip = 0, c_out = σ_d). Of x̃ = Ñ(x + σ ε) the linear minimum mean
    square error estimate of white x is c_skip Ñ⁺ x̃, so that F is of the order of 1 at every σ. For masks of
    pixels or of one coil's k-space Ñ is a projection, z = x̃ and P = Ñ. Without a pseudo-inverse the form is
    D = c_skip x̃ + c_out F, under which F has to be of the order of 1/σ in hidden components.

    Args:
        network: called as ``network(c, sigma, class_labels, augment_labels[, project])`` with real channels c
            (B, ``conventions.network_channels``, H, W); the first ``image_channels`` of its output
            are the estimate.
        conventions: meaning of the channels.
    """

    def __init__(self, network: nn.Module, conventions: ChannelLayout) -> None:
        super().__init__()
        self.network = network
        self.conventions = conventions

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        A_tilde: ConditioningOperator | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Denoise x; without Ã the mask channels say that everything is seen, and P = I."""
        channels, project = self._seen(x, A_tilde)
        out = self.network(channels, sigma, labels, augment, *project)
        image = out[:, : self.conventions.image_channels]
        return to_complex(image) if x.is_complex() else image

    def encode(
        self,
        x: Tensor,
        sigma: Tensor,
        A_tilde: ConditioningOperator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Features (B, c, h, w) of the network's encoder; arguments as ``forward``.

        Raises:
            UsageError: the network has no encoder.
        """
        features: Tensor = self.network(self._seen(x, A_tilde)[0], sigma, labels, encode=True)
        return features

    def _seen(
        self, x: Tensor, A_tilde: ConditioningOperator | None
    ) -> tuple[Tensor, list[Callable[[Tensor], Tensor]]]:
        """Channels of an image and of what it was seen through, and the projection on what is seen."""
        project: list[Callable[[Tensor], Tensor]] = []
        if A_tilde is not None and self.conventions.pseudo_inverse is not None:
            inverse = A_tilde.pseudo_inverse(**self.conventions.pseudo_inverse.model_dump())
            project.append(_on_channels(inverse.project, complex_valued=x.is_complex()))
            x = inverse.apply(x)
        channels = [to_channels(x)]
        plane = channels[0][:, :1]
        if self.conventions.mask_channels:
            planes = None if A_tilde is None else A_tilde.conditioning()
            mask = torch.ones_like(plane) if planes is None else planes.to(plane.dtype)
            channels.append(mask.expand(len(x), self.conventions.mask_channels, *plane.shape[-2:]))
        if self.conventions.ones_channel:
            channels.append(torch.ones_like(plane))
        return torch.cat(channels, 1), project


def _on_channels(project: Callable[[Tensor], Tensor], *, complex_valued: bool) -> Callable[[Tensor], Tensor]:
    """A linear map of images as a map of their real channels."""
    if not complex_valued:
        return project
    return lambda channels: to_channels(project(to_complex(channels)))
