"""Degraded pictures."""

import numpy as np
import phantoms
import pytest
from PIL import Image

SMALL = "super-resolution:factor=2,restored=false"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "grey"
    return phantoms.write_model(folder, complex_valued=False, objective="standard", size=16)


def picture(path, size=16, seed=0):
    values = np.random.default_rng(seed).integers(0, 255, (size, size), np.uint8)
    Image.fromarray(values).save(path)
    return values.astype(np.float32) / 127.5 - 1


def test_super_resolution_of_a_small_picture(reconstruct, tmp_path, model):
    """The pseudo-inverse of averaging repeats pixels."""
    small = picture(tmp_path / "small.png", 8)
    arrays, _ = reconstruct(
        tmp_path / "small.png",
        "cg-sense",
        "--model",
        model,
        "--operator",
        SMALL,
    )
    np.testing.assert_allclose(arrays["image"][0, 0], small.repeat(2, 0).repeat(2, 1), atol=1e-4)
    assert arrays["image"].dtype == np.float32


def test_missing_pixels_by_a_mask(reconstruct, tmp_path, model):
    values = picture(tmp_path / "holes.png")
    seen = np.zeros((16, 16), np.uint8)
    seen[:, :9] = 255
    Image.fromarray(seen).save(tmp_path / "mask.png")
    arrays, _ = reconstruct(
        tmp_path / "holes.png", "pnp:steps=2,cg_steps=5", "--model", model, "--mask", tmp_path / "mask.png"
    )
    np.testing.assert_allclose(arrays["image"][0, 0, :, :9], values[:, :9], atol=1e-4)
    assert np.abs(arrays["image"][0, 0, :, 9:]).max() > 0


def test_clean_pictures_are_degraded_and_compared(reconstruct, tmp_path, model):
    folder = tmp_path / "clean"
    folder.mkdir()
    for i in range(3):
        picture(folder / f"{i}.png", seed=i)
    more = ("--model", model, "--operator", "identity", "--sigma", 0.2, "--degrade")
    arrays, report = reconstruct(folder, "zero-filled", *more)
    assert [s["name"] for s in report["slices"]] == ["0.png", "1.png", "2.png"]
    clean = np.stack([picture(folder / f"{i}.png", seed=i) for i in range(3)])[:, None]
    assert np.std(arrays["image"] - clean) == pytest.approx(0.2, rel=0.1)
    assert report["mean"] == report["zero_filled"]


def test_an_exact_image_has_an_infinite_psnr(reconstruct, tmp_path, capsys):
    """JSON has null for it."""
    picture(tmp_path / "clean.png")
    more = ("--operator", "identity", "--degrade", "--sigma", 0)
    _, report = reconstruct(tmp_path / "clean.png", "zero-filled", *more)
    assert report["mean"] | {"ssim": 1.0} == {
        "psnr": None,
        "psnr_std": 0,
        "ssim": 1.0,
        "ssim_std": 0,
        "nmse": 0,
        "nmse_std": 0,
        "nrmse": 0,
        "nrmse_std": 0,
    }
    assert report["slices"][0]["errors"]["psnr"] is None


def test_the_operator_of_a_recipe(reconstruct, tmp_path):
    picture(tmp_path / "clean.png", 64)
    more = ("--operator", "celeba/deblur-s20", "--degrade", "--sigma", 0)
    _, report = reconstruct(tmp_path / "clean.png", "zero-filled", *more)
    assert 0 < report["mean"]["nrmse"] < 0.5


def test_random_operators_are_not_guessed(reconstruct, tmp_path, model):
    path = tmp_path / "picture.png"
    picture(path)
    asked = [
        (("--operator", "inpainting:missing=0.5"), "drawn at random, which no picture tells"),
        ((), "with --operator or with --mask"),
        (("--operator", SMALL), "but the operator makes (1, 8, 8)"),
        (("--operator", "nonsense"), "unknown operator"),
    ]
    for more, expected in asked:
        line = reconstruct(path, "zero-filled", "--model", model, *more, fails=True)
        assert expected in line, line


