"""What laws of operators show of images, where that is known in closed form."""

import math

import pytest
import torch

from mrigen.cli.main import run
from mrigen.errors import UsageError
from mrigen.operators import CORRUPTIONS, MRICorruption, MultiCoilMRI, make_corruption, recoverability
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import OperatorBank


def of(words, shape=(1, 8, 8), **more):
    return recoverability(make_corruption(CORRUPTIONS.freeze(CORRUPTIONS.parse(words)), shape), **more)


def test_missing_pixels():
    """Every pixel is kept with probability 1 - p, every two with (1 - p)², all with (1 - p)^64."""
    answer = of("inpainting:missing=0.5")
    assert answer.verdict == "yes"
    assert answer.least == pytest.approx(0.5, abs=5 * math.sqrt(0.25 / 2000))
    assert answer.together == pytest.approx(0.25, abs=5 * math.sqrt(0.1875 / 2000))
    assert answer.complete == 0
    assert answer.directions == 64


def test_nothing_missing():
    answer = of("identity")
    assert (answer.verdict, answer.complete, answer.unmeasured) == ("yes", 1.0, 0)
    assert answer.least == pytest.approx(1.0)


def test_a_box_at_a_fixed_place_is_named():
    answer = of("missing-box:size=[2,3],position=centre", (1, 8, 9))
    assert answer.verdict == "no"
    assert answer.where == "6 of 72 pixels: rows 3 to 4, columns 3 to 5"
    assert "ambient objectives: no" in answer.reasons[-1]


def test_a_box_anywhere():
    answer = of("missing-box:size=2")
    assert (answer.verdict, answer.unmeasured, answer.obstacle) == ("yes", 0, "")


def test_a_patch_never_shows_both_ends_of_an_image():
    answer = of("kept-patch:size=5")
    assert (answer.verdict, answer.together, answer.unmeasured) == ("in part", 0.0, 0)
    assert "covariance is not" in answer.reasons[0]


def test_random_lines_with_a_fixed_centre():
    """16 lines, R = 2, 4 of the centre: each of the 12 others with 4 / 12, two of them with 4 3 / (12 11)."""
    mask = "fourier-lines:image=complex,mask={name: exact-random, acceleration: 2, acs_lines: 4}"
    answer = of(mask, (1, 8, 16))
    assert answer.verdict == "yes"
    assert answer.directions == 16
    assert answer.least == pytest.approx(1 / 3, abs=0.06)
    assert answer.together == pytest.approx(1 / 11, abs=0.03)


def test_one_line_beside_the_centre_leaves_pairs_open():
    """16 lines, R = 4, 3 of the centre: a single other one."""
    mask = "fourier-lines:image=complex,mask={name: exact-random, acceleration: 4, acs_lines: 3}"
    answer = of(mask, (1, 8, 16))
    assert (answer.verdict, answer.together) == ("in part", 0.0)


def test_a_real_image_shows_its_mirror_lines():
    """Lines k and -k of a real image are one: with a single free line of 7 about DC each has 2 / 6."""
    mask = "fourier-lines:mask={name: exact-random, acceleration: 3.5, acs_lines: 1, further_drop: 1}"
    answer = of(mask, (1, 4, 7))
    assert answer.verdict == "in part"
    assert answer.least == pytest.approx(1 / 3, abs=0.06)


def test_low_resolution_loses_three_quarters():
    """Averages of 2 x 2 pixels: 16 of 64 directions are left."""
    answer = of("super-resolution:factor=2")
    assert answer.verdict == "no"
    assert answer.where.startswith("48 of 64 directions, of ")


def test_a_blur_with_a_zero_in_its_spectrum():
    """(1, 2, 1) / 4 has the spectrum cos²(π k / W), zero at k = W / 2: eight rows that alternate."""
    answer = of("blur:kernel=[[0.25, 0.5, 0.25]]")
    assert answer.verdict == "no"
    assert answer.where.startswith("8 of 64 directions, of 4 to ")


def test_a_blur_without_a_zero():
    """(1, 4, 1) / 6 has the spectrum (2 + cos) / 3, 1/3 or more: AᴴA 1/9 or more."""
    answer = of("blur:kernel=[[1, 4, 1]]")
    assert (answer.verdict, answer.complete) == ("yes", 1.0)
    assert 1 / 20 < answer.least < 1 / 5  # reflection at the edges is no circle


def test_too_few_draws_leave_pairs_unknown():
    """2 of 16 lines beside 2 of the centre: every two with 2 / (14 13), which 50 draws do not show."""
    mask = "fourier-lines:image=complex,mask={name: exact-random, acceleration: 4, acs_lines: 2}"
    assert of(mask, (1, 8, 16), draws=50).together is None
    answer = of(mask, (1, 8, 16))
    assert answer.draws < 20_000
    assert answer.together == pytest.approx(1 / 91, abs=0.01)


def test_large_images_are_refused_where_a_matrix_is_decomposed():
    with pytest.raises(UsageError, match="at most 1024 numbers"):
        of("gaussian-blur:size=5", (1, 64, 64))


def test_an_unknown_noise_level_is_said():
    assert "up to a Gaussian blur" in " ".join(of("identity", noise=False).reasons)


def scans(masks, *, fresh):
    """Slices of three coils whose maps say nothing here, and a law of one line in two."""
    maps = torch.ones(1, 3, 4, 16, dtype=torch.complex64).expand(len(masks), -1, -1, -1)
    law = MASKS.build({"name": "exact-random", "acceleration": 2, "acs_lines": 2})
    return MRICorruption(OperatorBank(MultiCoilMRI(maps, masks)), law, fresh=fresh)


def test_the_same_mask_in_every_slice():
    mask = torch.ones(5, 1, 1, 16, dtype=torch.bool)
    mask[..., [0, 1, 5]] = False
    answer = recoverability(scans(mask, fresh=False))
    assert (answer.verdict, answer.where, answer.draws) == ("no", "3 of 16 lines of k-space: 0 to 1, 5", 5)
    assert "the maps of 3 coils may tell something" in answer.reasons[1]
    assert recoverability(scans(mask, fresh=True)).verdict == "yes"


def test_masks_of_slices_that_complete_each_other():
    """Even lines in one slice and odd ones in the next: all are measured, neighbours never together."""
    mask = torch.arange(16).view(1, 1, 1, 16) % 2 == torch.arange(60).view(60, 1, 1, 1) % 2
    answer = recoverability(scans(mask, fresh=False))
    assert (answer.verdict, answer.least, answer.together) == ("in part", 0.5, 0.0)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["missing-box:size=2,position=centre", "--shape", "1", "8", "8"],
            1,
            "never measured: 4 of 64 pixels",
        ),
        (["inpainting:missing=0.8", "--shape", "3", "8", "8"], 0, "recoverable: yes"),
        (["toy/digits-inpaint", "--shape", "1", "8", "8"], 0, "recoverable: yes"),
        (["demo/brain"], 0, "recoverable: yes"),
        (["fastmri/brain-r8"], 0, "recoverable: yes"),
        (["inpainting:missing=0.8"], 2, "needs the images' --shape"),
        (["toy/digits-inpaint"], 2, "does not say the shape"),
        (["nothing"], 2, "nothing"),
    ],
)
def test_the_command(capsys, words, code, said):
    assert run(["recoverable", *words]) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
