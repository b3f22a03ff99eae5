"""Ambient Diffusion, theorem 4.1: which corruptions leave E[AᴴA | Ã] with full rank.

Small images, many draws, and the conditional mean of AᴴA for each Ã that came often enough. Every
corruption that claims the theorem (``reason`` is empty) has a case here.
"""

import math

import pytest
import torch

from mrigen.errors import UsageError
from mrigen.operators.corruption import CORRUPTIONS, make_corruption

DISCRETE = {
    "identity": [({}, (1, 1, 3))],
    "inpainting": [
        ({"missing": 0.5, "further_missing": 0.3}, (1, 2, 3)),
        ({"missing": 0.5, "further_missing": 0.3, "per_channel": True}, (2, 1, 3)),
    ],
    "missing-box": [
        ({"size": [1, 2]}, (1, 2, 5)),
        ({"size": [2, 1]}, (1, 4, 2)),
        ({"size": 2}, (1, 2, 6)),
        ({"size": 2}, (1, 4, 4)),
    ],
    "fourier-points": [
        ({"acceleration": 2, "centre": 1, "image": kind}, (1, 3, 3)) for kind in ("real", "complex")
    ],
    "fourier-lines": [
        ({"mask": mask, "image": kind}, (1, 2, 6))
        for kind in ("real", "complex")
        for mask in (
            {"name": "exact-random", "acceleration": 2, "acs_lines": 1, "further_drop": 1},
            {"name": "random", "acceleration": 2, "acs_lines": 1, "further_drop": 1},
        )
    ],
}
CONTINUOUS = {"compressed-sensing", "radial", "spiral"}
LARGER = 2000


def matrices(operator, batch: int, shape: tuple[int, ...]) -> torch.Tensor:
    """AᴴA of each sample, (batch, d, d)."""
    zero = operator.zero_image()
    size = math.prod(shape)
    columns = []
    for j in range(size):
        unit = torch.zeros(batch, size, dtype=zero.dtype)
        unit[:, j] = 1
        columns.append(operator.normal(unit.view(batch, *shape)).flatten(1))
    return torch.stack(columns, -1)


def least_eigenvalues(corruption, generator, *, further=None, often=60) -> torch.Tensor:
    """The least eigenvalue of E[AᴴA | Ã] for each Ã that was drawn often."""
    operator = corruption.draw(LARGER, generator)
    less = (further or corruption.corrupt_further)(operator, generator)
    full = matrices(operator, LARGER, corruption.shape)
    seen = matrices(less, LARGER, corruption.shape).flatten(1)
    codes = torch.view_as_real(seen).flatten(1) if seen.is_complex() else seen
    _, group = torch.unique((codes * 1000).round(), dim=0, return_inverse=True)
    counts = torch.bincount(group)
    means = torch.zeros(len(counts), *full.shape[1:], dtype=full.dtype).index_add_(0, group, full)
    common = counts > often
    assert common.any()
    means = means[common] / counts[common, None, None]
    return torch.linalg.eigvalsh(means)[:, 0]


def test_every_claim_has_a_case():
    claims = {n for n in CORRUPTIONS.names() if not CORRUPTIONS[n].example().ambient_obstacle}
    assert claims == set(DISCRETE) | CONTINUOUS


@pytest.mark.parametrize(
    ("name", "values", "shape"), [(n, v, s) for n, cases in DISCRETE.items() for v, s in cases]
)
def test_full_rank_given_every_further_operator(name, values, shape, generator):
    corruption = make_corruption({"name": name, **values}, shape)
    assert corruption.ambient_obstacle == ""
    least = least_eigenvalues(corruption, generator)
    assert least.min() > 0.02


@pytest.mark.parametrize(("missing", "further"), [(0.5, 0.3), (0.8, 0.1)])
def test_the_probability_of_corollary_a_1(missing, further, generator):
    """P(A_ii = 1 | Ã_ii = 0) = δ(1 − p) / (p + δ(1 − p)), the least eigenvalue."""
    corruption = make_corruption(
        {"name": "inpainting", "missing": missing, "further_missing": further}, (1, 50, 50)
    )
    operator = corruption.draw(40, generator)
    hidden = ~corruption.corrupt_further(operator, generator).mask
    expected = further * (1 - missing) / (missing + further * (1 - missing))
    share = operator.mask[hidden].double().mean()
    assert abs(share - expected) < 5 * (expected / hidden.sum()) ** 0.5


