"""Slices and frames that take from their neighbours what they did not measure."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrigen.errors import UsageError
from mrigen.inverse.linear import data_consistent
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.prep.kspace.options import Options
from mrigen.reconstruction.neighbours import SPREAD, Solved, coupled, neighbours_of, neighbours_of_source
from mrigen.reconstruction.sources import Batch, Source

CPU = torch.device("cpu")
H, W = 8, 6


@pytest.fixture
def volume():
    """Three batches of one or two slices: images, their measurements by other lines each, scales."""
    rng = torch.Generator().manual_seed(0)

    def make(sizes=(2, 1, 1), sigma=0.02, samples=2):
        first, solved, scales = 0, [], []
        for size in sizes:
            maps = torch.randn(size, 2, H, W, dtype=torch.complex64, generator=rng)
            maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
            mask = ((torch.arange(W) + first) % 3 == 0).expand(size, 1, 1, W)
            A = MultiCoilMRI(maps, mask)
            y = A(torch.randn(size, 1, H, W, dtype=torch.complex64, generator=rng))
            scale = 1 + torch.rand(size, generator=rng)
            images = torch.randn(size, samples, 1, H, W, dtype=torch.complex64, generator=rng)
            batch = Batch(
                [*range(first, first + size)], Measurements(y, A, torch.full((size,), sigma)), scale
            )
            ones = torch.ones(size, samples)
            solved.append(Solved(batch, images, ones, ones))
            scales.append(scale)
            first += size
        return solved, torch.cat([s.images for s in solved]), torch.cat(scales)

    return make


def test_each_is_the_minimum_beside_its_neighbours(volume):
    solved, images, scales = volume()
    beside, weight = [[1], [0, 2], [1, 3], [2]], 0.7
    rows = [row for each in solved for row in each.rows()]
    results = list(coupled(iter(solved), beside, weight, CPU))
    assert [r.batch.positions for r in results] == [[0], [1], [2], [3]]
    for p, result in enumerate(results):
        data = rows[p].batch.data
        near = [images[n] * scales[n] / scales[p] for n in beside[p]]
        centre = (images[p] + weight * sum(near)) / (1 + weight * len(near))
        for sample in range(2):
            x = result.images[0, sample]
            gradient = data.operator.normal(x[None])[0] - data.operator.adjoint(data.y)[0]
            gradient = gradient / data.sigma**2 + (x - centre[sample]) / SPREAD**2
            assert gradient.abs().max() * SPREAD**2 < 1e-3
            fit = (
                data.operator(x[None]) - data.y
            ).abs().square().sum().sqrt() / data.y.abs().square().sum().sqrt()
            assert result.misfit[0, sample] == pytest.approx(fit.item(), rel=1e-4)


def test_exact_data_are_met_and_only_what_they_leave_open_moves(volume):
    solved, _, _ = volume(sizes=(1, 1), sigma=0.0, samples=1)
    for one, result in zip(solved, coupled(iter(solved), [[1], [0]], 1.0, CPU), strict=True):
        data = one.batch.data
        assert torch.allclose(data.operator(result.images[:, 0]), data.y, atol=1e-2)
        moved = result.images[:, 0] - data_consistent(
            data.operator, data.y, one.images[:, 0], torch.zeros(1), 100
        )
        assert moved.abs().max() > 0.1
        assert data.operator(moved).abs().max() < 2e-2


def test_a_further_pass_starts_from_the_images_of_the_one_before(volume):
    solved, _, _ = volume()
    beside = [[1], [0, 2], [1, 3], [2]]
    once = list(coupled(iter(solved), beside, 0.7, CPU))
    assert not torch.equal(once[0].images, solved[0].images[:1])
    twice = list(coupled(iter(once), beside, 0.7, CPU))
    for one, again in zip(coupled(iter(solved), beside, 0.7, CPU, passes=2), twice, strict=True):
        assert torch.equal(one.images, again.images)
        assert torch.equal(one.misfit, again.misfit)


def test_passes_come_to_the_smoothest_series_that_meets_its_measurements(volume):
    """Exact data of one image, each slice by other lines: what one measured reaches all of them."""
    solved, _, _ = volume(sizes=(1,) * 3, sigma=0.0, samples=1)
    rng = torch.Generator().manual_seed(1)
    truth = torch.randn(1, 1, H, W, dtype=torch.complex64, generator=rng)
    same = []
    for one in solved:
        A = one.batch.data.operator
        batch = replace(one.batch, data=replace(one.batch.data, y=A(truth)), scale=torch.ones(1))
        same.append(replace(one, batch=batch))
    errors = [
        max((x.images[0] - truth).abs().max() for x in coupled(iter(same), [[1], [0, 2], [1]], 1.0, CPU, n))
        for n in (1, 4, 40)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_without_neighbours_or_weight(volume):
    solved, images, _ = volume()
    assert list(coupled(iter(solved), [], 1.0, CPU)) == solved
    lonely = list(coupled(iter(solved), [[], [2], [1], []], 0.5, CPU))
    assert torch.equal(lonely[0].images[0], images[0])
    assert torch.equal(lonely[3].images[0], images[3])
    assert not torch.equal(lonely[1].images[0], images[1])


def test_few_slices_are_kept(volume):
    solved, _, _ = volume(sizes=(1,) * 12, samples=1)
    ahead = []

    def counted():
        for one in solved:
            ahead.append(one)
            yield one

    beside = [[q for q in (p - 1, p + 1) if 0 <= q < 12] for p in range(12)]
    for passes in (1, 3):
        ahead.clear()
        for number, _ in enumerate(coupled(counted(), beside, 0.5, CPU, passes)):
            assert len(ahead) == min(number + 1 + passes, 12)


def test_neighbours_are_in_the_same_volume_or_slice():
    places = [("a", frame, number) for frame in range(3) for number in (4, 5, 7)]
    assert neighbours_of(places, frames=False) == [[1], [0], [], [4], [3], [], [7], [6], []]
    assert neighbours_of(places, frames=True) == [[3], [4], [5], [0, 6], [1, 7], [2, 8], [3], [4], [5]]


class Places(Source):
    name, labels, places = "scan", ["a"], [("a", 0, 0), ("a", 0, 2)]

    def batches(self, size):
        raise NotImplementedError


def test_refusals():
    with pytest.raises(UsageError, match="no neighbouring slices"):
        neighbours_of_source(Places(), "slices", 0.5, calibrate=False)
    with pytest.raises(UsageError, match="--calibrate"):
        neighbours_of_source(Places(), "slices", 0.5, calibrate=True)
    assert neighbours_of_source(Places(), "slices", 0.0, calibrate=True) == []
    with pytest.raises(UsageError, match=r"--along frames: .* give --neighbours"):
        neighbours_of_source(Places(), "frames", 0.0, calibrate=False)
    with pytest.raises(UsageError, match=r"--passes: .* give --neighbours"):
        neighbours_of_source(Places(), "slices", 0.0, 2, calibrate=False)


def test_frames_of_a_series_are_those_of_the_axis_that_was_taken(tmp_path):
    """Two repetitions of three slices, and two contrasts of three repetitions."""
    from mrigen.reconstruction.scans import ScanSource

    rng = np.random.default_rng(0)
    kspace = rng.standard_normal((2, 3, 2, 16, 16)) + 1j * rng.standard_normal((2, 3, 2, 16, 16))
    kspace[..., 8, 8] += 500
    scan = tmp_path / "series.npy"
    np.save(scan, kspace.reshape(6, 2, 16, 16).astype(np.complex64))
    source = ScanSource(scan, Options(kernel_width=3, virtual_coils=0, noise_whitening=False, slices="1:"))
    assert [number for _, _, number in source.places] == [1, 2, 3, 4, 5]
    assert {frame for _, frame, _ in source.places} == {0}
    source._scan = type(source._scan)(scan, 12, 2, 16, 16, choices={"contrast": 2, "repetition": 3})
    source._pipeline = type("P", (), {"slices": [*range(12)]})()
    chosen = Options(choose="contrast=all,repetition=all")
    expected = [(f"series {c}", r, s) for c in range(2) for r in range(3) for s in range(2)]
    assert source._places(chosen) == expected
    assert math.prod(source._scan.choices.values()) == 6


def test_the_command_lets_neighbours_have_a_say(reconstruct, tmp_path):
    """The object changes little from slice to slice, the masks do: variation and errors fall."""
    from mrigen.cli.main import run

    small = ["--volumes", "1", "--slices", "24", "--matrix", "32", "32", "--coils", "4", "--snr", "inf"]
    assert run(["simulate", "--out", str(tmp_path / "raw"), *small]) == 0
    options = ["--acceleration", 3, "--acs-lines", 6, "--kernel-width", 4, "--slices", "8:12"]
    scan = next((tmp_path / "raw").glob("*.h5"))
    assert "--calibrate" in reconstruct(
        scan, "zero-filled", "--neighbours", 1, "--samples", 2, "--calibrate", *options, fails=True
    )
    assert "no neighbouring frames" in reconstruct(
        scan, "zero-filled", "--neighbours", 1, "--along", "frames", *options, fails=True
    )
    _, own = reconstruct(scan, "zero-filled", *options)
    arrays, report = reconstruct(scan, "zero-filled", "--neighbours", 0.5, *options)
    magnitudes = [np.abs(arrays[name][:, 0]).astype(float) for name in ("image", "reference")]
    variation = [np.abs(np.diff(m, axis=0)).sum() for m in magnitudes]
    assert report["volumes"]["through_plane"] == pytest.approx(variation[0] / variation[1], rel=1e-4)
    assert report["volumes"]["through_plane"] < own["volumes"]["through_plane"]
    assert report["mean"]["nrmse"] < own["mean"]["nrmse"]
    _, again = reconstruct(scan, "zero-filled", "--neighbours", 0.5, "--passes", 2, *options)
    assert again["volumes"]["through_plane"] < report["volumes"]["through_plane"]
    assert again["mean"]["nrmse"] < report["mean"]["nrmse"]
