"""How close samples come to the truth and how much of it they reach, in the images' own units.

For points in the plane and other data so small that Euclidean distances between images mean something.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1024
RARE = 0.01


def nearest(images: Tensor, others: Tensor) -> Tensor:
    """Euclidean distance (n,) of each image (n, C, H, W) from the nearest of the others (m, C, H, W)."""
    flat = others.flatten(1).double()
    chunks = images.flatten(1).double().split(CHUNK)
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(some, flat, compute_mode=exact).amin(1) for some in chunks])


def closeness(samples: Tensor, references: Tensor, radius: float) -> dict[str, float]:
    """Distance from a curve or surface that references lie on, and how much of it samples cover.

    Args:
        samples: images (n, C, H, W).
        references: clean images (m, C, H, W), dense compared with the distances that matter.
        radius: how near a sample must be to cover a reference.

    Returns:
        ``distance``, the mean over samples of the distance to the nearest reference, and ``coverage``,
        the fraction of references with a sample within the radius. Samples that all sit on one point of
        the curve have distance 0 and little coverage; those that fill the plane the reverse.
    """
    return {
        "distance": float(nearest(samples, references).mean()),
        "coverage": float((nearest(references, samples) <= radius).double().mean()),
    }


def copied_share(samples: Tensor, training: Tensor, unseen: Tensor) -> float:
    """Fraction of samples that are nearer to a training image than 99 % of unseen images are.

    0.01 where samples are as far from the training images as unseen images of the same kind, 1 where all are
    copies. Distances of sets from references cannot see copies: real images are close to real images.

    Args:
        samples: features (n, d) of samples.
        training: features (m, d) of training images.
        unseen: features (k, d) of images that nothing was trained on.
    """
    usual = nearest(unseen, training).quantile(RARE)
    return float((nearest(samples, training) < usual).double().mean())
