"""Distillation: exact continuation of every variant, selection, averages, starts, several steps."""

import math

import pytest
import torch
from tiny_jobs import StopAfter, distill_job, fabric, tiny_denoiser, weights
from torch import nn

from mrigen import seeds
from mrigen.denoiser import NetworkDenoiser
from mrigen.engine.averages import EMA, EMASelection
from mrigen.engine.loop import fit
from mrigen.engine.params import DistillParams, SelectionParams
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.errors import UsageError
from mrigen.losses import Generator

SELECT = {"every_images": 8, "samples": 4}
REGRESSION = {"pairs": 3, "sampler": {"name": "heun", "steps": 2}}
VARIANTS = {
    "two time scales": {"fake_steps": 2, "fake": {"lr": 2e-3, "betas": [0.0, 0.999]}},
    "two steps": {"steps": 2, "generator_input": "sampled", "first_step_share": 0.5},
    "dmd with regression": {"loss": {"name": "dmd", "regression": REGRESSION}},
    "sds": {"loss": {"name": "sds"}},
    "random starts": {"init": "random", "fake_init": "random"},
    "several averages": {"ema_halflife": [5, 50], "selection": SELECT},
    "adversary": {"loss": {"name": "sid", "adversary": {"weight": 0.1}}, "fake_steps": 2},
    "denoising too": {"loss": {"name": "sid", "denoising_weight": 1.0}},
    "fake score as released": {"fake_loss": "further", "dropout": 0.05},
}


def norm(generator):
    """A metric without randomness."""
    return float(sum(p.square().sum() for p in generator.parameters()))


def flat(module):
    return torch.cat([p.flatten() for p in module.parameters()])


def prepared(name, images=16):
    return distill_job(norm, images=images, **VARIANTS[name])


@pytest.mark.parametrize("name", VARIANTS)
def test_continued_run_is_bit_identical(tmp_path, name):
    whole, broken, continued = prepared(name), prepared(name), prepared(name)
    fit(whole, tmp_path / "whole", fabric(), "whole")
    StopAfter(broken, 3)
    with pytest.raises(MemoryError):
        fit(broken, tmp_path / "parts", fabric(), "parts")
    fit(continued, tmp_path / "parts", fabric(), "parts")
    assert torch.equal(weights(whole), weights(continued))
    assert torch.equal(flat(whole.averages.last), flat(continued.averages.last))
    assert whole.averages.history == continued.averages.history


def test_a_generator_that_denoises_too_stays_near_its_teacher_at_other_levels(tmp_path):
    """Their estimates of noisy generated images, with the term and without it."""
    distances = []
    for weight in (0.0, 10.0):
        job = distill_job(loss={"name": "sid", "denoising_weight": weight}, images=64)
        fit(job, tmp_path / str(weight), fabric(), "run")
        rng = seeds.seeded_rng(0, "images")
        x_g = job.generator(torch.randn(64, 1, 8, 8, dtype=torch.complex64, generator=rng)).detach()
        generator = NetworkDenoiser(job.result, job.conventions)
        distances.append(job.loss.denoising_loss(job.teacher, generator, x_g, job.corruption, rng).mean())
    assert 0 < distances[1] < 0.5 * distances[0]


def test_a_state_that_kept_an_average_of_the_fake_score_is_continued():
    job, other = distill_job(), distill_job()
    job.step(0)
    average = job.fake.module.state_dict()
    other.load({**job.state(), "fake_average": average, "chosen_fake": average})
    assert torch.equal(weights(other), weights(job))


def test_several_steps_of_networks_that_are_spread_over_processes_are_refused(monkeypatch):
    monkeypatch.setattr("mrigen.engine.distillation.is_sharded", lambda _: True)
    distill_job()
    with pytest.raises(UsageError, match="leave out --strategy fsdp, or distil one step"):
        distill_job(steps=2)


def test_every_variant_trains_another_generator(tmp_path):
    found = {"plain": distill_job(images=8)}
    found |= {name: prepared(name, 8) for name in VARIANTS if name != "several averages"}
    for number, job in enumerate(found.values()):
        fit(job, tmp_path / str(number), fabric(), "run")
    results = torch.stack([weights(job) for job in found.values()])
    assert torch.pdist(results).min() > 1e-4
    assert results.isfinite().all()


