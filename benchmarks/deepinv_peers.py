"""DDRM, DiffPIR and Noise2Self as deepinv has them.

DDRM and DiffPIR are for missing pixels, with a denoiser of ours. deepinv's images are in [0, 1] and its noise
levels half as large as ours. Its DDRM takes one mask, so that images are restored one after the other; both
call the denoiser once for each noise level.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SIGMA_MIN = 0.002
NOISELESS = 1e-3


class UnitDenoiser(nn.Module):
    """Our denoiser of images in [-1, 1] as deepinv calls it, at the lowest noise level or above."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: Any, **others: Any) -> Tensor:
        """The estimate of images in [0, 1] with noise σ."""
        del others
        level = (
            torch.as_tensor(2 * sigma, dtype=torch.float32).clamp(min=SIGMA_MIN).reshape(-1).expand(len(x))
        )
        estimate: Tensor = (self.denoiser(2 * x - 1, level) + 1) / 2
        return estimate


def installed() -> bool:
    """Whether deepinv can be imported."""
    return find_spec("deepinv") is not None


def ddrm(denoiser: nn.Module, y: Tensor, mask: Tensor, sigma: float, steps: int) -> Tensor:
    """DDRM (Kawar et al. 2022) over levels from 1 to 0, evenly, as deepinv's default."""
    from deepinv.sampling import DDRM

    model = DDRM(UnitDenoiser(denoiser), sigmas=np.linspace(1, 0, steps))
    return _each(model, y, mask, sigma)


def diffpir(denoiser: nn.Module, y: Tensor, mask: Tensor, sigma: float, steps: int) -> Tensor:
    """DiffPIR (Zhu et al. 2023) with deepinv's ζ and λ; it divides by σ and is told 0.001 for none."""
    from deepinv.optim.data_fidelity import L2
    from deepinv.sampling import DiffPIR

    level = max(sigma, NOISELESS)
    model = DiffPIR(UnitDenoiser(denoiser), L2(), sigma=level / 2, max_iter=steps)
    return _each(model, y, mask, level)


def _each(model: nn.Module, y: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """Every image with its own mask and a seed of its own."""
    from deepinv.physics import GaussianNoise, Inpainting

    images = []
    for number, (one, seen) in enumerate(zip(y, mask, strict=True)):
        shown = seen.expand(one.shape).float()
        physics = Inpainting(img_size=tuple(one.shape), mask=shown, noise_model=GaussianNoise(sigma / 2))
        measured = ((one + 1) / 2 * shown).unsqueeze(0)
        with torch.no_grad():
            images.append(2 * model(measured, physics, seed=number + 1) - 1)
    return torch.cat(images)


def noise2self(noisy: Tensor, images: int, batch: int = 64) -> Callable[[Tensor], Tensor]:
    """A denoiser learned from noisy images alone (Batson and Royer 2019): deepinv's splitting loss on pixels.

    A quarter of the pixels of every image is hidden from a small U-Net and estimated by it; the denoiser is
    the mean, for each pixel, over those of forty such sets that hide it.

    Args:
        noisy: training images (n, C, H, W) in [-1, 1], with noise.
        images: length of the training.
        batch: images of a step of Adam, whose rate of 0.002 falls to zero.
    """
    from deepinv.loss import SplittingLoss
    from deepinv.models import ArtifactRemoval, UNet
    from deepinv.physics import Denoising
    from deepinv.physics.generator import BernoulliSplittingMaskGenerator

    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    masks = BernoulliSplittingMaskGenerator(tuple(noisy.shape[1:]), 0.75, rng=random)
    loss = SplittingLoss(mask_generator=masks, eval_n_samples=40, eval_split_output=True)
    network = UNet(noisy.shape[1], noisy.shape[1], channels_per_scale=[32, 64], batch_norm=False)
    model, physics = loss.adapt_model(ArtifactRemoval(network)), Denoising()
    steps = max(1, images // batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    model.train()
    for _ in range(steps):
        y = noisy[torch.randint(len(noisy), (batch,), generator=random)]
        estimate = model(y, physics, update_parameters=True)
        optimizer.zero_grad()
        loss(x_net=estimate, y=y, physics=physics, model=model).mean().backward()
        optimizer.step()
        schedule.step()

    def denoise(y: Tensor) -> Tensor:
        model.eval()
        with torch.no_grad():
            estimate: Tensor = model(y, physics)
        return estimate

    return denoise


PEERS: dict[str, Callable[[nn.Module, Tensor, Tensor, float, int], Tensor]] = {
    "DDRM": ddrm,
    "DiffPIR": diffpir,
}
