"""DINOv2: numbers of an independent implementation, and resampled positions."""

import pytest
import torch

from mrigen.metrics.dinov2 import VisionTransformer
from mrigen.metrics.features import extractor

WIDTH, DEPTH = 128, 2


def weights(side):
    """Random tensors with the published names."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "mask_token": (1, WIDTH),
        "pos_embed": (1, side * side + 1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 14, 14),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for number in range(DEPTH):
        sizes = {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "ls1.gamma": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
            "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,),
            "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            "mlp.fc2.bias": (WIDTH,),
            "ls2.gamma": (WIDTH,),
        }
        shapes |= {f"blocks.{number}.{name}": shape for name, shape in sizes.items()}
    shapes |= {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator)
        * (0.05 if len(shape) > 1 and name != "pos_embed" else 0.5)
        for name, shape in shapes.items()
    }


@torch.inference_mode()
def test_class_token_is_that_of_transformers():
    """Golden numbers: ``Dinov2Model`` of transformers 4 with these weights, at its native size of 224."""
    images = torch.linspace(-2, 2, 3 * 224 * 224).view(1, 3, 224, 224).cos() * 2
    found = VisionTransformer(weights(16)).eval()(images)[0]
    expected = torch.tensor(
        [-1.263049840927124, -0.339701384305954, 0.31424617767333984, -0.7660855650901794]
    )
    torch.testing.assert_close(found[:4], expected, rtol=1e-3, atol=1e-4)
    assert float(found.norm()) == pytest.approx(7.888944625854492, rel=1e-4)


@torch.inference_mode()
def test_positions_are_resampled_where_the_weights_put_them():
    """A ramp of 37 positions becomes one of 16 with a step of 37 / 16.1 (bicubic: to 0.05 of a position).

    A step of 37 / 16 would be 0.18 off at the thirteenth.
    """
    tensors = weights(37)
    ramp = torch.arange(37.0)[:, None].expand(37, 37).reshape(1, -1, 1).expand(-1, -1, WIDTH)
    tensors["pos_embed"] = torch.cat([torch.zeros(1, 1, WIDTH), ramp], 1)
    positions = VisionTransformer(tensors)._positions(16, 16)[0, 1:, 0].view(16, 16)
    expected = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    torch.testing.assert_close(positions[2:-2, 5], expected[2:-2], rtol=0, atol=0.06)
    torch.testing.assert_close(positions[:, :1].expand(-1, 16), positions)


def test_features_come_from_a_file_of_any_size_of_model(tmp_path):
    """Bytes are resized to 224 × 224 and normalised as torch-fidelity does."""
    path = tmp_path / "dinov2.pth"
    torch.save(weights(16), path)
    taken = extractor("dinov2", path)
    grey = taken([torch.full((2, 3, 9, 9), 100, dtype=torch.uint8)])["dinov2"]
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    plane = ((100 / 255 - mean) / deviation).view(1, 3, 1, 1).expand(1, 3, 224, 224)
    with torch.inference_mode():
        expected = VisionTransformer(weights(16)).eval()(plane)
    torch.testing.assert_close(grey, expected.expand(2, -1), rtol=1e-3, atol=1e-4)
    assert taken.weights.startswith("sha256 ")


@torch.inference_mode()
def test_the_layers_are_those_of_timm():
    """At the weights' own size, where no positions are resampled."""
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=56).eval()
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    own = VisionTransformer({**tensors, "mask_token": torch.zeros(1, 384)}).eval()
    images = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(own(images), model.forward_features(images)[:, 0])