def test_the_fake_score_is_trained_so_many_times_per_step():
    job = distill_job(fake_steps=3)
    job.step(0)
    assert {int(state["step"]) for state in job.fake.adam.state.values()} == {3}
    assert {int(state["step"]) for state in job.student.adam.state.values()} == {1}


def first_step(**params):
    """Gradients, logged losses and movement of the first step of both networks."""
    job = distill_job(**params)
    start = flat(tiny_denoiser().network)
    found = {}
    for name, optimizer in (("fake", job.fake), ("generator", job.student)):

        def step(losses, images, name=name, optimizer=optimizer, real=optimizer.step):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in optimizer.module.parameters()]
            gradient = torch.cat([g.flatten() for g in grads])
            mean = real(losses, images)
            found[name] = gradient, mean, flat(optimizer.module).detach() - start
            return mean

        optimizer.step = step
    job.step(0)
    return found


@pytest.mark.parametrize(("name", "setting"), [("fake", "fake_loss_scale"), ("generator", "loss_scale")])
def test_loss_scale_multiplies_gradients_and_leaves_adams_first_step(name, setting):
    """The step is lr g / (|g| + eps): a scale is seen by gradients alone that are small beside eps."""
    (g, loss, moved), (scaled, same, other) = (first_step(**{setting: c})[name] for c in (1, 100))
    torch.testing.assert_close(scaled, 100 * g, rtol=1e-4, atol=1e-4 * float(scaled.abs().max()))
    torch.testing.assert_close(same, loss)
    large = g.abs() > 1e-2 * g.abs().max()
    assert large.sum() > 50
    torch.testing.assert_close(other[large], moved[large], rtol=1e-3, atol=1e-6)
    assert moved[large].abs().min() > 0.99e-3


def test_sds_has_no_fake_score():
    job = distill_job(loss={"name": "sds"})
    assert job.fake is None
    assert set(job.step(0)) == {"generator"}


def test_starts_are_the_teacher_or_random_by_the_seed():
    teacher = weights_of(tiny_denoiser().network)
    job = distill_job(init="random")
    assert torch.equal(weights_of(job.fake.module), teacher)
    assert not torch.equal(weights_of(job.student.module), teacher)
    assert torch.equal(weights(job), weights_of(job.student.module))
    again, other = distill_job(init="random"), distill_job(fake_init="random")
    assert torch.equal(weights(job), weights(again))
    assert not torch.equal(weights_of(other.fake.module), teacher)
    assert not torch.equal(weights_of(other.fake.module), weights_of(job.student.module))


def weights_of(module):
    return flat(module).detach()


def test_teacher_is_frozen():
    job = distill_job(loss={"name": "dmd", "regression": REGRESSION})
    before = [p.clone() for p in job.teacher.parameters()]
    job.step(0)
    for old, new in zip(before, job.teacher.parameters(), strict=True):
        assert torch.equal(old, new)


def test_dropout_acts_in_the_network_that_is_trained_alone():
    """Three steps of the fake score, then one of the generator; (teacher, fake score, generator)."""
    job, modes = distill_job(fake_steps=3), []
    networks = {"teacher": job.teacher.network, "fake": job.fake.module, "generator": job.student.module}
    for name, network in networks.items():
        network.register_forward_pre_hook(lambda _m, _a, name=name: modes.append((name, training())))

    def training():
        return [name for name, network in networks.items() if network.training]

    job.step(0)
    told = [("generator", ["fake"]), ("fake", ["fake"])] * 3
    told += [(name, ["generator"]) for name in ("generator", "teacher", "fake")]
    assert modes == told
    assert training() == []


