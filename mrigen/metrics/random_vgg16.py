"""A feature extractor that needs no download: VGG16 with fixed random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_fidelity.registry import register_feature_extractor

from mrigen.metrics.one_layer import OneLayer

R64 = "random-vgg16-r64"
WEIGHTS = "he-normal, seed 0"
SMALLEST = 32


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

        generator = torch.Generator().manual_seed(0)
        with torch.device("meta"):
            self.model = vgg16(weights=None, num_classes=64)
        self.model.to_empty(device="cpu")
        for module in self.model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                scale = (2.0 / module.weight[0].numel()) ** 0.5
                module.weight.data.normal_(0, scale, generator=generator)
                nn.init.zeros_(module.get_parameter("bias"))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, 3, H, W) to features (B, 64)."""
        scaled = images.float() / 127.5 - 1
        if min(scaled.shape[-2:]) < SMALLEST:
            scaled = nn.functional.interpolate(scaled, size=(SMALLEST, SMALLEST), mode="nearest-exact")
        return (self.model(scaled),)


register_feature_extractor(R64, RandomVGG16)
