"""What torch-fidelity asks of a feature extractor, for those that have one layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase


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
