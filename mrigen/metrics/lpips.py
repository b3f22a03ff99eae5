"""LPIPS: how differently two images look to a VGG16 (Zhang et al. 2018), as torch-fidelity has it."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch_fidelity.sample_similarity_lpips import URL_VGG16_LPIPS, SampleSimilarityLPIPS

from mrigen.errors import UsageError
from mrigen.metrics.pictures import Rendering
from mrigen.metrics.weights import Published

INSTEAD = "PSNR, SSIM and NMSE need no weights"
LINEAR = Published(what="LPIPS", url=URL_VGG16_LPIPS, instead=INSTEAD)
BACKBONE = Published(
    what="the VGG16 of LPIPS", url="https://download.pytorch.org/models/vgg16-397923af.pth", instead=INSTEAD
)
SMALLEST = 16


class LPIPS:
    """Perceptual distance of pairs of images; 0 for equal ones.

    Args:
        download: fetch the weights where they are missing.

    Raises:
        UsageError: the weights are not on this machine; says where to get and put them.
    """

    def __init__(self, *, download: bool = False) -> None:
        for published in (LINEAR, BACKBONE):
            published.find(None, download=download)
        self._model = SampleSimilarityLPIPS("lpips-vgg16")

    def to(self, device: torch.device | str) -> Self:
        """Move the network; returns itself."""
        self._model.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, estimate: Tensor, target: Tensor, window: float | None = None) -> Tensor:
        """Distances (B,) of images (B, C, H, W), as pictures of bytes.

        Args:
            estimate: reconstructions.
            target: references.
            window: grey window of magnitudes, for complex images.

        Raises:
            UsageError: images smaller than 16 × 16.
        """
        if min(target.shape[-2:]) < SMALLEST:
            raise UsageError(f"LPIPS needs at least 16 × 16 pixels, not {tuple(target.shape[-2:])}")
        shown = Rendering(window)
        device = next(self._model.parameters()).device
        distances: Tensor = self._model(shown(estimate).to(device), shown(target).to(device))
        return distances.flatten().cpu()