@pytest.mark.parametrize("acceleration", [2, 3])
def test_the_probability_of_dropped_points(acceleration, generator):
    """r / (N − b + r) of the points that M̃ lacks were measured, at every one of them."""
    corruption = make_corruption(
        {"name": "fourier-points", "acceleration": acceleration, "centre": 2, "further_drop": 0.2}, (1, 8, 9)
    )
    operator = corruption.draw(20_000, generator)
    further = corruption.corrupt_further(operator, generator)
    budget = 72 // acceleration
    assert set(operator.mask.sum((1, 2, 3)).tolist()) == {budget}
    dropped = round((budget - 4) * 0.2)
    assert set((operator.mask & ~further.mask).sum((1, 2, 3)).tolist()) == {dropped}
    hidden = ~further.mask
    share = (operator.mask & hidden).double().sum(0) / hidden.sum(0).clamp(min=1)
    expected = dropped / (72 - budget + dropped)
    around = hidden.any(0)
    assert around.sum() == 72 - 4
    assert (share[around] - expected).abs().max() < 5 * (expected / 10_000) ** 0.5


REFUSED = [
    (
        "fourier-lines",
        {"mask": {"name": "equispaced", "acceleration": 3, "acs_lines": 1, "further_drop": 1}},
        (1, 1, 9),
        "reveal its offset",
    ),
    (
        "fourier-lines",
        {"mask": {"name": "magic", "acceleration": 3, "acs_lines": 1, "further_drop": 1}},
        (1, 1, 12),
        "reveal its offset",
    ),
]


@pytest.mark.parametrize(("name", "values", "shape", "reason"), REFUSED)
def test_rank_is_lost_where_the_reason_says_so(name, values, shape, reason, generator):
    corruption = make_corruption(
        {"name": name, "image": "complex", **values} if "mask" in values else {"name": name, **values}, shape
    )
    assert reason in corruption.ambient_obstacle
    assert least_eigenvalues(corruption, generator).min() < 1e-4


def test_a_box_that_leaves_no_room_for_a_second_one_has_no_further_corruption(generator):
    """2 x 3 of 3 x 4 pixels: all places cover the centre, where nothing is ever measured."""
    corruption = make_corruption({"name": "missing-box", "size": [2, 3]}, (1, 3, 4))
    assert "no room for a second one" in corruption.ambient_obstacle
    operator = corruption.draw(1000, generator)
    assert not operator.mask[..., 1, 1:3].any()
    with pytest.raises(UsageError, match="no room for a second one"):
        corruption.corrupt_further(operator, generator)


def test_a_patch_reveals_what_was_not_measured_with_it(generator):
    """Hiding measured pixels at random does not help: P(measured) = 0 far from a surviving pixel."""
    corruption = make_corruption({"name": "kept-patch", "size": [1, 2]}, (1, 1, 6))
    hide = make_corruption({"name": "inpainting", "further_missing": 0.3}, (1, 1, 6)).corrupt_further
    assert "never measured together" in corruption.ambient_obstacle
    assert least_eigenvalues(corruption, generator, further=hide).min() < 1e-4


def test_a_box_in_the_centre_has_no_further_corruption(generator):
    corruption = make_corruption({"name": "missing-box", "size": 2, "position": "centre"}, (1, 3, 4))
    assert "same place" in corruption.ambient_obstacle
    assert least_eigenvalues(corruption, generator, further=lambda operator, _: operator).max() < 1e-4
    with pytest.raises(UsageError, match="same place"):
        corruption.corrupt_further(corruption.draw(1, generator), generator)


@pytest.mark.parametrize("name", ["gaussian-blur", "blur", "motion-blur", "super-resolution", "kept-patch"])
def test_what_drops_nothing_has_no_further_corruption(name, generator):
    corruption = CORRUPTIONS[name].example()
    assert corruption.ambient_obstacle
    with pytest.raises(UsageError, match="has no further corruption"):
        corruption.corrupt_further(corruption.draw(1, generator), generator)


def test_poisson_disc_points_reveal_their_pattern(generator):
    """Only one of the patterns contains a further mask: P(M = 1 | M̃) is 0 or 1."""
    corruption = make_corruption(
        {"name": "fourier-poisson", "acceleration": 4, "centre": 4, "patterns": 6}, (1, 32, 32)
    )
    assert "reveal which pattern" in corruption.ambient_obstacle
    every = torch.unique(corruption.draw(200, generator).mask, dim=0)
    assert len(every) == 6
    further = corruption.corrupt_further(corruption.draw(50, generator), generator).mask
    contains = (every[None] | ~further[:, None]).flatten(2).all(2)
    assert (contains.sum(1) == 1).all()