def test_equal_scores_have_no_loss_whatever_the_dropout():
    """f_φ = f_ψ gives SiD loss 0 and no gradient; with independent dropout in both it would not."""
    job = distill_job(dropout=0.5)
    draws, fakes = torch.Generator().manual_seed(0), job.fake.module.parameters()
    for mine, theirs in zip(job.teacher.parameters(), fakes, strict=True):
        mine.data.copy_(0.2 * torch.randn(mine.shape, generator=draws))
        theirs.data.copy_(mine)
    fake = NetworkDenoiser(job.fake.module, job.conventions)
    x_g = torch.randn(4, 1, 8, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    x_g.requires_grad_()

    def loss():
        draws = torch.Generator().manual_seed(2)
        return job.loss.generator_loss(job.teacher, fake, x_g, job.corruption, draws)

    assert loss().abs().max() == 0
    (gradient,) = torch.autograd.grad(loss().sum(), x_g)
    assert gradient.abs().max() == 0
    job.fake.module.train()
    assert loss().abs().max() > 1e-3


def test_dropout_of_the_students_can_be_another():
    """The rate of generator and fake score; the teacher keeps its own."""
    job = distill_job(dropout=0.05)
    fresh = distill_job(init="random", dropout=0.05).student.module
    networks = (job.teacher, job.fake.module, job.student.module, job.result, fresh)
    rates = [{m.dropout for m in n.modules() if hasattr(m, "dropout")} - {0.0} for n in networks]
    assert rates == [{0.2}, {0.05}, {0.05}, {0.05}, {0.05}]


def test_augmentation_needs_a_network_that_is_told():
    with pytest.raises(UsageError, match=r"teacher.network.augment_dim=9"):
        distill_job(augment=0.1)


def test_augmented_images_train_the_fake_score_alone():
    """Its label layer learns, the generator's does not; other images give other weights."""
    jobs = [distill_job(augment=p, augment_dim=9) for p in (0.0, 1.0)]
    for job in jobs:
        job.step(0)
    layers = [
        next(m.map_augment.weight for m in module.modules() if getattr(m, "map_augment", None) is not None)
        for module in (jobs[1].teacher, jobs[1].fake.module, jobs[1].student.module)
    ]
    assert not torch.equal(layers[1], layers[0])
    assert torch.equal(layers[2], layers[0])
    assert not torch.equal(flat(jobs[0].fake.module), flat(jobs[1].fake.module))


def test_selection_keeps_the_best_and_stops_when_patience_is_over(tmp_path):
    """Scores 4 before the first step, then 3, 1, 2, 2: the second generator is kept, and two measurements
    later the run ends."""
    scores, seen = iter([4.0, 3.0, 1.0, 2.0, 2.0, 0.0]), []

    def score(generator):
        seen.append(weights_of(generator).clone())
        return next(scores)

    job = distill_job(score, images=400, selection={**SELECT, "patience": 2})
    fit(job, tmp_path, fabric(), "run")
    assert job.images == 32
    assert torch.equal(weights(job), seen[2])
    assert torch.equal(flat(job.averages.last), seen[4])
    assert job.averages.start == 4
    assert [value for _, value in job.averages.history] == [3.0, 1.0, 2.0, 2.0]
    again = distill_job(score, images=400, selection={**SELECT, "patience": 2})
    fit(again, tmp_path, fabric(), "run")
    assert again.images == 32
    assert torch.equal(weights(again), seen[2])
    assert again.averages.start == 4


class Numbers(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))


def test_averages_of_several_halflives_from_one_run():
    """Each average is the one of a run of its own; the metric's choice is kept with its half-life."""
    module, values = Numbers(0), [4.0, 1.0, 7.0, 2.0]
    halflives, alone = (2.0, 30.0), [EMA(Numbers(0), h) for h in (2.0, 30.0)]
    chosen = EMASelection(
        module, halflives, SelectionParams(every_images=100), lambda m: abs(m.value.item() - 3)
    )
    trace = []
    for number, value in enumerate(values, start=10):
        module.value.data.fill_(value)
        chosen.update(module, 100 * number, 100)
        assert chosen.due(100 * number, 100)
        chosen.measure(100 * number)
        assert not chosen.due(100 * number, 100)
        for average in alone:
            average.update(module, 100 * number, 100)
        trace.append([average.module.value.item() for average in alone])
        assert [a.module.value.item() for a in chosen.averages] == trace[-1]
    errors = torch.tensor(trace).sub(3).abs()
    row, column = divmod(int(errors.argmin()), 2)
    assert chosen.result.value.item() == trace[row][column]
    assert chosen.chosen == (halflives[column], 100.0 * (10 + row))
    assert chosen.last.value.item() == trace[-1][column]
    described = chosen.described()
    assert described["measured"][row][f"{halflives[column]:g}"] == pytest.approx(float(errors.min()))
    assert described["images"] == 100 * (10 + row)


def test_several_averages_gather_the_weights_once(monkeypatch):
    """Under FSDP that is an exchange of the whole network."""
    module, asked = Numbers(1), []

    def gather(of):
        asked.append(of)
        return list(of.parameters())

    monkeypatch.setattr("mrigen.engine.averages.whole_parameters", gather)
    EMASelection(Numbers(0), (2.0, 30.0, 100.0), SelectionParams(), None).update(module, 100, 100)
    assert asked == [module]


