"""A smooth head in smooth coils, and models with random weights."""

import numpy as np
import torch

from mrigen import fourier
from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription
from mrigen.model import Model

SIZE = 24
COILS = 4


def image(size=SIZE):
    """A complex image, (size, size)."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij")
    body = (((x / 0.7) ** 2 + (y / 0.85) ** 2) < 1) * (1 + 0.5 * np.cos(7 * x) * np.sin(5 * y))
    return (body * np.exp(1j * (0.4 * x + 0.3 * y))).astype(np.complex64)


def kspace(slices=1, size=SIZE, coils=COILS):
    """Fully sampled k-space (slices, coils, size, size) of brighter and brighter heads."""
    from sigpy.mri import birdcage_maps

    maps = birdcage_maps((coils, size, size)).astype(np.complex64)
    images = np.stack([(1 + s) * image(size) for s in range(slices)])
    measured = fourier.fft(torch.from_numpy(maps * images[:, None]))
    noise = torch.randn(measured.shape, dtype=measured.dtype, generator=torch.Generator().manual_seed(0))
    return (measured + 1e-3 * noise).numpy()


def lines(size=SIZE, acs=8):
    """A mask of phase-encode lines: the ACS and every third line."""
    mask = np.arange(size) % 3 == 0
    first = (size - acs + 1) // 2
    mask[first : first + acs] = True
    return mask


def conventions(complex_valued, masks):
    return ChannelLayout(
        image="complex" if complex_valued else "real",
        image_channels=2 if complex_valued else 1,
        mask_channels=int(masks),
        ones_channel=complex_valued and masks,
    )


def write_model(
    folder, *, role="teacher", size=SIZE, complex_valued=True, objective="ambient", corruption=None, **more
):
    """A model folder with random weights."""
    if corruption is None and complex_valued:
        law = {"name": "exact-random", "acceleration": 2, "acs_lines": 6}
        corruption = {"mask": law, "fresh_masks": True}
    seen = conventions(complex_valued, objective == "ambient")
    generator = {"role": "generator", "sigma_init": 2.5, "generator_input": "full"}
    description = ModelDescription(
        network={
            "name": "song-unet",
            "resolution": size,
            "in_channels": seen.network_channels,
            "out_channels": seen.image_channels,
            "model_channels": 8,
            "channel_mult": (1,),
            "num_blocks": 1,
            "attn_resolutions": (),
        },
        preconditioner={"name": "edm"},
        conventions=seen,
        image_shape=(1, size, size),
        objective={"name": objective},
        corruption=corruption,
        **(generator if role == "generator" else {}),
        **more,
    )
    Model.random_init(description).save(folder)
    return folder
