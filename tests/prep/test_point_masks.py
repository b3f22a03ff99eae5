"""Masks of points for several coils, from preparation through training to reconstruction."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import mrigen
from mrigen.cli.main import run
from mrigen.errors import UsageError
from mrigen.operators import MultiCoilMRI
from mrigen.operators.masks import MASKS
from mrigen.operators.masks.base import sampled_centre

from .scans import dense

LAWS = [
    {"name": "poisson-disc", "acceleration": 3, "acs_lines": 4, "patterns": 2},
    {"name": "random-points", "acceleration": 3, "acs_lines": 4},
]


@pytest.mark.parametrize("spec", LAWS)
def test_budget_is_exact_and_the_centre_full(spec, generator):
    law = MASKS.build(spec)
    acquired = torch.ones(3, 20, dtype=torch.bool)
    acquired[1, :3] = False
    masks = law.sample(acquired, 18, generator)
    assert masks.shape == (3, 1, 18, 20)
    assert masks.flatten(1).sum(1).tolist() == [120, 102, 120]
    assert not (masks & ~acquired[:, None, None]).any()
    assert (masks | ~law.acs(18, 20)).all()
    assert sampled_centre(masks[0, 0]) >= 4
    further = law.corrupt_further(masks, generator)
    assert not (further & ~masks).any()
    assert (further | ~law.acs(18, 20)).all()
    assert ((masks & ~further).flatten(1).sum(1) == torch.tensor([30, 26, 30])).all()


@pytest.mark.parametrize("spec", LAWS)
def test_every_dropped_or_missing_point_may_have_been_measured(spec):
    """Theorem 4.1: over masks with the same pattern every point is measured now and then."""
    law = MASKS.build(spec | ({"patterns": 1, "uniform": 0.3} if "patterns" in spec else {}))
    assert law.ambient_obstacle == ""
    masks = law.sample(torch.ones(600, 10, dtype=torch.bool), 10, torch.Generator().manual_seed(1))
    assert masks.any(0).all()


def test_pure_poisson_discs_keep_their_distance_and_are_refused_by_ambient_training():
    law = MASKS.build(LAWS[0] | {"uniform": 0.0})
    assert "set uniform above 0" in law.ambient_obstacle
    mask = mrigen.masks.poisson_disc((40, 40), acceleration=6, centre=6)
    outer = mask.clone()
    outer[8:32, 8:32] = False
    rows, columns = outer.nonzero().T
    distance = ((rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2) + 99 * torch.eye(len(rows))
    assert distance.min() >= 2  # no two of the outer points touch; random ones do
    random = mrigen.masks.random_points((40, 40), acceleration=6, centre=6)
    assert (random[:, 1:] & random[:, :-1])[:, :8].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mrigen.masks.draw("random-points", 12), "give \\(H, W\\)"),
        (lambda: mrigen.masks.draw("poisson-disc", (8, 8), acceleration=4, acs_lines=5), "16 of 64 points"),
        (lambda: mrigen.masks.draw("poisson-disc", (8, 8), acceleration=1.2), "at least 1.5"),
        (
            lambda: MASKS.build(LAWS[1]).draw(torch.ones(1, 8, dtype=torch.bool), torch.Generator()),
            "not lines",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_prepared_masks_have_their_own_parameters(simulate, prep, tmp_path, capsys):
    raw = simulate(tmp_path / "raw", volumes=1, matrix=(24, 24), coils=4)
    options = {"mask": "poisson-disc:patterns=2,uniform=0.2", "acceleration": 2.5, "acs_lines": 6}
    store = prep(raw, virtual_coils=2, fixed_further=True, crop=(24, 24), **options)
    opened = mrigen.open_store(store)
    assert opened.manifest.mask["patterns"] == 2
    assert opened.manifest.mask["uniform"] == 0.2
    (file,) = opened.manifest.files
    arrays, kspace = dense(store, file)
    assert arrays["mask"].shape == (3, 24, 24)
    assert arrays["mask"].sum((1, 2)).tolist() == [int(24 * 24 // 2.5)] * 3
    assert (arrays["further"].sum((1, 2)) < arrays["mask"].sum((1, 2))).all()
    data = opened.measurements([0, 1, 2], fixed_further=True)
    assert_close(data.y, torch.from_numpy(kspace))
    error = data.operator(data.operator.solve(data.y, iterations=20)) - data.y
    assert error.norm() < 0.2 * data.y.norm()  # the maps of a square centre explain the data
    capsys.readouterr()
    assert (
        run(
            ["prep-fastmri", str(raw), "--out", str(tmp_path / "b"), "--mask", "random-points:acceleration=3"]
        )
        == 2
    )
    assert "its own option --acceleration" in capsys.readouterr().err


def test_a_store_in_memory_trains_and_reconstructs_with_points(generator):
    """A draw of A and of a further mask, the ambient objective and a solver see masks of points."""
    from mrigen.diffusion.objectives import OBJECTIVES

    maps = torch.randn(4, 3, 12, 12, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    masks = MASKS.build(LAWS[0]).sample(torch.ones(4, 12, dtype=torch.bool), 12, generator)
    A = MultiCoilMRI(maps, masks)
    x = torch.randn(4, 1, 12, 12, dtype=torch.complex64, generator=generator)
    store = mrigen.TensorStore(A(x), maps, masks, mask_distribution=LAWS[0])
    corruption = store.corruption()
    fresh = corruption.draw(3, generator)
    assert fresh.mask.shape == (3, 1, 12, 12)
    objective = OBJECTIVES.build({"name": "ambient"}, corruption=corruption)
    batch = store.packed([0, 1]).mask_further(
        lambda operator: corruption.corrupt_further(operator, generator)
    )
    assert (batch.further.mask.sum() < batch.operator.mask.sum()).all()
    loss = objective(lambda x, *_: x, batch, generator)
    assert loss.shape == (2,)
    assert loss.isfinite().all()
    assert mrigen.reconstruct(store.measurements([0]), "cg-sense", steps=30).shape == (1, 1, 12, 12)
    scanner = mrigen.TensorStore(A(x), maps, masks[0])
    assert scanner.manifest.mask["name"] == "measured"
    assert not scanner.corruption().fresh
    assert np.isclose(scanner.manifest.mask["acceleration"], 3)
