"""The training measurement that an image fits best, mirrored or shifted if need be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrigen import fourier
from mrigen.data.images import ImageSet
from mrigen.metrics.features import Extractor
from mrigen.metrics.rendering import Rendering
from mrigen.operators.base import LinearOperator, linear
from mrigen.operators.identity import Identity
from mrigen.operators.measurements import Measurements

SIDE = 64
CANDIDATES = 8
ELEMENTS = 1 << 24
CHUNK = 1024
RARE = 0.01


class Training(Protocol):
    """Measurements to search in, by index."""

    def __len__(self) -> int: ...

    def measurements(self, indices: list[int]) -> Measurements:
        """Measurements with their operators."""
        ...


@dataclass(frozen=True)
class Match:
    """The nearest training measurement of one image.

    Attributes:
        index: its position.
        correlation: |⟨A x', y⟩| / (‖A x'‖ ‖y‖) with x' the image, moved; for real images, the correlation
            coefficient of A x' and y.
        mirrored: whether x' is the mirror image (left to right).
        shift: rows and columns by which x' is shifted after that, circularly.
        masked: A x' as an image.
        measured: y as an image.
    """

    index: int
    correlation: float
    mirrored: bool
    shift: tuple[int, int]
    masked: Tensor
    measured: Tensor


class MeasurementSearch:
    """Searches training measurements for images that look like them.

    Both are seen through the operator A of the training measurement: an image x is compared with y by the
    correlation of A x with y, which needs no clean data. ⟨A x', y⟩ = ⟨x', Aᴴ y⟩ is a cross-correlation
    for all shifts x' of x at once, one Fourier transform per pair. It is computed at a side of at most 64
    for all pairs, and in full, with ‖A x'‖ of the best shift, for the 8 best of each image.

    Args:
        training: the measurements.
        batch: measurements per step.

    Raises:
        UsageError: their operators are not linear.
    """

    def __init__(self, training: Training, batch: int = 256) -> None:
        self._training = training
        self._complex = linear(training.measurements([0]).operator).zero_image().is_complex()
        self._spectra = torch.cat(
            [_small(_unit(linear(part.operator).adjoint(_centred(part)))) for part in _parts(training, batch)]
        )

    def __call__(self, images: Tensor) -> list[list[Match]]:
        """The best training measurements of each image (B, C, H, W), the best first."""
        turned = torch.stack([images, images.flip(-1)], 1)
        level = 0 if images.is_complex() else images.mean((-3, -2, -1)).repeat_interleave(2).view(-1, 1, 1, 1)
        spectra = _small(_unit(turned.flatten(0, 1) - level)).unflatten(0, turned.shape[:2])
        scores = torch.stack([self._scores(spectrum) for spectrum in spectra])
        best = scores.topk(min(CANDIDATES, len(self._training)), dim=1).indices
        return [
            sorted(self._match(both, index.tolist()), key=lambda match: -match.correlation)
            for both, index in zip(turned, best, strict=True)
        ]

    def _likeness(self, inner: Tensor) -> Tensor:
        """The modulus for complex images, whose global phase means nothing; the value for real ones."""
        return inner.abs() if self._complex else inner.real

    def _scores(self, spectrum: Tensor) -> Tensor:
        """Largest coarse correlation of an image (2, C, h, w) with each measurement."""
        step = max(1, ELEMENTS // spectrum.numel())
        scores = []
        for part in self._spectra.split(step):
            product = (part.conj()[:, None] * spectrum).sum(2)
            scores.append(self._likeness(fourier.ifft(product)).flatten(1).amax(1))
        return torch.cat(scores)

    def _match(self, both: Tensor, index: list[int]) -> list[Match]:
        """Full comparison of an image and its mirror image (2, C, H, W) with some measurements."""
        part = self._training.measurements(index)
        operator = linear(part.operator)
        target = _centred(part)
        spectrum = fourier.fft(operator.adjoint(target) + 0j)
        product = (spectrum.conj()[:, None] * fourier.fft(both + 0j)).sum(2)
        size = self._likeness(fourier.ifft(product))
        height, width = size.shape[-2:]
        place = size.flatten(1).argmax(1)
        moves = [
            (int(p) // (height * width), int(p) // width % height - height // 2, int(p) % width - width // 2)
            for p in place
        ]
        moved = torch.stack([both[m].roll((-down, -right), (-2, -1)) for m, down, right in moves])
        y = operator.forward(moved)
        seen = _without_constant(y, operator)
        likeness = self._likeness(_inner(seen, target)) / (_norm(seen) * _norm(target)).clamp(min=1e-12)
        masked, measured = operator.as_image(y), operator.as_image(part.y)
        return [
            Match(i, float(c), bool(m), (-down, -right), one, other)
            for i, c, (m, down, right), one, other in zip(
                index, likeness, moves, masked, measured, strict=True
            )
        ]


def _parts(training: Training, batch: int) -> Iterator[Measurements]:
    for first in range(0, len(training), batch):
        yield training.measurements(list(range(first, min(first + batch, len(training)))))


def _centred(part: Measurements) -> Tensor:
    return _without_constant(part.y, linear(part.operator))


def _without_constant(y: Tensor, operator: LinearOperator) -> Tensor:
    """What a constant image does not explain of y; complex images have no grey level to lose."""
    zero = operator.zero_image()
    if zero.is_complex():
        return y
    flat = operator.forward(torch.ones_like(zero).expand(len(y), *zero.shape[1:]))
    power = _inner(flat, flat).real.clamp(min=1e-12)
    return y - (_inner(flat, y).real / power).view(-1, *[1] * (y.ndim - 1)) * flat


def _small(images: Tensor) -> Tensor:
    """Spectra of images, cut to at most 64 × 64 of the lowest frequencies."""
    spectrum = fourier.fft(images + 0j)
    for axis in (-2, -1):
        length = spectrum.shape[axis]
        if length > SIDE:
            spectrum = spectrum.narrow(axis, length // 2 - SIDE // 2, SIDE)
    return spectrum.contiguous()


def _unit(images: Tensor) -> Tensor:
    """Images of norm one."""
    return images / _norm(images).clamp(min=1e-12).view(-1, 1, 1, 1)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ of each sample."""
    return (a.conj() * b).flatten(1).sum(1)


