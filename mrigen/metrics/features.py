"""Feature spaces of images: networks behind torch-fidelity's interface, principal components, radiomics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.metrics.principal import PrincipalComponents, held_out
from mrigen.metrics.radiomics import radiomic_features, require_package
from mrigen.metrics.rendering import Rendering, magnitude_window
from mrigen.metrics.weights import WeightsFile, digest, tensors

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

__all__ = ["DEFAULT", "FEATURES", "R64", "AnyExtractor", "Extractor", "Features", "extractor", "extractors"]

Features = dict[str, Tensor]
"""Features (n, d) of n pictures by layer, on the CPU."""

KINDS = ("isc", "fid", "kid", "prc")
R64 = "random-vgg16-r64"
NO_WEIGHTS = "--features r64 needs no weights"
INCEPTION = WeightsFile(
    what="InceptionV3",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
    option="--inception-weights",
    instead=NO_WEIGHTS,
)
DINOV2 = WeightsFile(
    what="DINOv2",
    url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    option="--dinov2-weights",
    instead=NO_WEIGHTS,
)

VGG16 = WeightsFile(
    what="VGG16",
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    option="--vgg16-weights",
    instead=NO_WEIGHTS,
)


@dataclass(frozen=True)
class Network:
    """A network that features are taken from.

    Attributes:
        name: what torch-fidelity knows it by.
        weights: what decides its features; None where they are published as a file.
        published: that file.
        scores: whether its last layer are logits of classes, which the Inception score needs.
        raw: whether it takes float pictures beside bytes.
        fitted: whether its features are made of the references that images are compared with.
    """

    name: str
    weights: str | None = None
    published: WeightsFile | None = None
    scores: bool = False
    raw: bool = False
    fitted: bool = False


FEATURES = {
    "r64": Network(R64, weights="he-normal, seed 0"),
    "inception": Network("inception-v3-compat-float", published=INCEPTION, scores=True, raw=True),
    "pixels": Network("pixels", weights="none"),
    "dinov2": Network("dinov2-file", published=DINOV2),
    "vgg16": Network("vgg16", published=VGG16),
    "pca": Network("pca", weights="the references", fitted=True),
    "radiomics": Network("radiomics", weights="the references", fitted=True),
}
DEFAULT = ("pca", "r64")


@dataclass(frozen=True)
class Extractor:
    """A network that turns pictures into features.

    Attributes:
        network: what it is.
        model: torch-fidelity's module.
        weights: identifies the weights.
    """

    network: Network
    model: FeatureExtractorBase
    weights: str

    def layer(self, kind: str) -> str:
        """The layer that torch-fidelity takes for a metric (isc, fid, kid, prc)."""
        return str(self.model.get_default_feature_layer_for_metric(kind))

    def to(self, device: torch.device | str) -> Self:
        """Move the network; returns itself."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, pictures: Iterable[Tensor]) -> Features:
        """Features of batches of pictures (B, 3, H, W), uint8, or float where the network takes them.

        Raises:
            ValueError: there are none.
        """
        device = next(self.model.parameters()).device
        parts = [self.model(batch.to(device)) for batch in pictures]
        if not parts:
            raise ValueError("there are no pictures to take features of")
        layers = self.model.get_requested_features_list()
        return {layer: torch.cat([part[i].cpu() for part in parts]) for i, layer in enumerate(layers)}


class FittedExtractor(ABC):
    """Features that are made of the references, of images where networks see pictures of them.

    Attributes:
        network: what it is.
        weights: where the features come from.
    """

    network: ClassVar[Network]
    weights: ClassVar[str] = "the references"

    def layer(self, kind: str) -> str:
        """The only layer, for every metric."""
        del kind
        return self.network.name

    def to(self, device: torch.device | str) -> Self:
        """Itself: features are computed on the CPU, in float64."""
        del device
        return self

    @abstractmethod
    def fit(self, references: Tensor) -> tuple[FittedExtractor, Features]:
        """The extractor of references (n, C, H, W), and their own features."""

    @abstractmethod
    def of_batch(self, images: Tensor) -> Tensor:
        """Features (B, d) of images (B, C, H, W), real or complex.

        Raises:
            ValueError: there were no references.
        """

    def __call__(self, images: Iterable[Tensor]) -> Features:
        """Features of batches of images (B, C, H, W), real or complex.

        Raises:
            ValueError: there are none, or there were no references.
        """
        parts = [self.of_batch(batch).float() for batch in images]
        if not parts:
            raise ValueError("there are no images to take features of")
        return {self.network.name: torch.cat(parts)}


@dataclass(frozen=True)
class PrincipalExtractor(FittedExtractor):
    """Features along the principal components of references.

    Attributes:
        components: of the references; None before ``fit``.
    """

    network: ClassVar[Network] = FEATURES["pca"]
    components: PrincipalComponents | None = None

    def fit(self, references: Tensor) -> tuple[PrincipalExtractor, Features]:
        """The extractor of references (n, C, H, W), and their own features."""
        components = PrincipalComponents.of(references)
        return replace(self, components=components), {"pca": held_out(references, components)[0].float()}

    def of_batch(self, images: Tensor) -> Tensor:
        """Coordinates along the components, and the norm of the rest."""
        if self.components is None:
            raise ValueError("principal components need references")
        return self.components.features(images)


