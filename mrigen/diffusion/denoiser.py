"""What this package takes for a denoiser; networks become one through their channel conventions."""

from typing import Protocol

from torch import Tensor

from mrigen.conventions import Conventions, NetworkDenoiser, to_channels, to_complex

__all__ = ["Conventions", "Denoiser", "NetworkDenoiser", "to_channels", "to_complex"]


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