@pytest.mark.parametrize(
    ("values", "limit", "words"),
    [
        ([9, 1.0, 3.1, 3.2], 3, "diverged, the selection metric was 3.2 at last, 1 at its best and 9 before"),
        (
            [1, 3.1, 4.0],
            3,
            "diverged, the selection metric was 4 at last, 3.1 at its best and 1 before the first",
        ),
        ([9, 1.0, 3.1, 2.9, 3.1], 3, ""),
        ([9, 1.0, 3.1], 3, ""),
        ([9, 1.0, 3.1, 3.2], None, ""),
        ([9, 1.0, 3.1, 3.2], 4, ""),
        ([1, 3.1], 3, ""),
        ([9, 1.0, math.inf], None, "diverged, the selection metric is no number any more"),
    ],
)
def test_divergence_ends_a_run_and_says_so(values, limit, words):
    """Two measurements in a row that are more than so many times the best, the start's included."""
    scores, params = iter(values), SelectionParams(every_images=1, diverged=limit)
    averages, module = EMASelection(Numbers(0), (1.0,), params, lambda _: next(scores)), Numbers(0)
    for images in range(len(values)):
        assert averages.over == ""
        assert averages.due(images, 1)
        module.value.data.fill_(images)
        averages.update(module, images, 1)
        averages.measure(images)
    assert averages.over.startswith(words) if words else averages.over == ""
    best = min(range(1, len(values)), key=values.__getitem__)
    assert averages.chosen == (1.0, best)
    assert averages.result.value.item() == pytest.approx(best, rel=1e-4)
    again = EMASelection(Numbers(0), (1.0,), params, lambda _: 0.0)
    again.load(averages.state())
    assert again.over == averages.over


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_metric_that_is_no_number_ends_the_run(broken):
    values = iter([2.0, broken])
    averages = EMASelection(Numbers(0), (1.0,), SelectionParams(every_images=1), lambda _: next(values))
    averages.measure(1)
    assert not averages.over
    averages.measure(2)
    assert averages.over
    assert averages.chosen == (1.0, 1.0)


def test_weights_that_are_no_numbers_are_not_measured():
    averages = EMASelection(Numbers(0), (1.0,), SelectionParams(every_images=1), norm)
    averages.update(Numbers(math.nan), 1, 1)
    averages.measure(1)
    assert averages.over


def test_steps_descend_on_the_grid_of_edm():
    """σ_k = (σ₁^(1/7) + (k−1)/K (0.002^(1/7) − σ₁^(1/7)))^7."""
    params = DistillParams(images=1, steps=4, sigma_init=2.5)
    roots = torch.tensor([2.5, *params.later_sigmas], dtype=torch.float64) ** (1 / 7)
    low = 0.002 ** (1 / 7)
    torch.testing.assert_close(roots - low, (roots[0] - low) * torch.tensor([4, 3, 2, 1]).double() / 4)
    assert DistillParams(images=1).later_sigmas == ()


def test_a_generator_renoises_and_denoises(generator):
    """With D(x, σ) = x / (1 + σ) two steps are (σ₁ z₁ / (1 + σ₁) + σ₂ z₂) / (1 + σ₂)."""

    def shrink(x, sigma, A_tilde=None, labels=None):
        return x / (1 + sigma.view(-1, 1, 1, 1))

    first, second = torch.randn(2, 3, 1, 2, 2, generator=generator)
    module = Generator(tiny_denoiser(), 2.0, (0.5,))
    module.denoiser.forward = shrink
    torch.testing.assert_close(module.run_steps(first), 2 * first / 3)
    torch.testing.assert_close(module(first, later=[second]), (2 * first / 3 + 0.5 * second) / 1.5)
    for later in ([], [second, second]):
        with pytest.raises(ValueError, match="2 steps needs as many latents"):
            module(first, later=later)


def test_gradients_flow_through_the_matched_step_alone():
    """Every step is matched in turn, the steps before it without a graph."""
    job, grown, reached = distill_job(steps=3), [], set()
    real = job.generator.step

    def watch(image, z, number, *more):
        if image is not None:
            grown.append(image.requires_grad)
        out = real(image, z, number, *more)
        if out.requires_grad:
            reached.add(number)
        return out

    job.generator.step = watch
    for number in range(12):
        job.step(number)
    assert reached == {0, 1, 2}
    assert grown
    assert not any(grown)


