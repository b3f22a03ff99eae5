"""DINOv2 from a file of weights; no code is fetched.

timm's ``vit_*_patch14_dinov2`` gives the same numbers to the last bit at the weights' own 518 × 518, but
at the 224 × 224 of torch-fidelity features that differ by 0.5 % (random weights, timm 1.0.31): it resamples
positions without the authors' offset. That step would stay ours, and the layers are 40 lines.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2
from torch_fidelity.registry import register_feature_extractor

from mrigen.errors import UsageError
from mrigen.metrics.weights import tensors

PATCH = 14
HEAD_WIDTH = 64
OFFSET = 0.1


class Block(nn.Module):
    """x + γ₁ attention(norm x), then x + γ₂ mlp(norm x).

    Args:
        width: of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.ls1 = nn.ParameterDict({"gamma": torch.ones(width)})
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls2 = nn.ParameterDict({"gamma": torch.ones(width)})

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, n, width)."""
        batch, count, width = x.shape
        parts = self.attn["qkv"](self.norm1(x)).view(batch, count, 3, -1, HEAD_WIDTH)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.ls1["gamma"] * self.attn["proj"](attended.transpose(1, 2).reshape(batch, count, width))
        hidden = nn.functional.gelu(self.mlp["fc1"](self.norm2(x)))
        out: Tensor = x + self.ls2["gamma"] * self.mlp["fc2"](hidden)
        return out


class VisionTransformer(nn.Module):
    """The vision transformer of DINOv2 (Oquab et al. 2023) with patches of 14 × 14, small to large.

    Names of the parameters are those of the published weights, whose sizes say which model it is.

    Args:
        weights: the published tensors.

    Raises:
        KeyError: they are not those of such a model.
        RuntimeError: as ``KeyError``.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        positions, width = weights["pos_embed"].shape[1:]
        depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        with torch.device("meta"):
            self.cls_token = nn.Parameter(torch.empty(1, 1, width))
            self.mask_token = nn.Parameter(torch.empty(1, width))
            self.pos_embed = nn.Parameter(torch.empty(1, positions, width))
            self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
            self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
            self.norm = nn.LayerNorm(width, eps=1e-6)
        self.load_state_dict(weights, assign=True)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), sides multiples of 14, to the class token (B, width)."""
        patches = self.patch_embed["proj"](images)
        tokens = patches.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        x = x + self._positions(patches.shape[-2], patches.shape[-1])
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.norm(x)[:, 0]
        return features

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings resampled to a grid, with the offset of 0.1 that the weights were made with."""
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        if rows == columns == side:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        scale = ((rows + OFFSET) / side, (columns + OFFSET) / side)
        resampled = nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], resampled.flatten(2).transpose(1, 2)], 1)


class DinoV2(FeatureExtractorDinoV2):  # type: ignore[misc]
    """torch-fidelity's DINOv2 features (pictures resized to 224 × 224) from a file of weights.

    torch-fidelity itself fetches and executes code of the model's authors; here the network is plain
    torch and only tensors are read.

    Args:
        name: registered name.
        features_list: requested layers.
        feature_extractor_weights_path: file of the published weights.

    Raises:
        UsageError: the file holds other weights.
    """

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str, **_: object
    ) -> None:
        FeatureExtractorBase.__init__(self, name, features_list)
        path = Path(feature_extractor_weights_path)
        self.feature_extractor_internal_dtype = torch.float32
        try:
            self.model = VisionTransformer(tensors(path))
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{path}: no weights of DINOv2, small to large ({reason})") from error
        self.requires_grad_(False)
        self.eval()


register_feature_extractor("dinov2-file", DinoV2)
