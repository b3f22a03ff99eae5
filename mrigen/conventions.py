"""What a denoiser is, and how a network becomes one: from images to its channels and back.

Nothing else knows how a network sees an image.
"""

from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from mrigen.registry import Params


class Conventions(Params):
    """What the channels of a network mean, stored with every checkpoint.

    Attributes:
        image: ``complex`` images become two channels (real, imaginary), ``real`` ones stay as they are.
        image_channels: channels of the image as the network sees it, 2 for complex MRI.
        mask_channels: channels that show the (further) mask, after the image; 0 for none.
        ones_channel: a last channel of ones, as in the released Ambient-MRI models.
    """

    image: Literal["real", "complex"] = "complex"
    image_channels: Annotated[int, Field(ge=1)] = 2
    mask_channels: Annotated[int, Field(ge=0)] = 1
    ones_channel: bool = True

    @property
    def network_channels(self) -> int:
        """Input channels of a network with these conventions."""
        return self.image_channels + self.mask_channels + int(self.ones_channel)


def to_channels(x: Tensor) -> Tensor:
    """Complex (B, C, H, W) to real (B, 2C, H, W), real part first; real images pass."""
    return torch.cat([x.real, x.imag], 1) if x.is_complex() else x


def to_complex(channels: Tensor) -> Tensor:
    """Inverse of ``to_channels`` for complex images."""
    real, imaginary = channels.chunk(2, 1)
    return torch.complex(real, imaginary)


class Denoiser(Protocol):
    """Estimate E[x | what is seen of x + σ ε] for a batch of images."""

    def __call__(
        self,
        x: Tensor,
        sigma: Tensor,
        conditioning: Tensor | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Denoise x (B, C, H, W), real or complex, at noise levels σ (B,).

        Args:
            x: what is seen of the noisy images.
            sigma: noise levels.
            conditioning: channels that say what is seen, or None where everything is.
            labels: class labels (B, classes), or None.
            augment: augmentation labels (B, 9), or None for images as they are.
        """
        ...


class NetworkDenoiser(nn.Module):
    """A preconditioned network as a denoiser of images.

    Args:
        network: called as ``network(c, sigma, class_labels)`` with real channels c
            (B, ``conventions.network_channels``, H, W); the first ``image_channels`` of its output
            are the estimate.
        conventions: meaning of the channels.
    """

    def __init__(self, network: nn.Module, conventions: Conventions) -> None:
        super().__init__()
        self.network = network
        self.conventions = conventions

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        conditioning: Tensor | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Denoise x; where no conditioning is given, the network is told that everything is seen."""
        channels = [to_channels(x)]
        plane = channels[0][:, :1]
        if self.conventions.mask_channels:
            mask = torch.ones_like(plane) if conditioning is None else conditioning.to(plane.dtype)
            channels.append(mask.expand(len(x), self.conventions.mask_channels, *plane.shape[-2:]))
        if self.conventions.ones_channel:
            channels.append(torch.ones_like(plane))
        out = self.network(torch.cat(channels, 1), sigma, labels, augment)
        image = out[:, : self.conventions.image_channels]
        return to_complex(image) if x.is_complex() else image
