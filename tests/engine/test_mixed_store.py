"""Images of different quality in one training: each is used where its corruption does not matter."""

import pytest
import torch
from tiny_jobs import fabric, tiny_denoiser

import mrigen as mg
from mrigen.data.mixed_store import MixedStore
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.engine.params import TeacherParams
from mrigen.engine.teacher import TeacherJob, UsableImages
from mrigen.errors import UsageError
from mrigen.operators import Measurements, make_corruption
from mrigen.operators.identity import Identity
from mrigen.operators.noise import NoiseLevels, parse_noise

SHAPE = (1, 8, 8)
LAW = {"name": "exact-random", "acceleration": 2, "acs_lines": 2, "further_drop": 1}


class Pictures:
    """Images of one brightness each, with noise of a given σ in the manner of an image store."""

    folder, complex_valued, image_shape, classes = "pictures", False, SHAPE, 0

    def __init__(self, count, sigma, brightness=0.0, operator="identity", dtype=torch.float32):
        self.count, self.sigma, self.brightness, self.operator, self.dtype = (
            count,
            sigma,
            brightness,
            operator,
            dtype,
        )
        self.complex_valued = dtype.is_complex

    def __len__(self):
        return self.count

    def measurements(self, indices, *, fixed_further=False):
        y = torch.full((len(indices), *SHAPE), self.brightness, dtype=self.dtype)
        y = y + torch.tensor(indices).view(-1, 1, 1, 1)
        return Measurements(y, Identity(torch.zeros_like(y)), torch.full((len(y),), self.sigma))

    packed = measurements

    def noise_levels(self, indices):
        return torch.full((len(indices),), self.sigma)

    def described(self):
        kind = {"complex_valued": True} if self.complex_valued else {}
        return {"operator": {"name": self.operator, **kind}, "sigma": {"low": self.sigma}}


def tweedie(store):
    return OBJECTIVES.build({"name": "tweedie"}, corruption=store.corruption())


def slices(count, acceleration, seed, law=LAW, sigma=0.0):
    rng = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, 2, 8, 8, dtype=torch.complex64, generator=rng)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    own = {**LAW, "acceleration": acceleration}
    masks = mg.masks.MASKS.build(own).sample(torch.ones(count, 8, dtype=torch.bool), 8, rng)
    A = mg.MultiCoilMRI(maps, masks)
    x = torch.randn(count, 1, 8, 8, dtype=torch.complex64, generator=rng)
    return mg.TensorStore(A(x), maps, masks, mask_distribution=law, sigma=sigma)


def test_an_image_is_replaced_where_its_noise_is_above_the_level():
    usable = UsableImages(torch.tensor([0.5, 0.0, 1.0, 0.5]))
    rng = torch.Generator().manual_seed(0)
    levels = torch.tensor([0.3, 0.7, 2.0, 0.5])
    assert usable.choose([1, 0, 2, 1], levels, rng) == [1, 0, 2, 1]  # all of them are usable as they are
    assert usable.choose([2, 3, 0], torch.tensor([0.4, 0.5, 0.1]), rng) == [1, 1, 1]
    assert UsableImages(torch.tensor([0.5, 0.5])).choose([1], torch.tensor([0.1]), rng) == [
        1
    ]  # there is none


def test_usable_images_are_equally_likely():
    usable = UsableImages(torch.tensor([0.5, 0.0, 1.0, 0.2]))
    chosen = usable.choose([2] * 6000, torch.full((6000,), 0.7), torch.Generator().manual_seed(0))
    counts = torch.bincount(torch.tensor(chosen), minlength=4)
    assert counts[2] == 0
    assert (counts[[0, 1, 3]] - 2000).abs().max() < 4 * 2000**0.5


def test_levels_at_which_few_images_are_usable_are_drawn_less_often():
    """Of levels uniform in (0.1, 1) 4 in 9 are below 0.5, where one image of 100 is usable."""
    least = torch.full((100,), 0.5)
    least[7] = 0.1
    rng = torch.Generator().manual_seed(0)
    count = 20_000

    def draw():
        return torch.rand(count, generator=rng)

    levels = UsableImages(least, 10.0).thin_out(0.1 + 0.9 * draw(), lambda: 0.1 + 0.9 * draw(), rng)
    odds = 0.1 * 0.4 / 0.5
    expected = odds / (1 + odds)
    assert float((levels < 0.5).float().mean()) == pytest.approx(expected, abs=4 * (expected / count) ** 0.5)
    assert float(levels[levels >= 0.5].mean()) == pytest.approx(0.75, abs=0.005)


def test_levels_are_kept_without_a_limit_and_where_no_image_is_usable():
    least = torch.tensor([0.5, 0.2] + 8 * [0.5])
    levels, never = torch.tensor([0.3, 0.1, 0.7]), lambda: pytest.fail("a level was drawn again")
    rng = torch.Generator().manual_seed(0)
    assert torch.equal(UsableImages(least).thin_out(levels, never, rng), levels)
    assert torch.equal(UsableImages(least, 10.0).thin_out(levels, never, rng), levels)
    again = UsableImages(least, 1e-6).thin_out(levels, lambda: torch.full((3,), 0.1), rng)
    assert torch.equal(again, torch.tensor([0.1, 0.1, 0.1]))


def test_images_keep_their_order_and_their_noise():
    store = MixedStore([Pictures(3, 0.5), Pictures(2, 0.0, 100.0)])
    batch = store.measurements([4, 0, 3, 2])
    assert batch.y[:, 0, 0, 0].tolist() == [101, 0, 100, 2]
    assert batch.sigma.tolist() == [0, 0.5, 0, 0.5]
    assert store.noise_levels([4, 0]).tolist() == [0, 0.5]
    assert len(store) == 5


