"""Distances of sets of images from a reference set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrigen.data.images import ImageSet
from mrigen.errors import UsageError
from mrigen.metrics.cache import Cache, data_digest
from mrigen.metrics.features import AnyExtractor, Extractor, Features, FittedExtractor
from mrigen.metrics.frechet import Statistics, frechet_distance, statistics
from mrigen.metrics.principal import MOST
from mrigen.metrics.rendering import Rendering, magnitude_window, streamed_window
from mrigen.progress import Advance
from mrigen.tensors import evenly_spaced

COMPARED = ("fid", "kid", "prc")


@dataclass(frozen=True)
class Reference:
    """What images are compared with: statistics and features of a set, and how pictures are made for it.

    Attributes:
        extractor: feature extractor.
        rendering: how images become pictures, with the window of this set; None where features are of images.
        statistics: of its features.
        features: themselves, where they were asked for.
    """

    extractor: AnyExtractor
    rendering: Rendering | None
    statistics: Statistics
    features: Features | None = None

    @classmethod
    def of(cls, images: Tensor, extractor: AnyExtractor, batch: int = 256) -> Reference:
        """Statistics of reference images (n, C, H, W); what is made of them, of at most 1,000."""
        if isinstance(extractor, FittedExtractor):
            fitted, features = extractor.fit(images[evenly_spaced(len(images), MOST)])
            return cls(fitted, None, statistics(features[fitted.layer("fid")]), features)
        rendering = Rendering(magnitude_window(images) if images.is_complex() else None)
        layers = extractor(rendering(part) for part in images.split(batch))
        return cls(extractor, rendering, statistics(layers[extractor.layer("fid")]), layers)

    def features_of(self, images: Iterable[Tensor]) -> Features:
        """Features of batches of images (B, C, H, W), seen as the reference is."""
        return self.extractor(images if self.rendering is None else map(self.rendering, images))

    def distance(self, images: Iterable[Tensor]) -> float:
        """Fréchet distance of batches of images (B, C, H, W) from the reference."""
        features = self.features_of(images)[self.extractor.layer("fid")]
        return frechet_distance(statistics(features), self.statistics)


def reference_of(
    pool: ImageSet,
    extractor: AnyExtractor,
    *,
    raw: bool = False,
    keep_features: bool = False,
    cache: Cache | None = None,
    advance: Advance | None = None,
) -> Reference:
    """The reference that a pool of images makes.

    Args:
        pool: the images.
        extractor: feature extractor.
        raw: show magnitudes unscaled.
        keep_features: keep the features themselves, which kernel distances and precision need.
        cache: where statistics and features of the same images, weights and pictures are kept.
        advance: told of every batch that went through the network.

    Raises:
        UsageError: pixels that are not finite.
    """
    if isinstance(extractor, FittedExtractor):
        images = evenly_spread_images(pool)
        if advance is not None:
            advance(len(pool))
        return Reference.of(images, extractor)
    import torch_fidelity

    key = {
        "data": data_digest(pool.read()),
        "extractor": extractor.network.name,
        "weights": extractor.weights,
        "pictures": Rendering(1.0 if pool.complex_valued else None, raw=raw).described(),
        "torch_fidelity": torch_fidelity.__version__,
    }
    numbers = cache.load({**key, "holds": "statistics"}) if cache else None
    table = cache.load({**key, "holds": "features"}) if cache and keep_features else None
    if numbers is None or (keep_features and table is None):
        numbers, table = _computed(pool, extractor, advance, raw=raw)
        if cache is not None:
            cache.save({**key, "holds": "statistics"}, numbers)
            if keep_features:
                cache.save({**key, "holds": "features"}, table)
    window = float(numbers["window"])
    return Reference(
        extractor,
        Rendering(None if np.isnan(window) else window, raw=raw),
        Statistics(numbers["mean"], numbers["covariance"], int(numbers["count"])),
        {name: torch.from_numpy(a) for name, a in table.items()} if keep_features and table else None,
    )


def evenly_spread_images(pool: ImageSet) -> Tensor:
    """The images of a pool, 1,000 evenly over more.

    Raises:
        UsageError: pixels that are not finite.
    """
    at = evenly_spaced(len(pool), MOST)
    images = torch.cat(list(pool.read()) if len(at) == len(pool) else [pool.take(i, i + 1) for i in at])
    if not bool(images.isfinite().all()):
        raise UsageError(f"{pool.name}: has pixels that are not finite")
    return images


def _computed(
    pool: ImageSet, extractor: Extractor, advance: Advance | None, *, raw: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Statistics and features of a pool, as arrays."""
    window = None
    if pool.complex_valued and not raw:
        window = streamed_window(pool.read(), pool.count * int(np.prod(pool.shape)))
    rendering = Rendering(window, raw=raw)

    def shown() -> Iterator[Tensor]:
        for batch in pool.read():
            yield rendering(batch)
            if advance is not None:
                advance(len(batch))

    features = extractor(shown())
    fitted = statistics(features[extractor.layer("fid")])
    numbers = {
        "mean": fitted.mean,
        "covariance": fitted.covariance,
        "count": np.array(fitted.count),
        "window": np.array(np.nan if window is None else window),
    }
    layers = {extractor.layer(kind) for kind in COMPARED}
    return numbers, {name: tensor.numpy() for name, tensor in features.items() if name in layers}
