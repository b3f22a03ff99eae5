"""The numbers that compare a set of features with a reference, by name; torch-fidelity underneath."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import Features, Network
from mrigen.metrics.frechet import bootstrap_interval, frechet_distance, statistics

SUBSET = 1000
NEIGHBOURS = 3
SPLITS = 10
FEW = 5000


@dataclass(frozen=True)
class Compared:
    """A set of generated images beside a reference.

    Attributes:
        generated: features of the generated images.
        reference: the reference, with its features where a metric needs them.
        resamples: number of bootstrap sets, 0 for no interval.
        seed: key of their draws.
    """

    generated: Features
    reference: Reference
    resamples: int = 100
    seed: int = 0

    def pair(self, kind: str) -> tuple[Tensor, Tensor]:
        """Features of the generated images and of the reference in the layer of a metric."""
        if self.reference.features is None:
            raise ValueError("this metric needs the features of the reference")
        layer = self.reference.extractor.layer(kind)
        return self.generated[layer], self.reference.features[layer]

    @cached_property
    def precision_recall(self) -> dict[str, float]:
        """Improved precision and recall (Kynkäänniemi et al. 2019) with balls to the third neighbour."""
        generated, real = self.pair("prc")
        neighbours = min(NEIGHBOURS, len(generated) - 1, len(real) - 1)
        found: dict[str, float] = prc_features_to_metric(
            generated, real, prc_neighborhood=neighbours, save_cpu_ram=True, verbose=False
        )
        return found


def _frechet(name: str) -> Callable[[Compared], dict[str, Any]]:
    def compute(compared: Compared) -> dict[str, Any]:
        reference = compared.reference
        features = compared.generated[reference.extractor.layer("fid")]
        row: dict[str, Any] = {name: frechet_distance(statistics(features), reference.statistics)}
        if compared.resamples:
            rng = seeds.seeded_rng(compared.seed, "bootstrap")
            row[f"{name}_interval"] = bootstrap_interval(
                features, reference.statistics, compared.resamples, rng
            )
        return row

    return compute


def _kernel(compared: Compared) -> dict[str, Any]:
    generated, real = compared.pair("kid")
    size = min(SUBSET, len(generated), len(real))
    found = kid_features_to_metric(generated, real, kid_subset_size=size, verbose=False)
    return {
        "kid": found[KEY_METRIC_KID_MEAN],
        "kid_std": found[KEY_METRIC_KID_STD],
        "kid_subset": size,
    }


def _inception(compared: Compared) -> dict[str, Any]:
    logits = compared.generated[compared.reference.extractor.layer("isc")]
    splits = max(1, min(SPLITS, len(logits) // 2))
    found = isc_features_to_metric(logits, splits=splits)
    return {"is": found[KEY_METRIC_ISC_MEAN], "is_std": found[KEY_METRIC_ISC_STD], "is_splits": splits}


def _part(name: str) -> Callable[[Compared], dict[str, Any]]:
    return lambda compared: {name: compared.precision_recall[name]}


@dataclass(frozen=True)
class Metric:
    """A number that compares two sets.

    Attributes:
        compute: the number under its name, and what belongs to it.
        needs_features: whether statistics of the reference are not enough.
        inception: whether its name means features of InceptionV3.
    """

    compute: Callable[[Compared], dict[str, Any]]
    needs_features: bool = False
    inception: bool = False


def of_features(row: dict[str, Any], name: str, features: str) -> dict[str, Any]:
    """Numbers of a metric with the features in their names: ``fd_interval`` becomes ``fd_r64_interval``."""
    return {key.replace(name, f"{name}_{features}", 1): value for key, value in row.items()}


METRICS = {
    "fd": Metric(_frechet("fd")),
    "fid": Metric(_frechet("fid"), inception=True),
    "is": Metric(_inception, inception=True),
    "kid": Metric(_kernel, needs_features=True),
    "precision": Metric(_part("precision"), needs_features=True),
    "recall": Metric(_part("recall"), needs_features=True),
}


def chosen(names: list[str], networks: list[Network]) -> dict[str, Metric]:
    """Metrics by name.

    Raises:
        UsageError: an unknown name, or one that means other features.
    """
    for name in names:
        if name not in METRICS:
            raise UsageError(f"--metrics {name}: unknown; choose from {', '.join([*METRICS, 'proximal'])}")
        if METRICS[name].inception and not any(network.scores for network in networks):
            raise UsageError(
                f"--metrics {name}: is a number of InceptionV3; add --features inception, or ask for fd, the "
                "Fréchet distance in other features"
            )
    return {name: METRICS[name] for name in names}