def test_inpainting_can_be_simulated(reconstruct, tmp_path, model):
    path = tmp_path / "picture.png"
    clean = picture(path)
    operator = "inpainting:missing=0.5"
    arrays, _ = reconstruct(path, "zero-filled", "--model", model, "--operator", operator, "--degrade")
    found = arrays["image"][0, 0]
    assert 0.3 < (found == 0).mean() < 0.7
    np.testing.assert_allclose(found[found != 0], clean[found != 0], atol=1e-6)


@pytest.mark.parametrize("solver", ["cg-sense", "total-variation:iterations=20", "l1-wavelet:iterations=20"])
@pytest.mark.parametrize(
    ("more", "size"), [(("--operator", SMALL), (16, 24)), (("--operator", "gaussian-blur:std=1"), (8, 12))]
)
def test_without_a_model_the_picture_says_its_size(reconstruct, tmp_path, solver, more, size):
    """A colour picture, twice as large where the operator halves it."""
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    arrays, _ = reconstruct(tmp_path / "colour.png", solver, *more)
    assert arrays["image"].shape == (1, 3, *size)
    assert np.isfinite(arrays["image"]).all()
    assert np.std(arrays["image"]) > 0.1


def test_masks_and_clean_pictures_need_no_model(reconstruct, tmp_path):
    (tmp_path / "clean").mkdir()
    first, second = (picture(tmp_path / "clean" / f"{i}.png", seed=i) for i in range(2))
    blurred, report = reconstruct(
        tmp_path / "clean", "cg-sense", "--operator", "gaussian-blur:std=1", "--degrade"
    )
    assert report["mean"]["nrmse"] < report["zero_filled"]["nrmse"]
    assert blurred["image"].shape == (2, 1, 16, 16)
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "mask.png")
    whole, _ = reconstruct(tmp_path / "clean", "cg-sense", "--mask", tmp_path / "mask.png")
    np.testing.assert_allclose(whole["image"][:, 0], np.stack([first, second]), atol=1e-4)


def test_restored_pictures_have_files_of_their_own(reconstruct, tmp_path):
    """At their own size; those of one stem keep their ending."""
    (tmp_path / "clean").mkdir()
    for name in ("a.png", "a.bmp"):
        picture(tmp_path / "clean" / name)
    arrays, _ = reconstruct(tmp_path / "clean", "cg-sense", "--operator", "gaussian-blur:std=1", "--degrade")
    (folder,) = tmp_path.rglob("pictures")
    assert sorted(path.name for path in folder.iterdir()) == ["a.bmp.png", "a.png.png"]
    shown = np.asarray(Image.open(folder / "a.bmp.png"))
    expected = np.clip((arrays["image"][0, 0] + 1) / 2, 0, 1) * 255
    np.testing.assert_allclose(shown, np.repeat(expected[..., None], 3, 2), atol=0.51)


def test_pictures_without_a_model_that_will_not_do(reconstruct, tmp_path):
    path = tmp_path / "picture.png"
    picture(path)
    blur = ("--operator", "gaussian-blur:std=1")
    assert "needs a generator or a teacher" in reconstruct(path, "pnp", *blur, fails=True)
    (tmp_path / "folder").mkdir()
    for size in (16, 12):
        picture(tmp_path / "folder" / f"{size}.png", size)
    line = reconstruct(tmp_path / "folder", "zero-filled", *blur, "--degrade", fails=True)
    assert "16.png: is (1, 16, 16) (C, H, W), but the first picture is (1, 12, 12)" in line
    line = reconstruct(tmp_path / "folder", "zero-filled", *blur, fails=True)
    assert "16.png: is (1, 16, 16) (C, H, W), but the operator makes (1, 12, 12)" in line
    thirds = ("--operator", "super-resolution:factor=3")
    assert "16 x 16 pixels do not divide by factor 3" in reconstruct(path, "zero-filled", *thirds, fails=True)