def test_gaussian_rows_that_were_dropped_are_not_told_by_the_others(generator):
    """E[AᵀA | Ã] = ÃᵀÃ + (r/m) I: what was dropped has mean (r/m) I whatever the survivors are."""
    m, r, count = 4, 2, 40_000
    corruption = make_corruption(
        {"name": "compressed-sensing", "measurements": m, "further_drop": r}, (1, 2, 3)
    )
    assert corruption.ambient_obstacle == ""
    operator = corruption.draw(count, generator)
    further = corruption.corrupt_further(operator, generator)
    assert set(further.kept.sum(1).tolist()) == {m - r}
    survivors = operator.matrix[further.kept].view(count, m - r, 6)
    rows = operator.matrix * operator.kept[..., None]
    less = operator.matrix * further.kept[..., None]
    rest = rows.mT @ rows - less.mT @ less
    for told in (survivors[:, 0, 0], survivors.norm(dim=(1, 2)), survivors[:, 0, 1] * survivors[:, 1, 1]):
        half = told > told.median()
        for chosen in (half, ~half):
            torch.testing.assert_close(rest[chosen].mean(0), r / m * torch.eye(6), atol=0.02, rtol=0)


def test_one_fixed_matrix_is_refused_unless_it_sees_everything(generator):
    spec = {"name": "compressed-sensing", "matrix": "fixed"}
    corruption = make_corruption({**spec, "measurements": 5}, (1, 2, 3))
    assert "one matrix for all images" in corruption.ambient_obstacle
    moment = matrices(corruption.draw(3, generator), 3, (1, 2, 3)).mean(0)
    assert int(torch.linalg.matrix_rank(moment, atol=1e-4)) == 5
    assert make_corruption({**spec, "measurements": 6}, (1, 2, 3)).ambient_obstacle == ""


def plane_waves(operator) -> torch.Tensor:
    """Rows exp(−2πi k·n) / √(HW) of every sample of every arm, (B, arms, samples, HW), double."""
    height, width = operator.like.shape[-2:]
    n1 = torch.arange(height, dtype=torch.float64) - height // 2
    n2 = torch.arange(width, dtype=torch.float64) - width // 2
    k = operator.trajectory.double()
    phase = k[..., 0, None, None] * n1[:, None] / height + k[..., 1, None, None] * n2 / width
    return torch.exp(-2j * torch.pi * phase).flatten(-2) / (height * width) ** 0.5


@pytest.mark.parametrize("name", ["radial", "spiral"])
def test_arms_at_random_angles(name, generator):
    """What was dropped has mean T, of full rank, whatever the angles of the survivors."""
    count = 20_000
    corruption = make_corruption({"name": name, "arms": 2, "samples": 8}, (1, 3, 4))
    assert corruption.ambient_obstacle == ""
    operator = corruption.draw(count, generator)
    further = corruption.corrupt_further(operator, generator)
    assert set(further.kept.sum(1).tolist()) == {1}
    rows = plane_waves(operator)
    dropped = rows[operator.kept & ~further.kept]
    survivors = rows[further.kept]
    rest = dropped.mH @ dropped
    halves = survivors[:, -1, 0].real > survivors[:, -1, 0].real.median()
    means = [rest[chosen].mean(0) for chosen in (halves, ~halves)]
    torch.testing.assert_close(means[0], means[1], atol=0.1, rtol=0)
    everything = torch.linalg.eigvalsh(rest.mean(0))
    assert everything[0] > 1e-2 * everything[-1]


@pytest.mark.parametrize("name", ["radial", "spiral"])
@pytest.mark.parametrize("angles", ["golden", "equispaced"])
def test_ordered_arms_reveal_the_missing_one(name, angles, generator):
    """Given the surviving arms there is one place left for the dropped one: AᴴA is known, of low rank."""
    corruption = make_corruption({"name": name, "arms": 3, "samples": 3, "angles": angles}, (1, 4, 5))
    assert f"the surviving {angles} arms reveal the missing ones" in corruption.ambient_obstacle
    operator = corruption.draw(200, generator)
    direction = operator.trajectory[:, :, -1] if name == "spiral" else operator.trajectory[:, :, 0]
    turns = torch.atan2(direction[..., 0] / 4, direction[..., 1] / 5).double() / corruption.period
    steps = (turns[:, 1:] - turns[:, :-1]) % 1
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=1e-5, rtol=0)
    rank = torch.linalg.matrix_rank(plane_waves(operator)[0].flatten(0, 1))
    assert rank <= 9 < 4 * 5


def test_compositions_claim_it_only_where_nothing_is_lost_first(generator):
    parts = {
        "": [{"name": "identity"}, {"name": "inpainting", "further_missing": 0.3}],
        "gaussian-blur may lose part of the image": [
            {"name": "gaussian-blur", "size": 3},
            {"name": "inpainting"},
        ],
        "a Gaussian blur drops nothing at random": [
            {"name": "inpainting"},
            {"name": "gaussian-blur", "size": 3},
        ],
    }
    for reason, chain in parts.items():
        corruption = make_corruption({"name": "compose", "parts": chain}, (1, 2, 3))
        assert reason in corruption.ambient_obstacle
        assert bool(corruption.ambient_obstacle) == bool(reason)
    allowed = make_corruption({"name": "compose", "parts": parts[""]}, (1, 2, 2))
    assert least_eigenvalues(allowed, generator).min() > 0.02
