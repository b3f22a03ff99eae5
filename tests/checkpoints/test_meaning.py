"""What the released options mean for channels, corruption and recipes."""

import pytest

from mrigen.channels import ChannelLayout
from mrigen.checkpoints.interpret import conventions_of, corruption_of, objective_of, recipe_of, shape_of
from mrigen.checkpoints.released import ReleasedCheckpoint
from mrigen.operators.masks import MASKS

MRI = {
    "dataset": "NumpyFolderDataset",
    "corruption_probability": 4,
    "delta_probability": 5,
    "loss": "AmbientLoss",
}
PHOTO = {
    "dataset": "ImageFolderDataset",
    "corruption_probability": 0.6,
    "delta_probability": 0.1,
    "mask_full_rgb": True,
    "corruption_pattern": "dust",
    "path": "/data/celeba-64x64.zip",
}


def real(image, mask):
    return ChannelLayout(image="real", image_channels=image, mask_channels=mask, ones_channel=False)


@pytest.mark.parametrize(
    ("channels", "facts", "expected"),
    [
        (4, MRI, ChannelLayout()),
        (4, {"corruption_probability": 8, "delta_probability": 9}, ChannelLayout()),
        (3, MRI, ChannelLayout(mask_channels=1, ones_channel=False)),
        (2, MRI, ChannelLayout(mask_channels=0, ones_channel=False)),
        (2, {}, ChannelLayout(mask_channels=0, ones_channel=False)),
        (6, PHOTO, real(3, 3)),
        (4, PHOTO, real(3, 1)),
        (2, PHOTO, real(1, 1)),
        (3, PHOTO | {"corruption_probability": 0}, real(3, 0)),
        (3, {}, real(3, 0)),
        (1, {}, real(1, 0)),
        (4, {}, real(4, 0)),
        (4, {"dataset": "ImageFolderDataset", "loss": "EDMLoss"}, real(4, 0)),
        (4, {"dataset": "ImageFolderDataset", "loss": "AmbientLoss"}, real(3, 1)),
    ],
)
def test_channels(channels, facts, expected):
    found = conventions_of(channels, facts)
    assert found == expected
    assert found.network_channels == channels


def test_mri_images_are_cut_to_320_columns():
    assert shape_of(384, ChannelLayout()) == (1, 384, 320)
    assert shape_of(32, ChannelLayout()) == (1, 32, 32)
    assert shape_of(64, real(3, 3)) == (3, 64, 64)


@pytest.mark.parametrize(("acceleration", "dropped"), [(2, 54), (4, 16), (6, 8), (8, 5)])
def test_mri_corruption_drops_the_published_number_of_lines(acceleration, dropped):
    """R + 1 is the default of mrigen's masks: 54, 16, 8, 5 lines at 320 columns."""
    facts = MRI | {"corruption_probability": acceleration, "delta_probability": acceleration + 1}
    corruption = corruption_of(ChannelLayout(), (1, 384, 320), facts)
    law = MASKS.build(corruption["mask"])
    assert law.params.dropped(320 // acceleration) == dropped
    assert law.params.centre(320) == 20
    assert recipe_of(corruption, facts) == f"fastmri/brain-r{acceleration}"


def test_another_further_acceleration_is_kept():
    facts = MRI | {"delta_probability": 8}
    corruption = corruption_of(ChannelLayout(), (1, 384, 320), facts)
    assert corruption["mask"]["further_drop"] == 40
    assert MASKS.build(corruption["mask"]).params.dropped(80) == 40


def test_fully_sampled_data_are_clean():
    facts = MRI | {"corruption_probability": 1, "delta_probability": 1}
    assert corruption_of(ChannelLayout(), (1, 384, 320), facts) is None
    assert corruption_of(real(3, 0), (3, 32, 32), {}) is None
    assert recipe_of(None, facts) is None


def test_photograph_corruption():
    assert corruption_of(real(3, 3), (3, 64, 64), PHOTO) == {
        "operator": "inpainting",
        "pattern": "dust",
        "missing": 0.6,
        "further_missing": 0.1,
        "per_channel": False,
        "sigma": 0.0,
    }


@pytest.mark.parametrize(
    ("path", "missing", "recipe"),
    [
        ("/data/celeba-64x64.zip", 0.6, "celeba/inpaint-p60-s0"),
        ("/data/celeba-64x64.zip", 0.65, None),
        ("cifar10-32x32.zip", 0.2, "cifar10/inpaint-p20"),
        ("AFHQv2-64x64.zip", 0.9, "afhqv2/inpaint-p90"),
        ("mystery.zip", 0.6, None),
    ],
)
def test_recipes_of_photographs(path, missing, recipe):
    facts = PHOTO | {"path": path, "corruption_probability": missing}
    assert recipe_of(corruption_of(real(3, 3), (3, 64, 64), facts), facts) == recipe


@pytest.mark.parametrize(
    ("loss", "conventions", "name"),
    [
        ("AmbientLoss", ChannelLayout(), "ambient"),
        ("EDMLoss", real(3, 0), "standard"),
        ("VELoss", real(3, 0), "standard"),
        ("", ChannelLayout(), "ambient"),
        ("", real(3, 0), "standard"),
        ("HingeLoss", real(3, 0), None),
    ],
)
def test_objectives(loss, conventions, name):
    found = ReleasedCheckpoint("ema", {}, facts={"loss": loss} if loss else {})
    objective = objective_of(found, conventions, 0.5)
    assert (objective and objective["name"]) == name


def test_objective_specifications_are_valid_recipes():
    from mrigen.diffusion.objectives import OBJECTIVES

    found = ReleasedCheckpoint("ema", {}, facts={"loss": "AmbientLoss", "P_mean": -1.0, "P_std": 1.4})
    params = OBJECTIVES.params(objective_of(found, ChannelLayout(), 0.4))
    assert (params.noise.p_mean, params.noise.p_std, params.sigma_data) == (-1.0, 1.4, 0.4)
