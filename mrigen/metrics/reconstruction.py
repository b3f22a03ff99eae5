"""Errors of reconstructions: PSNR, SSIM, NMSE and NRMSE, as fastMRI defines them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.metrics.rendering import Rendering
from mrigen.metrics.weights import WeightsFile

SMALLEST = 7
INSTEAD = "PSNR, SSIM and NMSE need no weights"
LINEAR = WeightsFile(
    what="LPIPS",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-vgg16-lpips.pth",
    instead=INSTEAD,
)
BACKBONE = WeightsFile(
    what="the VGG16 of LPIPS", url="https://download.pytorch.org/models/vgg16-397923af.pth", instead=INSTEAD
)
SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Errors:
    """Errors of one volume of an MR scan, or of one natural image.

    Attributes:
        psnr: 10 log₁₀(L² / mean (x − x̂)²) in dB, L the largest value of x; infinite where x̂ = x.
        ssim: structural similarity (Wang et al. 2004) of every slice, averaged; windows of 7 × 7, range L.
        nmse: ‖x − x̂‖² / ‖x‖².
        nrmse: ‖x − x̂‖ / ‖x‖.
    """

    psnr: float
    ssim: float
    nmse: float
    nrmse: float

    def row(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


def volume_errors(estimate: Tensor, target: Tensor, largest: float | None = None) -> Errors:
    """Errors of the magnitudes of one volume (Zbontar et al. 2018, section 5.2).

    All slices share L and the norms, as in ``fastmri.evaluate``, which computes PSNR, SSIM and NMSE.

    Args:
        estimate: (slices, H, W) or (slices, 1, H, W), complex or real.
        target: the same of the reference.
        largest: L; None for the largest magnitude of the target.

    Raises:
        UsageError: slices smaller than the window of 7 × 7.
        ValueError: different shapes.
    """
    return _errors(_magnitudes(estimate), _magnitudes(target), largest)


def through_plane_variation(images: Tensor) -> float:
    """Σ | |x|_{s+1} − |x|_s | over the pixels and slices s of a volume (slices, H, W), complex or real.

    Examples:
        >>> through_plane_variation(torch.tensor([[[1.0, 1j]], [[-3.0, 1.0]]]))
        2.0
    """
    return float(images.abs().diff(dim=0).abs().sum())


def image_errors(estimate: Tensor, target: Tensor) -> list[Errors]:
    """Errors of natural images (B, C, H, W) in [-1, 1], each on its own.

    Intensities are (x + 1) / 2, L is 1 and the estimate is clipped to the range; SSIM is averaged over the
    colours.

    Args:
        estimate: reconstructions.
        target: references.

    Raises:
        UsageError: images smaller than the window of 7 × 7.
        ValueError: different shapes.
    """
    pairs = zip(_intensities(estimate), _intensities(target), strict=True)
    return [_errors(one, other, 1.0) for one, other in pairs]


def mean(errors: Sequence[Errors]) -> dict[str, float]:
    """Mean and standard deviation over volumes or images: ``psnr``, ``psnr_std`` and so on."""
    row: dict[str, float] = {}
    for field in fields(Errors):
        values = [getattr(e, field.name) for e in errors]
        row[field.name] = float(np.mean(values))
        row[f"{field.name}_std"] = float(np.std(values)) if np.isfinite(values).all() else 0.0
    return row


def _errors(estimate: NDArray[np.float64], target: NDArray[np.float64], largest: float | None) -> Errors:
    from fastmri import evaluate

    if estimate.shape != target.shape:
        raise ValueError(f"reconstruction {estimate.shape} and reference {target.shape} differ in shape")
    if min(target.shape[-2:]) < SMALLEST:
        raise UsageError(f"SSIM looks at 7 × 7 pixels: images of {target.shape[-2:]} (H, W) are too small")
    top = float(target.max()) if largest is None else largest
    nmse = float(evaluate.nmse(target, estimate))
    with np.errstate(divide="ignore"):
        psnr = float(evaluate.psnr(target, estimate, top))
    return Errors(psnr, float(evaluate.ssim(target, estimate, top)[0]), nmse, nmse**0.5)


def _magnitudes(images: Tensor) -> NDArray[np.float64]:
    magnitudes: NDArray[np.float64] = images.abs().double().cpu().numpy()
    return magnitudes.reshape(len(magnitudes), *magnitudes.shape[-2:])


def _intensities(images: Tensor) -> NDArray[np.float64]:
    intensities: NDArray[np.float64] = ((images.double() + 1) / 2).clamp(0, 1).cpu().numpy()
    return intensities


class LPIPS:
    """Perceptual distance of pairs of images; 0 for equal ones.

    Args:
        download: fetch the weights where they are missing.

    Raises:
        UsageError: the weights are not on this machine; says where to get and put them.
    """

    def __init__(self, *, download: bool = False) -> None:
        from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS

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
        if min(target.shape[-2:]) < SMALLEST_SIDE:
            raise UsageError(f"LPIPS needs at least 16 × 16 pixels, not {tuple(target.shape[-2:])}")
        shown = Rendering(window)
        device = next(self._model.parameters()).device
        distances: Tensor = self._model(shown(estimate).to(device), shown(target).to(device))
        return distances.flatten().cpu()
