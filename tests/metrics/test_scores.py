"""Every number beside torch-fidelity's own command on the same pictures; bootstrap; paper mode."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from mrigen.data.images import ImageSet
from mrigen.errors import UsageError
from mrigen.metrics.distance import Reference, reference_of
from mrigen.metrics.features import extractor
from mrigen.metrics.frechet import bootstrap_interval, frechet_distance, statistics
from mrigen.metrics.rendering import Rendering, magnitude_window, streamed_window
from mrigen.metrics.scores import METRICS, FeaturePair, select_metrics

THEIRS = {
    "fid": "frechet_inception_distance",
    "fd": "frechet_inception_distance",
    "kid": "kernel_inception_distance_mean",
    "kid_std": "kernel_inception_distance_std",
    "is": "inception_score_mean",
    "is_std": "inception_score_std",
    "precision": "precision",
    "recall": "recall",
}


class Pictures(Dataset):
    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index]


def blobs(count, seed, spread=1.0):
    """Smooth colour images in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = spread * torch.randn(count, 3, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(-1, 1)


def ours(generated, real, taken, names):
    reference = Reference.of(real, taken)
    compared = FeaturePair(reference.features_of([generated]), reference, resamples=0)
    row = {}
    for metric in select_metrics(names, [taken.network]).values():
        row.update(metric.compute(compared))
    return row


def theirs(generated, real, size, **options):
    """Without FID, whose general eigenvalues take a minute for 2048 features."""
    shown = Rendering()
    return calculate_metrics(
        input1=Pictures(shown(generated)),
        input2=Pictures(shown(real)),
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
        kid=True,
        prc=True,
        kid_subset_size=size,
        batch_size=7,
        **options,
    )


def their_frechet(generated, real):
    """torch-fidelity's distance in the span of all features, where it is the same."""
    basis, _ = torch.linalg.qr(torch.cat([generated, real]).double().T)
    turned = [fid_features_to_statistics(features.double() @ basis) for features in (generated, real)]
    return fid_statistics_to_metric(*turned, verbose=False)["frechet_inception_distance"]


def test_numbers_of_random_features_are_torch_fidelitys(r64):
    """More generated than real images, and worse ones, so that precision and recall cannot be swapped."""
    generated, real = blobs(60, 0, spread=0.8), blobs(45, 1)
    found = ours(generated, real, r64, ["fd", "kid", "precision", "recall"])
    expected = theirs(generated, real, 45, feature_extractor=r64.network.name, fid=True)
    assert found["precision"] != found["recall"]
    for name in ("fd", "kid", "kid_std", "precision", "recall"):
        assert found[name] == pytest.approx(expected[THEIRS[name]], rel=1e-5), name


def test_numbers_of_inception_are_torch_fidelitys(inception_file):
    generated, real = blobs(20, 0, spread=0.8), blobs(6, 1)
    taken = extractor("inception", inception_file)
    found = ours(generated, real, taken, ["fid", "is", "kid", "precision", "recall"])
    expected = theirs(
        generated,
        real,
        6,
        isc=True,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception_file),
    )
    features = [taken([Rendering()(images)])["2048"] for images in (generated, real)]
    expected["frechet_inception_distance"] = their_frechet(*features)
    assert found["is"] > 1 + 1e-6
    assert found["is_splits"] == 10
    for name in ("fid", "is", "is_std", "kid", "precision", "recall"):
        assert found[name] == pytest.approx(expected[THEIRS[name]], rel=1e-5, abs=1e-7), name


def test_float_pictures_go_the_way_of_bytes(inception_file):
    """Whole numbers give the features of bytes, and half a grey level is not rounded away."""
    model = extractor("inception", inception_file)
    bytes_ = Rendering()(blobs(2, 0))
    same = model([bytes_.float()])
    for layer, expected in model([bytes_]).items():
        torch.testing.assert_close(same[layer], expected)
    assert not torch.allclose(model([bytes_ + 0.5])["2048"], same["2048"], rtol=1e-4)


def test_raw_magnitudes_are_not_scaled():
    images = torch.polar(torch.tensor([[[[0.5, 3.25]]]]), torch.tensor([[[[1.0, -2.0]]]]))
    shown = Rendering(raw=True)(images)
    assert shown.dtype == torch.float32
    torch.testing.assert_close(shown, torch.tensor([0.5, 3.25]).expand(1, 3, 1, 2))


