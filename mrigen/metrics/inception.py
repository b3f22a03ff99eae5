"""InceptionV3 of FID, as torch-fidelity has it, for bytes and for raw magnitudes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.registry import register_feature_extractor

from mrigen.metrics.weights import Published

INCEPTION = "inception-v3-compat-float"
PUBLISHED = Published(
    what="InceptionV3",
    url=URL_INCEPTION_V3,
    option="--inception-weights",
    instead="--features r64 needs no weights",
)


class Inception(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """torch-fidelity's InceptionV3, which also takes pictures that are no bytes.

    Float pictures go the way of bytes, (resize(p) − 128) / 128, without being rounded. The published
    MRI distances were measured so, on magnitudes that nobody had scaled to 0 ... 255.
    """

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), uint8 or float in the units of bytes, to the requested features."""
        if images.dtype == torch.uint8:
            features: tuple[Tensor, ...] = super().forward(images)
            return features
        size = (self.INPUT_IMAGE_SIZE, self.INPUT_IMAGE_SIZE)
        resized = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=size, align_corners=False)
        entering = (resized - 128) / 128

        def replace(_: nn.Module, __: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (entering,)

        hook = self.Conv2d_1a_3x3.register_forward_pre_hook(replace)
        try:
            features = super().forward(torch.zeros_like(images, dtype=torch.uint8))
        finally:
            hook.remove()
        return features


register_feature_extractor(INCEPTION, Inception)
