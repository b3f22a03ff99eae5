"""Feature extractors of images behind torch-fidelity's interface: random VGG16, pixels, InceptionV3."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.registry import register_feature_extractor

SMALLEST = 32
LARGEST = 16


class OneLayer(FeatureExtractorBase):  # type: ignore[misc]
    """An extractor whose only layer serves every metric.

    Attributes:
        layer: the layer's name.
        side: of a picture that the extractor takes, in pixels.
    """

    layer: ClassVar[str]
    side: ClassVar[int]

    @classmethod
    def get_provided_features_list(cls) -> tuple[str, ...]:
        """The only layer."""
        return (cls.layer,)

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric: str) -> str:
        """The only layer, for every metric."""
        del metric
        return cls.layer

    @staticmethod
    def can_be_compiled() -> bool:
        """Plain arithmetic."""
        return True

    @classmethod
    def get_dummy_input_for_compile(cls) -> Tensor:
        """A picture."""
        return torch.zeros(1, 3, cls.side, cls.side, dtype=torch.uint8)


class RandomVGG16(OneLayer):
    """VGG16 with fixed random weights and 64 outputs, "R64" of Naeem et al. 2020 (section 4.2).

    Random features need no download, and Naeem et al. found them more telling than ImageNet features
    where the data are far from natural photographs, as MR images are. 64 dimensions keep the bias of
    a Fréchet distance small at about 1,000 samples. Images are taken at their own size (at least
    32 x 32), which keeps the network cheap for small images.

    A distance in these features is no FID and compares only with others of the same kind.

    Weights are He-normal with seed 0 in the order of the layers, biases zero.
    """

    layer = "r64"
    side = SMALLEST

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        from torchvision.models import vgg16

        rng = torch.Generator().manual_seed(0)
        with torch.device("meta"):
            self.model = vgg16(weights=None, num_classes=64)
        self.model.to_empty(device="cpu")
        for module in self.model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                scale = (2.0 / module.weight[0].numel()) ** 0.5
                module.weight.data.normal_(0, scale, generator=rng)
                nn.init.zeros_(module.get_parameter("bias"))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, 3, H, W) to features (B, 64)."""
        scaled = images.float() / 127.5 - 1
        if min(scaled.shape[-2:]) < SMALLEST:
            scaled = nn.functional.interpolate(scaled, size=(SMALLEST, SMALLEST), mode="nearest-exact")
        return (self.model(scaled),)


register_feature_extractor("random-vgg16-r64", RandomVGG16)


class PixelFeatures(OneLayer):
    """All pixels in [-1, 1], divided by √3: grey pictures have the distance of one of their channels.

    Larger pictures are averaged to 16 x 16, which bounds the covariance at 768 dimensions.
    """

    layer = "pixels"
    side = LARGEST

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        self.scale = nn.Parameter(torch.tensor(3**-0.5), requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, 3, H, W) to features (B, 3 H W)."""
        scaled = (images.float() / 127.5 - 1) * self.scale
        if max(scaled.shape[-2:]) > LARGEST:
            scaled = nn.functional.adaptive_avg_pool2d(scaled, LARGEST)
        return (scaled.flatten(1),)


register_feature_extractor("pixels", PixelFeatures)


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


register_feature_extractor("inception-v3-compat-float", Inception)