@dataclass(frozen=True)
class RadiomicExtractor(FittedExtractor):
    """Radiomic features, standardised by the references' mean and deviation (FRD, Konz et al. 2024).

    The Fréchet distance in them is not the published number, which has further classes of features.

    Attributes:
        mean: of the references' features.
        deviation: theirs; 1 where all references are alike.
        rendering: how images become pictures, with the window of the references; None before ``fit``.
    """

    network: ClassVar[Network] = FEATURES["radiomics"]
    mean: Tensor | float = 0.0
    deviation: Tensor | float = 1.0
    rendering: Rendering | None = None

    def fit(self, references: Tensor) -> tuple[RadiomicExtractor, Features]:
        """The extractor of references (n, C, H, W), and their own features."""
        rendering = Rendering(magnitude_window(references) if references.is_complex() else None)
        features, _ = radiomic_features(rendering(references))
        mean, deviation = features.mean(0), features.std(0)
        alike = deviation <= torch.finfo(torch.float32).eps * mean.abs()
        deviation = torch.where(alike, 1.0, deviation)
        fitted = replace(self, mean=mean, deviation=deviation, rendering=rendering)
        return fitted, {"radiomics": ((features - mean) / deviation).float()}

    def of_batch(self, images: Tensor) -> Tensor:
        """Features of the images' pictures minus the references' mean, over their deviation."""
        if self.rendering is None:
            raise ValueError("radiomic features need references")
        features, _ = radiomic_features(self.rendering(images))
        return (features - self.mean) / self.deviation


AnyExtractor = Extractor | FittedExtractor


def key_of(name: str) -> str:
    """The short name of features, which rows of numbers carry."""
    return next((key for key, network in FEATURES.items() if name in {key, network.name}), name)


def network_of(name: str) -> Network:
    """The network of a name.

    Raises:
        UsageError: there is none.
    """
    network = FEATURES.get(name) or next((n for n in FEATURES.values() if n.name == name), None)
    if network is None:
        raise UsageError(f"unknown features {name!r}: choose from {', '.join(FEATURES)}")
    return network


def extractor(name: str = R64, weights: Path | None = None, *, download: bool = False) -> AnyExtractor:
    """A feature extractor.

    Args:
        name: a key of ``FEATURES``; ``pca``, ``r64`` (random VGG16), ``pixels`` and ``radiomics`` need no
            weights, the last one the package ``numpyradiomics``.
        weights: file of its published weights; None to take those that were downloaded before.
        download: fetch the weights where they are missing.

    Raises:
        UsageError: unknown name, a package that is not installed, or weights that are missing, damaged or
            not wanted.
    """
    network = network_of(name)
    if network.published is None and weights is not None:
        raise UsageError(f"{weights}: features {name!r} need no file of weights; leave it out")
    if network is FEATURES["radiomics"]:
        require_package()
        return RadiomicExtractor()
    if network.fitted:
        return PrincipalExtractor()
    made = _extractor_class(network.name)
    layers = sorted({made.get_default_feature_layer_for_metric(kind) for kind in KINDS})
    if network.published is None:
        return Extractor(network, made(network.name, layers), str(network.weights))
    path = network.published.find(weights, download=download)
    tensors(path)
    try:
        model = made(network.name, layers, feature_extractor_weights_path=str(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: no weights of {network.published.what} ({reason})") from error
    return Extractor(network, model, digest(path))


def _extractor_class(name: str) -> type[FeatureExtractorBase]:
    """The class that torch-fidelity knows by a name; importing it takes a second or more."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    from mrigen.metrics import dinov2, extractors  # noqa: F401

    made: type[FeatureExtractorBase] = FEATURE_EXTRACTORS_REGISTRY[name]
    return made


def extractors(
    names: Sequence[str], weights: Path | None = None, *, download: bool = False
) -> dict[str, AnyExtractor]:
    """Several feature extractors by their short names, in order; one of them may need a file of weights.

    Args:
        names: keys of ``FEATURES``.
        weights: file of published weights, of the features that need one.
        download: fetch weights where they are missing.

    Raises:
        UsageError: no name, one twice, one file for several of them, or what ``extractor`` refuses.
    """
    keys = [key_of(name) for name in names]
    if not keys or len({*keys}) < len(keys):
        raise UsageError(f"features {', '.join(keys) or 'none'}: give one or several, each once")
    published = [key for key in keys if network_of(key).published is not None]
    if weights is not None and len(published) > 1:
        raise UsageError(f"{weights}: one file of weights for {' and '.join(published)}; choose one of them")
    owners = published or keys
    return {key: extractor(key, weights if key in owners else None, download=download) for key in keys}