def test_the_noise_of_all_is_the_law_that_a_model_is_told():
    store = MixedStore([Pictures(300, 0.5), Pictures(100, 0.0)])
    noise = store.corruption().noise
    assert isinstance(noise, NoiseLevels)
    assert (noise.low, noise.top, len(noise.levels)) == (0.0, 0.5, 256)
    assert sum(level == 0 for level in noise.levels) == 64
    again = parse_noise(store.described()["sigma"])
    assert again == noise
    same = make_corruption({"name": "identity"}, SHAPE, again).noise.draw(9, torch.Generator().manual_seed(1))
    assert torch.equal(same, noise.draw(9, torch.Generator().manual_seed(1)))


def test_a_clean_image_is_learnt_from_as_by_the_standard_objective():
    store = MixedStore([Pictures(3, 0.5), Pictures(2, 0.0)])
    batch = store.measurements([3, 4])
    batch = mg.Measurements(batch.y, batch.operator, batch.sigma, levels=torch.tensor([0.01, 2.0]))
    standard = OBJECTIVES.build({"name": "standard"}, corruption=store.corruption())
    losses = [
        objective(lambda x, sigma, *_: 0.5 * x, batch, torch.Generator().manual_seed(0))
        for objective in (tweedie(store), standard)
    ]
    torch.testing.assert_close(losses[0], losses[1])


class Recording:
    """A denoiser's objective that keeps what it was shown."""

    def __init__(self, objective):
        self.objective, self.batches = objective, []

    def __getattr__(self, name):
        return getattr(self.objective, name)

    def __call__(self, denoiser, batch, rng):
        self.batches.append(batch)
        return torch.zeros(len(batch), requires_grad=True) + 0 * next(denoiser.parameters()).sum()


def shown(store, objective, **params):
    job = TeacherJob(
        TeacherParams(images=256, batch=64, objective={"name": "tweedie"}, ema_halflife=9, **params),
        tiny_denoiser(),
        Recording(objective),
        store,
        fabric(),
        seed=3,
    )
    for number in range(4):
        job.step(number)
    return mg.operators.concatenate(job.objective.batches)


def test_training_uses_an_image_at_levels_above_its_noise_only():
    """The levels are EDM's law, also below the noise of nearly all images."""
    store = MixedStore(
        [Pictures(60, 0.5, dtype=torch.complex64), Pictures(2, 0.0, 100.0, dtype=torch.complex64)]
    )
    batch = shown(store, tweedie(store))
    assert bool((batch.levels > batch.sigma).all())
    clean = batch.y[:, 0, 0, 0].real >= 100
    below = batch.levels < 0.5
    assert bool((batch.sigma == torch.where(clean, 0.0, 0.5)).all())
    assert bool(clean[below].all())
    assert 0.3 < float(below.float().mean()) < 0.9
    assert float(clean[~below].float().mean()) < 0.2


def test_images_of_another_kind_get_noise_up_to_the_level_where_they_are_usable():
    stores = [Pictures(4, 0.0, dtype=torch.complex64), Pictures(60, 0.3, 100.0, dtype=torch.complex64)]
    store = MixedStore(stores, [0.0, 0.5])
    assert store.noise_levels([0, 5]).tolist() == [0, 0.5]
    batch = shown(store, tweedie(store))
    other = batch.y[:, 0, 0, 0].real > 50
    torch.testing.assert_close(batch.sigma, torch.where(other, 0.5, 0.0))
    assert bool((batch.levels > batch.sigma).all())
    added = batch.y[other].imag  # √(0.5² − 0.3²)
    assert float(added.square().mean().sqrt()) == pytest.approx(0.4, rel=0.05)
    untouched = batch.y[~other]
    assert torch.equal(untouched, untouched.real.round() + 0j)


def test_slices_that_were_measured_whole_are_shown_as_little_as_the_others():
    store = MixedStore([slices(6, 2, 0), slices(3, 1, 1)])
    corruption = store.corruption()
    A = store.measurements(list(range(9))).operator
    further = corruption.corrupt_further(A, torch.Generator().manual_seed(0))
    assert A.mask.flatten(1).sum(1).tolist() == [4] * 6 + [8] * 3
    assert further.mask.flatten(1).sum(1).tolist() == [3] * 9
    assert not bool((further.mask & ~A.mask).any())
    assert len({tuple(row) for row in further.mask[6:].flatten(1).tolist()}) > 1


def test_mixed_slices_train_and_distil_by_the_first_stores_law():
    stores = [slices(6, 2, 0), slices(3, 1, 1)]
    network = {"name": "mlp", "hidden": 8}
    teacher = mg.train(stores, images=8, batch=4, network=network, device="cpu")
    assert teacher.description.corruption == stores[0].described()
    student = mg.distill(teacher, stores, images=4, batch=4, device="cpu")
    assert bool(student.sample(2).isfinite().all())


@pytest.mark.parametrize(
    ("stores", "levels", "message"),
    [
        ([], None, "no store"),
        ([Pictures(1, 0.1)], [0.1, 0.2], "is not one noise level for each store"),
        ([Pictures(1, 0.1)], [-0.1], "is not one noise level for each store"),
        ([Pictures(1, 0.1), slices(2, 2, 0)], None, "its complex_valued is True"),
        ([Pictures(1, 0.1), Pictures(1, 0.1, operator="gaussian-blur")], None, "prepare them alike"),
    ],
)
def test_stores_that_do_not_mix(stores, levels, message):
    with pytest.raises(UsageError, match=message):
        MixedStore(stores, levels)