def test_the_first_step_learns_alone_until_it_has_its_images(tmp_path):
    """Later steps are called after its share of the images, and no generator is chosen before that."""
    runs = [{"steps": 3}, {"steps": 3, "first_step_share": 0.75}, {"steps": 1}]
    jobs = [distill_job(norm, images=32, selection=SELECT, **params) for params in runs]
    used = []
    for job in jobs:
        steps, real = [], job.generator.step
        job.generator.step = lambda image, z, number, *more, real=real, steps=steps: (
            steps.append(number) or real(image, z, number, *more)
        )
        fit(job, tmp_path / str(len(used)), fabric(), "run")
        used.append(steps)
    every, later, first = used
    calls = 2 * 24 // jobs[0].params.batch  # of the fake score and of the generator
    assert max(every[:calls]) > 0
    assert set(later[:calls]) == {0}
    assert max(later[calls:]) > 0
    assert set(first) == {0}
    measured = [[row[0] for row in job.averages.history] for job in jobs]
    assert measured == [[8, 16, 24, 32], [32], [8, 16, 24, 32]]


def test_few_step_images_depend_on_their_seed_alone():
    student = Generator(tiny_denoiser(), 2.5, (0.4, 0.1))
    nn.init.normal_(next(reversed(list(student.parameters()))), std=0.2)
    samplers = [StudentSampler(student, (1, 8, 8), batch) for batch in (1, 3)]
    alone, together = (torch.cat(list(sampler([5, 1, 9]))) for sampler in samplers)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    assert samplers[0].evaluations == 3
    one = torch.cat(list(StudentSampler(Generator(tiny_denoiser(), 2.5), (1, 8, 8))([5, 1, 9])))
    assert not torch.allclose(one, together, atol=1e-3)


def test_pairs_are_latents_with_the_teacher_s_images():
    job = distill_job(loss={"name": "dmd", "regression": REGRESSION})
    pair = job.pairs.draw(8, torch.Generator().manual_seed(0), torch.device("cpu"))
    numbers = [seeds.key(7, "pair", n) for n in range(3)]
    sampler = TeacherSampler(job.teacher, job.loss.objective, job.corruption, heun(2), (1, 8, 8), batch=2)
    images = torch.cat(list(sampler(numbers)))
    latents = seeds.seeded_noise(numbers, (1, 8, 8), complex_valued=True)
    for z, target in zip(pair.z, pair.target, strict=True):
        number = next(n for n in range(3) if torch.equal(latents[n], z))
        torch.testing.assert_close(target, images[number], atol=1e-4, rtol=1e-4)


def heun(steps):
    from mrigen.diffusion.samplers import SAMPLERS

    return SAMPLERS.build({"name": "heun", "steps": steps})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ema_halflife": [5, 5]}, "one half-life twice"),
        ({"ema_halflife": [5, 6]}, "need selection.every_images"),
        ({"ema_halflife": []}, "ema_halflife"),
        ({"selection": {"patience": 3}}, "patience needs selection.every_images"),
        ({"steps": 2, "loss": {"name": "dmd", "regression": {}}}, "set steps: 1"),
        ({"first_step_share": 0.5}, "is for several steps"),
        ({"loss": {"name": "sds"}, "fake_steps": 2}, "sds has no fake score"),
        ({"loss": {"name": "sds"}, "fake_init": "random"}, "sds has no fake score"),
        ({"loss": {"name": "sds"}, "fake_loss_scale": 2}, "leave out fake_loss_scale"),
        ({"loss_scale": 0}, "loss_scale"),
        ({"loss": {"name": "sds", "adversary": {}}}, "leave out loss.adversary"),
        ({"loss": {"name": "sds"}, "augment": 0.1}, "leave out augment"),
        ({"loss": {"name": "sds"}, "fake_loss": "further"}, "leave out fake_loss"),
        ({"generator": {"decay_from": 0.5}}, "decay_from without decay"),
        ({"generator": {"decay": "inverse-sqrt"}}, "needs decay_from"),
        ({"selection": {"diverged": 1}}, "diverged"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        DistillParams(images=8, batch=4, **params)
