"""Every option of the published networks against plain numpy."""

import numpy as np
import pytest
import torch

from mrigen.checkpoints.export import released_weights
from mrigen.networks import NETWORKS, PRECONDITIONERS

from .numpy_edm import Dhariwal, Song, preconditioned

SMALL = {
    "resolution": 8,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 8,
    "num_blocks": 1,
    "dropout": 0.13,
}
SONG = SMALL | {"channel_mult": (1, 2), "attn_resolutions": (4,)}
NCSN = SONG | {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": (1, 3, 3, 1),
}
ADM = SMALL | {"model_channels": 32, "channel_mult": (1, 4), "attn_resolutions": (4,)}
LABELS = {"label_dim": 4, "augment_dim": 9}

CASES = {
    "ddpm++": ("song-unet", SONG, "edm"),
    "ddpm++ vp": ("song-unet", SONG | LABELS, "vp"),
    "ncsn++ ve": ("song-unet", NCSN | LABELS, "ve"),
    "ncsn++ three levels": ("song-unet", NCSN | {"channel_mult": (1, 2, 1), "attn_resolutions": ()}, "edm"),
    "skip encoder": ("song-unet", SONG | {"encoder_type": "skip", "channel_mult": (2, 1, 2)}, "edm"),
    "skip decoder": ("song-unet", SONG | {"decoder_type": "skip", "channel_mult": (1, 1, 2)}, "edm"),
    "skip both, wide filter": (
        "song-unet",
        SONG | {"encoder_type": "skip", "decoder_type": "skip", "resample_filter": (1, 3, 3, 1)},
        "edm",
    ),
    "residual, narrow filter": ("song-unet", SONG | {"encoder_type": "residual"}, "edm"),
    "lopsided filter": ("song-unet", NCSN | {"resample_filter": (1, 2, 5, 1)}, "edm"),
    "attention everywhere": ("song-unet", SONG | {"attn_resolutions": (8, 4), "num_blocks": 2}, "edm"),
    "embedding width": ("song-unet", SONG | {"channel_mult_emb": 2, "channel_mult_noise": 3}, "edm"),
    "gated": ("song-unet", SONG | {"gated": True}, "edm"),
    "gated ncsn++": ("song-unet", NCSN | {"gated": True}, "ve"),
    "gated skip": (
        "song-unet",
        SONG | {"gated": True, "encoder_type": "skip", "decoder_type": "skip"},
        "edm",
    ),
    "fewer outputs": ("song-unet", SONG | {"in_channels": 5, "out_channels": 2, "gated": True}, "edm"),
    "adm": ("dhariwal-unet", ADM, "edm"),
    "adm labels": ("dhariwal-unet", ADM | LABELS, "edm"),
    "adm iddpm": ("dhariwal-unet", ADM | {"out_channels": 6, "label_dim": 4}, "iddpm"),
    "adm three levels": (
        "dhariwal-unet",
        ADM | {"channel_mult": (2, 1, 2), "attn_resolutions": (8, 2)},
        "vp",
    ),
    "adm gated": ("dhariwal-unet", ADM | {"gated": True}, "edm"),
}


def randomised(name, config, kind, seed=0):
    """A model whose weights are all of a size at which every path matters."""
    network = NETWORKS.build({"name": name, **config})
    model = PRECONDITIONERS.build({"name": kind}, network=network).eval()
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in network.state_dict().items():
        if "frequencies" not in key:
            scale = 0.3 if tensor.dim() == 1 else 1 / tensor[0].numel() ** 0.5
            centre = 1.0 if ".norm" in key and key.endswith("weight") else 0.0
            tensor.copy_(centre + scale * torch.randn(tensor.shape, generator=generator))
    return model


@pytest.mark.parametrize("case", CASES)
def test_network_equals_its_published_description(case):
    name, config, kind = CASES[case]
    model = randomised(name, config, kind)
    parameters = {name: tensor.numpy() for name, tensor in released_weights(model).items()}
    reference = {"song-unet": Song, "dhariwal-unet": Dhariwal}[name](parameters, **config)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, config["in_channels"], 8, 8, generator=generator)
    sigma = torch.tensor([0.3, 4.0])
    labels = torch.eye(4)[[2, 0]] if "label_dim" in config else None
    augment = torch.randn(2, 9, generator=generator) if "augment_dim" in config else None
    with torch.no_grad():
        out = model(x, sigma, labels, augment).numpy()
    expected = preconditioned(
        kind, reference, *(None if v is None else v.double().numpy() for v in (x, sigma, labels, augment))
    )
    assert out.shape == expected.shape
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(out, expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "option",
    [{"gated": True}, {"encoder_type": "residual"}, {"decoder_type": "skip"}, {"attn_resolutions": ()}],
)
def test_reference_sees_every_option(option):
    """Weights read as another architecture's give another image: the comparison above has teeth."""
    model = randomised("song-unet", SONG | option, "edm")
    base = randomised("song-unet", SONG, "edm")
    x, sigma = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor(1.0)
    shared = {
        k: v
        for k, v in model.state_dict().items()
        if k in base.state_dict() and v.shape == base.state_dict()[k].shape
    }
    base.load_state_dict(shared, strict=False)
    with torch.no_grad():
        assert (model(x, sigma) - base(x, sigma)).abs().max() > 1e-3


def test_no_class_is_the_zero_label():
    for case in ("ddpm++ vp", "adm labels"):
        name, config, kind = CASES[case]
        model = randomised(name, config, kind)
        x, sigma = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(1.0)
        with torch.no_grad():
            assert torch.equal(model(x, sigma), model(x, sigma, torch.zeros(2, 4)))
            assert not torch.allclose(model(x, sigma), model(x, sigma, torch.eye(4)[:2]))
