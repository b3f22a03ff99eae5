"""fastMRI's numbers, closed forms, and LPIPS with weights that are random."""

import pytest
import torch
from fastmri import evaluate
from torch_fidelity import sample_similarity_lpips as theirs

from mrigen.errors import UsageError
from mrigen.metrics import reconstruction
from mrigen.metrics.reconstruction import Errors, image_errors, volume_errors
from mrigen.reconstruction.volumes import VolumeErrors


def volume(generator, slices=3):
    return torch.randn(slices, 1, 20, 17, dtype=torch.complex64, generator=generator)


def test_volumes_are_fastmris(generator):
    target = volume(generator)
    estimate = target + 0.2 * volume(generator)
    found = volume_errors(estimate, target)
    gt, pred = (x.abs()[:, 0].double().numpy() for x in (target, estimate))
    assert found.psnr == pytest.approx(float(evaluate.psnr(gt, pred)), rel=1e-9)
    assert found.ssim == pytest.approx(float(evaluate.ssim(gt, pred)[0]), rel=1e-9)
    assert found.nmse == pytest.approx(float(evaluate.nmse(gt, pred)), rel=1e-9)


def test_closed_forms(generator):
    """An estimate 10 % too bright: NRMSE 0.1, and PSNR from the definition; SSIM of a copy is 1."""
    target = volume(generator)
    found = volume_errors(1.1 * target, target)
    assert found.nrmse == pytest.approx(0.1, rel=1e-5)
    assert found.nmse == pytest.approx(0.01, rel=1e-5)
    magnitude = target.abs()
    expected = 20 * torch.log10(magnitude.max() / (0.1 * magnitude.square().mean().sqrt()))
    assert found.psnr == pytest.approx(float(expected), rel=1e-5)
    assert volume_errors(target, target) == Errors(float("inf"), 1.0, 0.0, 0.0)


def test_phase_and_common_scale_do_not_count(generator):
    target = volume(generator)
    estimate = target + 0.1 * volume(generator)
    turned = volume_errors(5 * estimate * torch.exp(torch.tensor(1.3j)), 5 * target)
    for name, value in volume_errors(estimate, target).row().items():
        assert getattr(turned, name) == pytest.approx(value, rel=1e-4)


def test_volumes_are_told_apart(generator):
    """Interleaved slices of two volumes; each has its own maximum and norm."""
    target = torch.cat([volume(generator, 2), 7 * volume(generator, 2)])[[0, 2, 1, 3]]
    estimate, observed = target + 0.1 * volume(generator, 4), 0.5 * target
    names = ["a", "b", "a", "b"]
    errors = VolumeErrors(names)
    for name, *images in zip(names, estimate, observed, target, strict=True):
        errors.add(name, *images)
    found = errors.report()
    a, b = (volume_errors(estimate[i::2], target[i::2]) for i in range(2))
    assert [(v["name"], v["slices"], v["errors"]) for v in found["each"]] == [
        ("a", 2, a.row()),
        ("b", 2, b.row()),
    ]
    assert found["mean"]["nmse"] == pytest.approx((a.nmse + b.nmse) / 2)
    assert found["mean"]["nmse_std"] == pytest.approx(abs(a.nmse - b.nmse) / 2)
    assert found["zero_filled"]["nrmse"] == pytest.approx(0.5)


def test_natural_images_one_by_one():
    """A grey level of 0.2 too much in [-1, 1] is 0.1 of the range: 20 dB; clipping forgives the rest."""
    target = torch.linspace(-0.9, 0.6, 3 * 64).view(1, 3, 8, 8).repeat(2, 1, 1, 1)
    estimate = target + torch.tensor([0.2, 0.0]).view(2, 1, 1, 1)
    first, second = image_errors(estimate, target)
    assert first.psnr == pytest.approx(20, rel=1e-5)
    assert second.psnr == float("inf")
    white = torch.ones(1, 1, 8, 8)
    assert image_errors(white + 3, white)[0].nmse == 0


def test_bad_images_are_refused(generator):
    target = volume(generator)
    with pytest.raises(ValueError, match="differ in shape"):
        volume_errors(target[:2], target)
    with pytest.raises(UsageError, match="7 × 7"):
        volume_errors(target[..., :5], target[..., :5])


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder for downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


def test_lpips_without_weights_says_what_to_do(hub):
    with pytest.raises(UsageError, match="--download") as error:
        reconstruction.LPIPS()
    assert str(hub / "weights-vgg16-lpips.pth") in str(error.value)
    assert "\n" not in str(error.value)


def test_lpips_of_random_weights(hub, monkeypatch, generator):
    """With one positive weight per channel: zero for equal images, symmetric, larger for larger changes."""
    from torchvision.models import vgg16

    widths = (64, 128, 256, 512, 512)
    hub.mkdir(parents=True)
    (hub / "vgg16-397923af.pth").touch()
    weights = {f"lin{i}.model.1.weight": torch.ones(1, n, 1, 1) / n for i, n in enumerate(widths)}
    torch.save(weights, hub / "weights-vgg16-lpips.pth")
    monkeypatch.setattr(theirs, "torchvision_load_pretrained_vgg16", lambda: vgg16(num_classes=1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        distance = reconstruction.LPIPS()
    images = torch.rand(2, 1, 32, 32, generator=generator) * 2 - 1
    noise = torch.randn(2, 1, 32, 32, generator=generator)
    assert distance(images, images).tolist() == [0, 0]
    little, much = distance(images + 0.05 * noise, images), distance(images + 0.5 * noise, images)
    assert (little > 0).all()
    assert (little < much).all()
    torch.testing.assert_close(distance(images, images + 0.5 * noise), much)
    with pytest.raises(UsageError, match="16 × 16"):
        distance(images[..., :8], images[..., :8])
