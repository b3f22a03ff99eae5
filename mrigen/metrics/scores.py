"""The numbers that compare a set of features with a reference, by name; torch-fidelity underneath."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from mrigen import plugins, seeds
from mrigen.errors import UsageError
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import Features, Network
from mrigen.metrics.frechet import bootstrap_interval, frechet_distance, statistics
from mrigen.registry import Registry

METRICS: Registry[Metric] = Registry("metric", "mrigen.metrics.scores", "mrigen.metrics.scores.Metric")
SUBSET = 1000
NEIGHBOURS = 3
SPLITS = 10
FEW = 5000


@dataclass(frozen=True)
class FeaturePair:
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
        from torch_fidelity.metric_prc import prc_features_to_metric

        generated, real = self.pair("prc")
        neighbours = min(NEIGHBOURS, len(generated) - 1, len(real) - 1)
        scores: dict[str, float] = prc_features_to_metric(
            generated, real, prc_neighborhood=neighbours, save_cpu_ram=True, verbose=False
        )
        return scores


class Metric(ABC):
    """A number that compares a set of images with a reference by their features.

    A metric of a user's file is named ``mine.py:Class`` in ``mrigen evaluate --metrics``.

    Attributes:
        needs_features: whether statistics of the reference are not enough.
        inception: whether its name means features of InceptionV3.
    """

    needs_features: ClassVar[bool] = False
    inception: ClassVar[bool] = False

    @abstractmethod
    def compute(self, compared: FeaturePair) -> dict[str, Any]:
        """The number under the metric's name, and what belongs to it: intervals, sizes of subsets."""


@METRICS.register("fd")
class FrechetDistance(Metric):
    """Fréchet distance of Gaussians fitted to the features, with an interval (Heusel et al. 2017)."""

    name: ClassVar[str] = "fd"

    def compute(self, compared: FeaturePair) -> dict[str, Any]:
        """The distance, and its 95 % interval over resampled sets of generated images."""
        reference = compared.reference
        features = compared.generated[reference.extractor.layer("fid")]
        row: dict[str, Any] = {self.name: frechet_distance(statistics(features), reference.statistics)}
        if compared.resamples:
            rng = seeds.seeded_rng(compared.seed, "bootstrap")
            row[f"{self.name}_interval"] = bootstrap_interval(
                features, reference.statistics, compared.resamples, rng
            )
        return row


@METRICS.register("fid")
class FrechetInceptionDistance(FrechetDistance):
    """Fréchet distance in the features of InceptionV3 (Heusel et al. 2017)."""

    name = "fid"
    inception = True


@METRICS.register("is")
class InceptionScore(Metric):
    """Inception score of the images by themselves, exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016)."""

    inception = True

    def compute(self, compared: FeaturePair) -> dict[str, Any]:
        """Mean and standard deviation over ten parts, or fewer where there are few images."""
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

        logits = compared.generated[compared.reference.extractor.layer("isc")]
        splits = max(1, min(SPLITS, len(logits) // 2))
        score = isc_features_to_metric(logits, splits=splits)
        return {"is": score[KEY_METRIC_ISC_MEAN], "is_std": score[KEY_METRIC_ISC_STD], "is_splits": splits}


@METRICS.register("kid")
class KernelInceptionDistance(Metric):
    """Kernel distance of the features: squared MMD with a cubic kernel (Bińkowski et al. 2018)."""

    needs_features = True

    def compute(self, compared: FeaturePair) -> dict[str, Any]:
        """Mean and standard deviation over subsets of 1,000, or of all where there are fewer."""
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

        generated, real = compared.pair("kid")
        size = min(SUBSET, len(generated), len(real))
        score = kid_features_to_metric(generated, real, kid_subset_size=size, verbose=False)
        return {
            "kid": score[KEY_METRIC_KID_MEAN],
            "kid_std": score[KEY_METRIC_KID_STD],
            "kid_subset": size,
        }


@METRICS.register("precision")
class Precision(Metric):
    """Share of the images that lie among the references: improved precision (Kynkäänniemi et al. 2019)."""

    needs_features = True

    def compute(self, compared: FeaturePair) -> dict[str, Any]:
        """With balls that reach to the third neighbour."""
        return {"precision": compared.precision_recall["precision"]}


@METRICS.register("recall")
class Recall(Metric):
    """Share of the references that lie among the images: improved recall (Kynkäänniemi et al. 2019)."""

    needs_features = True

    def compute(self, compared: FeaturePair) -> dict[str, Any]:
        """With balls that reach to the third neighbour."""
        return {"recall": compared.precision_recall["recall"]}


def of_features(row: dict[str, Any], name: str, features: str) -> dict[str, Any]:
    """Numbers of a metric with the features in their names: ``fd_interval`` becomes ``fd_r64_interval``."""

    def renamed(key: str) -> str:
        return key.replace(name, f"{name}_{features}", 1) if name in key else f"{key}_{features}"

    return {renamed(key): value for key, value in row.items()}


def select_metrics(names: list[str], networks: list[Network]) -> dict[str, Metric]:
    """Metrics by name.

    Raises:
        UsageError: an unknown name, or one that means other features.
    """
    metrics: dict[str, Metric] = {}
    for name in names:
        if not plugins.is_file(name) and name not in METRICS.names():
            known = ", ".join([*METRICS.names(), "proximal"])
            raise UsageError(f"--metrics {name}: unknown; choose from {known}, or give mine.py:Class")
        metrics[name] = METRICS[name]()
        if metrics[name].inception and not any(network.scores for network in networks):
            raise UsageError(
                f"--metrics {name}: is a number of InceptionV3; add --features inception, or ask for fd, the "
                "Fréchet distance in other features"
            )
    return metrics
