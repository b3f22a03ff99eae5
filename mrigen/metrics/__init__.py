"""Distances of sets of images and errors of reconstructions, with and without clean data."""

import mrigen.metrics.frechet as _gaussians  # first, so that the function below keeps its name
from mrigen.tensors import ArrayLike, tensor_of

__all__ = ["frechet"]


def frechet(images: ArrayLike, reference: ArrayLike, *, features: str = "r64") -> float:
    """Fréchet distance of a set of images from a reference set (Heusel et al. 2017, arXiv:1706.08500).

    Args:
        images: (n, C, H, W), complex MR images or natural images in [-1, 1]; or features (n, d) themselves.
        reference: (m, C, H, W), or features (m, d). Magnitudes are windowed to its 99th percentile.
        features: network that images are seen through: ``r64`` (random VGG16, no download), ``pixels``, or
            another of ``mrigen evaluate --features`` whose weights were downloaded before.

    Returns:
        ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^{1/2}).

    Raises:
        UsageError: sets of different kinds, fewer than two samples, or values that are not finite.

    Examples:
        >>> import torch
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> round(frechet(x, x + 2), 6)  # a shift by 2 in three directions
        12.0
    """
    from mrigen.errors import UsageError

    sets = (tensor_of(images), tensor_of(reference))
    kinds = {(x.ndim, tuple(x.shape[1:]), x.is_complex()) for x in sets}
    if len(kinds) != 1 or sets[0].ndim not in (2, 4):
        raise UsageError(
            f"frechet: sets of shape {tuple(sets[0].shape)} and {tuple(sets[1].shape)}; give two of images "
            "(n, C, H, W) or of features (n, d), both real or both complex"
        )
    if min(map(len, sets)) < 2 or not all(x.isfinite().all() for x in sets):
        raise UsageError("frechet: needs at least two samples in each set, all finite")
    if sets[0].ndim == 2:
        mine, other = (_gaussians.statistics(x.detach().cpu()) for x in sets)
        return _gaussians.frechet_distance(mine, other)
    from mrigen.metrics.distance import Reference
    from mrigen.metrics.features import extractor

    return Reference.of(sets[1], extractor(features)).distance(sets[0].split(256))