def _norm(a: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(a.flatten(1), dim=1)
    return norm


class FeatureSearch:
    """Searches all clean training images for the one whose features are most like an image's.

    Nearest by the cosine of features over the whole set (Ambient Diffusion, figures 6 and 8), of the image
    or its mirror image; nothing is chosen by pixels before.

    Args:
        training: the images.
        extractor: DINOv2, for example.
        rendering: how images become pictures.
        batch: images per step.
    """

    def __init__(
        self, training: ImageSet, extractor: Extractor, rendering: Rendering, batch: int = 256
    ) -> None:
        self._training, self._extractor, self._rendering = training, extractor, rendering
        self._features = torch.cat([self._unit_features(part) for part in training.read(batch)])

    def __call__(self, images: Tensor) -> list[list[Match]]:
        """The best training image of each image (B, C, H, W)."""
        turned = [images, images.flip(-1)]
        cosines = torch.stack([self._unit_features(each) @ self._features.T for each in turned])
        mirror = cosines.amax(2).argmax(0)
        matches = []
        for row, mirrored in enumerate(mirror.tolist()):
            index = int(cosines[mirrored, row].argmax())
            image, other = turned[mirrored][row], self._training.take(index, index + 1)[0]
            a, b = (each.flatten() - (0 if each.is_complex() else each.mean()) for each in (image, other))
            inner = (a.conj() * b).sum()
            inner = inner.abs() if a.is_complex() else inner
            likeness = float(inner / (_norm(a[None]) * _norm(b[None])).clamp(min=1e-12))
            matches.append([Match(index, likeness, bool(mirrored), (0, 0), image, other)])
        return matches

    def _unit_features(self, images: Tensor) -> Tensor:
        features = self._extractor([self._rendering(images)])[self._extractor.layer("fid")]
        return torch.nn.functional.normalize(features.float(), dim=1)


class Similarity(Protocol):
    """How alike the two images of each match are, at most 1."""

    def __call__(self, matches: list[Match]) -> list[float]:
        """One number per match."""
        ...


@dataclass(frozen=True)
class Pair:
    """A generated image and the training measurement that is most like it.

    Attributes:
        image: position of the generated image.
        similarity: of the two.
        match: the training measurement.
    """

    image: int
    similarity: float
    match: Match


def correlation(matches: list[Match]) -> list[float]:
    """Normalised correlation of what the operator shows of both."""
    return [match.correlation for match in matches]


@dataclass(frozen=True)
class FeatureSimilarity:
    """Cosine between features of what the operator shows of both.

    Attributes:
        extractor: DINOv2, for example.
        rendering: how images become pictures.
    """

    extractor: Extractor
    rendering: Rendering

    def __call__(self, matches: list[Match]) -> list[float]:
        """One cosine per match."""
        layer = self.extractor.layer("fid")
        masked, measured = (
            self.extractor([self.rendering(torch.stack(images))])[layer]
            for images in ([m.masked for m in matches], [m.measured for m in matches])
        )
        return [float(c) for c in torch.nn.functional.cosine_similarity(masked, measured)]


def top_pairs(
    batches: Iterable[Tensor],
    nearest: MeasurementSearch | FeatureSearch,
    similarity: Similarity = correlation,
) -> Iterator[Pair]:
    """The most similar training measurement of each image, in the order of the images.

    Candidates are those of the search; ``similarity`` decides among them.

    Args:
        batches: images (B, C, H, W).
        nearest: search of the training data.
        similarity: what is measured of the candidates.
    """
    image = 0
    for batch in batches:
        for matches in nearest(batch):
            similarities = similarity(matches)
            best = max(range(len(matches)), key=similarities.__getitem__)
            yield Pair(image, similarities[best], matches[best])
            image += 1


class CleanTraining:
    """Clean images as measurements by the identity, to search them as corrupted ones are searched.

    Args:
        pool: the images.
    """

    def __init__(self, pool: ImageSet) -> None:
        self._pool = pool

    def __len__(self) -> int:
        return len(self._pool)

    def measurements(self, indices: list[int]) -> Measurements:
        """Some images."""
        ordered = indices == list(range(indices[0], indices[0] + len(indices)))
        images = (
            self._pool.take(indices[0], indices[-1] + 1)
            if ordered
            else torch.cat([self._pool.take(i, i + 1) for i in indices])
        )
        return Measurements(images, Identity(torch.zeros_like(images[:1])), torch.zeros(len(images)))


def nearest_distance(images: Tensor, others: Tensor) -> Tensor:
    """Euclidean distance (n,) of each image (n, C, H, W) from the nearest of the others (m, C, H, W)."""
    flat = others.flatten(1).double()
    chunks = images.flatten(1).double().split(CHUNK)
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(chunk, flat, compute_mode=exact).amin(1) for chunk in chunks])


def distance_and_coverage(samples: Tensor, references: Tensor, radius: float) -> dict[str, float]:
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
        "distance": float(nearest_distance(samples, references).mean()),
        "coverage": float((nearest_distance(references, samples) <= radius).double().mean()),
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
    usual = nearest_distance(unseen, training).quantile(RARE)
    return float((nearest_distance(samples, training) < usual).double().mean())