def test_inception_numbers_need_inception(r64):
    for name in ("fid", "is"):
        with pytest.raises(UsageError, match="--features inception"):
            select_metrics([name], [r64.network])
    with pytest.raises(UsageError, match="choose from fd, fid"):
        select_metrics(["fad"], [r64.network])


def test_streamed_window_is_the_window():
    images = torch.randn(37, 1, 9, 7, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    assert streamed_window(images.split(5), images.numel()) == magnitude_window(images)


def test_streamed_reference_is_the_reference(r64):
    """Batch by batch, with the window of all of them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 1, 32, 32, dtype=torch.complex64, generator=generator)
    pool = ImageSet("images", 20, (1, 32, 32), complex_valued=True, take=lambda a, b: images[a:b])
    found = reference_of(pool, r64, keep_features=True)
    expected = Reference.of(images, r64)
    assert found.rendering.window == expected.rendering.window
    np.testing.assert_allclose(found.statistics.mean, expected.statistics.mean, rtol=1e-5)
    assert found.features["r64"].shape == (20, 64)


@pytest.mark.parametrize(("count", "width"), [(400, 3), (40, 60)])
def test_resampled_distances_are_frechet_distances(count, width):
    """Two resamples against the definition, for more samples than features and for fewer."""
    rng = np.random.default_rng(0)
    values, others = rng.standard_normal((count, width)), rng.standard_normal((500, width)) * 2
    reference = statistics(others)
    low, high = bootstrap_interval(values, reference, 2, torch.Generator().manual_seed(5), level=1)
    draws = torch.Generator().manual_seed(5)
    sets = [torch.randint(count, (count,), generator=draws).numpy() for _ in range(2)]
    distances = [frechet_distance(statistics(values[index]), reference) for index in sets]
    assert high - low == pytest.approx(max(distances) - min(distances), rel=1e-6)
    assert (high + low) / 2 == pytest.approx(frechet_distance(statistics(values), reference), rel=1e-9)


def test_bootstrap_interval_has_the_spread_of_repeated_samples():
    """The width is that of the distances of fresh sets: for a mean shift m, 2·1.96·2m/√n to first order."""
    rng = np.random.default_rng(0)
    count, shift = 2000, 3.0
    values = rng.standard_normal((count, 1)) + shift
    reference = statistics(rng.standard_normal((200_000, 1)))
    low, high = bootstrap_interval(values, reference, 400, torch.Generator().manual_seed(0))
    assert low < frechet_distance(statistics(values), reference) < high
    assert high - low == pytest.approx(4 * 1.96 * shift / count**0.5, rel=0.15)


def test_all_metrics_say_what_they_need():
    assert {name for name in METRICS.names() if METRICS[name].needs_features} == {
        "kid",
        "precision",
        "recall",
    }


class Small(torch.nn.Module):
    """In the place of VGG16, whose file has half a gigabyte: classifier layers 0 to 3 make the features."""

    def __init__(self):
        super().__init__()
        layers = [torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(8, 6)]
        layers += [torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(6, 5)]
        self.classifier = torch.nn.Sequential(*layers)

    def forward(self, images):
        return self.classifier(torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1))


def test_precision_and_recall_of_vgg16_come_from_a_file(tmp_path, monkeypatch):
    """Features after the second layer of the classifier, ReLU included, as Kynkäänniemi et al. have them."""
    import torchvision

    torch.manual_seed(0)
    model = Small()
    torch.save(model.state_dict(), tmp_path / "vgg16.pth")
    monkeypatch.setattr(torchvision.models, "vgg16", Small)
    taken = extractor("vgg16", tmp_path / "vgg16.pth")
    assert taken.layer("prc") == "fc2_relu"
    grey = taken([torch.full((2, 3, 9, 9), 100, dtype=torch.uint8)])["fc2_relu"]
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pooled = ((100 / 255 - mean) / deviation).repeat_interleave(4)
    with torch.no_grad():
        expected = model.classifier.eval()[:4](pooled).relu()
    torch.testing.assert_close(grey, expected.expand(2, -1), rtol=1e-4, atol=1e-5)
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="no weights of VGG16"):
        extractor("vgg16", tmp_path / "other.pth")
