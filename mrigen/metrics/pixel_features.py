"""Pixels as their own features, for images so small that networks see nothing in them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_fidelity.registry import register_feature_extractor

from mrigen.metrics.one_layer import OneLayer

PIXELS = "pixels"
WEIGHTS = "none"
MOST = 16


class PixelFeatures(OneLayer):
    """All pixels in [-1, 1], divided by √3: grey pictures have the distance of one of their channels.

    Larger pictures are averaged to 16 x 16, which bounds the covariance at 768 dimensions.
    """

    layer = "pixels"
    side = MOST

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        self.scale = nn.Parameter(torch.tensor(3**-0.5), requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, 3, H, W) to features (B, 3 H W)."""
        scaled = (images.float() / 127.5 - 1) * self.scale
        if max(scaled.shape[-2:]) > MOST:
            scaled = nn.functional.adaptive_avg_pool2d(scaled, MOST)
        return (scaled.flatten(1),)


register_feature_extractor(PIXELS, PixelFeatures)
