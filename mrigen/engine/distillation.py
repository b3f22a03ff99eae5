"""Distillation of a teacher into a generator of one or a few steps under the teacher's corruption."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mrigen import seeds
from mrigen.data.stores import Store
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.augment import LABELS, Augmentation
from mrigen.engine.averages import EMASelection, OnMeasured
from mrigen.engine.guard import NonFiniteGuard
from mrigen.engine.loop import Job
from mrigen.engine.micro_batches import MicroBatch, MicroBatchPlan
from mrigen.engine.optimizers import Optimizer, fix_augmentation, real_components, set_dropout
from mrigen.engine.pairs import Pairs
from mrigen.engine.params import DistillParams, Start
from mrigen.engine.precision import AutocastModule, Compile, compile_network
from mrigen.engine.sampling import classes, random_labels
from mrigen.engine.sharding import is_sharded
from mrigen.engine.states import State
from mrigen.engine.teacher import sample_indices
from mrigen.errors import UsageError
from mrigen.losses import DistillLoss, Generator
from mrigen.losses.generator import latent
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import Measurements
from mrigen.tensors import to_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

if TYPE_CHECKING:
    from mrigen.networks import Preconditioner

SelectionMetric = Callable[[Generator], float]
"""Distance of a generator's corrupted samples from the corrupted training data, less is better."""

NewNetwork = Callable[[int], NetworkDenoiser]
"""A denoiser of the teacher's architecture with weights that depend on a seed alone."""


class DistillJob(Job):
    """Two-time-scale score distillation (RSD algorithm 6, DCD algorithm 1).

    The fake score and the generator start as copies of the teacher, unless ``init`` and ``fake_init`` say
    otherwise. Every step trains the fake score ``fake_steps`` times on corrupted generated images with
    the teacher's own objective, then the generator once. Dropout acts in the network that is being
    trained and in no other (as in SiD's code): of independent noise in f_φ and f_ψ the loss would see
    the variance, and the generator would go where dropout varies most.

    A generator of several steps is trained by matching all of them alike: a micro-batch stops after a
    random one, and the gradient flows through that step alone (uniform-step matching of few-step SiD,
    Zhou et al. 2025). For ``first_step_share`` of the images it is always the first, so that the later ones
    start from what it has learnt.

    With ``loss.denoising_weight`` the generator's network stays a denoiser: as a teacher it is a prior for
    every solver.

    Args:
        params: the recipe's distill section.
        teacher: the teacher's denoiser.
        loss: distillation loss, made with the teacher's objective.
        corruption: the teacher's corruption; no measurement is needed.
        image_shape: (C, H, W).
        fabric: device, precision and processes.
        seed: key of all randomness.
        score: selection metric, or None to keep the last generator.
        fresh: where random starts come from; only needed for them.
        keep: told of every averaged generator that was measured.
        store: measurements of the adversarial term; only needed for it.
        compiled: compile the networks.

    Raises:
        UsageError: fewer micro-batches than processes, ``augment`` of a network without labels for it, or
            ``fake_loss: further`` for an objective that hides nothing, several processes of a loss without a
            score, or several steps of networks that are spread over processes.
    """

    def __init__(
        self,
        params: DistillParams,
        teacher: NetworkDenoiser,
        loss: DistillLoss,
        corruption: Corruption,
        image_shape: tuple[int, int, int],
        fabric: Fabric,
        seed: int,
        score: SelectionMetric | None = None,
        fresh: NewNetwork | None = None,
        keep: OnMeasured | None = None,
        store: Store | None = None,
        *,
        compiled: Compile = False,
    ) -> None:
        self.params = params
        self.guard = NonFiniteGuard(fabric.device)
        self.shares = MicroBatchPlan("distill", params, fabric)
        self.distill = params
        self.loss, self.corruption, self.image_shape = loss, corruption, image_shape
        self.fabric, self.seed, self.store = fabric, seed, store
        _require_possible(loss, store, fabric)
        self.conventions = teacher.conventions
        self.classes = classes(teacher)
        self.augmentation = self._augmentation(teacher)
        network = teacher.network.to(fabric.device).eval().requires_grad_(True)
        start = self._start("generator", network, fresh)
        self.averages = EMASelection(
            start,
            params.halflives,
            params.selection,
            None if score is None else lambda module: score(self._generator(module)),
            keep,
        )
        fake = self._start("fake", network, fresh) if loss.uses_fake else None
        if compiled:
            for each in (start, fake, network):
                if each is not None:
                    compile_network(each, fabric.device, graphs=compiled == "graphs")
        self.fake: Optimizer | None = None
        if fake is not None:
            components = real_components(image_shape, self.conventions)
            self.fake = Optimizer(fake, params.fake, params.images, fabric, self.guard, components=components)
        self.student = Optimizer(start, params.generator, params.images, fabric, self.guard)
        if params.steps > 1 and is_sharded(self.student.module):
            raise UsageError(
                "distill.steps: processes stop after steps of their own, for which networks that are spread "
                "over them cannot wait; leave out --strategy fsdp, or distil one step"
            )
        frozen = AutocastModule(network.requires_grad_(False), fabric)
        self.teacher = NetworkDenoiser(frozen, self.conventions).eval()
        for optimizer in (self.fake, self.student):
            if optimizer is not None:
                optimizer.module.eval()
        self.generator = self._generator(self.student.module)
        self.pairs: Pairs | None = None
        if loss.regression is not None:
            size = params.micro_batch_size
            self.pairs = Pairs(
                loss.regression.params, self.teacher, loss.objective, corruption, image_shape, seed, size
            )

    def _start(self, name: str, teacher: nn.Module, fresh: NewNetwork | None) -> nn.Module:
        start: Start = self.distill.fake_init if name == "fake" else self.distill.init
        network = copy.deepcopy(teacher)
        if start == "random":
            if fresh is None:
                raise ValueError("a random start needs fresh")
            network = fresh(seeds.key(self.seed, name, "init")).network.to(self.fabric.device)
        if self.distill.dropout is not None:
            set_dropout(network, self.distill.dropout)
        if name != "fake" or self.augmentation is None:
            fix_augmentation(network)
        return network.eval()

    def _augmentation(self, teacher: NetworkDenoiser) -> Augmentation | None:
        """What transforms the fake score's images.

        Raises:
            UsageError: the network is not told by labels, or the objective hides nothing.
        """
        objective = self.loss.objective
        if self.distill.fake_loss == "further" and not objective.conditions_on_mask:
            raise UsageError("distill.fake_loss: this teacher sees its whole input; leave it out")
        if not self.distill.augment:
            return None
        if cast("Preconditioner", teacher.network).network.params.augment_dim != LABELS:
            raise UsageError(
                "distill.augment: the teacher's network has no augmentation labels; leave it out, or train "
                f"the teacher with teacher.augment or teacher.network.augment_dim={LABELS}"
            )
        return Augmentation(self.distill.augment)

    def _generator(self, network: nn.Module) -> Generator:
        denoiser = NetworkDenoiser(network, self.conventions)
        return Generator(denoiser, self.distill.sigma_init, self.distill.later_sigmas)

    @property
    def _first_step_images(self) -> float:
        """How many images the first step has for itself."""
        return self.distill.first_step_share * self.params.images

    def step(self, number: int) -> dict[str, float | Tensor]:
        """Train the fake score, then the generator, and average its weights."""
        images = self.images + self.params.batch
        logs: dict[str, float | Tensor] = {}
        if self.fake is not None:
            logs["fake"] = self._train_fake(self.fake, number, images)
        self.student.module.train()
        losses = [(share, self._student(number, share)) for share in self.shares]
        logs["generator"] = self.student.step(losses, images)
        self.student.module.eval()
        self.averages.update(self.student.module, images, self.params.batch, self.guard)
        self.guard.finish_step()
        return logs

    def prepare(self) -> None:
        """The teacher's images of the pairs."""
        if self.pairs is not None:
            self.pairs.prepare()

    @property
    def measuring(self) -> bool:
        """Whether the selection metric is due; never while later steps have learnt nothing."""
        learning = self.images == 0 or self.images > self._first_step_images
        return learning and self.averages.due(self.images, self.params.batch)

    @property
    def measuring_end(self) -> bool:
        """Whether the last weights have not been measured, because ``every_images`` does not hit them."""
        return self.averages.missing(self.images)

    def measure(self) -> dict[str, float]:
        """The selection metric, which may end the run."""
        value = self.averages.measure(self.images)
        self.done = bool(self.averages.over)
        return {"selection": value}

    def _train_fake(self, fake: Optimizer, number: int, images: int) -> Tensor:
        """``fake_steps`` updates of the fake score; the mean loss of the last one."""
        fake.module.requires_grad_(True).train()
        for repeat in range(self.distill.fake_steps):
            losses = [(share, self._fake(fake, number, repeat, share)) for share in self.shares]
            mean = fake.step(losses, images)
        fake.module.requires_grad_(False).eval()
        return mean

    def _fake(self, fake: Optimizer, number: int, repeat: int, share: MicroBatch) -> Tensor:
        place = (number, repeat, share.index)
        rng = seeds.seeded_rng(self.seed, "fake", *place)
        with (
            self.shares.accumulate_grad(share, fake.module),
            seeds.dropout_seed(self.seed, "fake-dropout", *place),
        ):
            with torch.no_grad():
                x_g, labels = self._generate(rng)
            score = NetworkDenoiser(fake.module, self.conventions)
            loss = self.loss.fake_score_loss(
                score,
                x_g,
                self.corruption,
                rng,
                labels,
                by=self.distill.fake_loss,
                augmentation=self.augmentation,
            ).mean()
            if self.loss.adversary is not None:
                data = self._measured(number, repeat, share)
                entropy = self.loss.adversary.fake_loss(score, data, x_g, rng, labels).mean()
                loss = loss + self.loss.adversary.params.fake_weight * entropy
            self.fabric.backward(self.distill.fake_loss_scale * share.weight * loss)
        return loss.detach()

    def _student(self, number: int, share: MicroBatch) -> Tensor:
        place = (number, share.index)
        rng = seeds.seeded_rng(self.seed, "generator", *place)
        through = () if self.fake is None else (self.fake.module,)
        with (
            self.shares.accumulate_grad(share, self.student.module, *through),
            seeds.dropout_seed(self.seed, "generator-dropout", *place),
        ):
            x_g, labels = self._generate(rng)
            fake = self.teacher
            if self.fake is not None:
                fake = NetworkDenoiser(self.fake.module, self.conventions)
            loss = self.loss.generator_loss(self.teacher, fake, x_g, self.corruption, rng, labels).mean()
            if self.pairs is not None:
                loss = loss + self._regress(self.pairs, rng)
            if self.loss.adversary is not None:
                data = self._measured(number, 0, share)
                loss = loss + self.loss.adversary.generator_loss(fake, data, x_g, rng, labels).mean()
            if self.loss.params.denoising_weight:
                own = self.generator.denoiser
                denoising = self.loss.denoising_loss(self.teacher, own, x_g, self.corruption, rng, labels)
                loss = loss + self.loss.params.denoising_weight * denoising.mean()
            self.fabric.backward(self.distill.loss_scale * share.weight * loss)
        return loss.detach()

    def _measured(self, number: int, repeat: int, share: MicroBatch) -> Measurements:
        """Measurements of a micro-batch, another one at every update of the fake score."""
        assert self.store is not None
        size = self.params.micro_batch_size
        first = (number * self.distill.fake_steps + repeat) * self.params.batch + share.index * size
        indices = sample_indices(len(self.store), seeds.key(self.seed, "adversary"), first, size)
        return self.store.packed(indices).to(device=self.fabric.device).unpack()

    def _regress(self, pairs: Pairs, rng: torch.Generator) -> Tensor:
        """Mean of the regression term over as many pairs as a micro-batch has images."""
        size = self.params.micro_batch_size
        pair = pairs.draw(size, rng, self.fabric.device)
        seen = pair.further if self.distill.generator_input == "sampled" else None
        image = self.generator(pair.z, self.loss.objective, seen, pair.labels)
        assert self.loss.regression is not None
        return self.loss.regression(image, pair.target, pair.further, rng).mean()

    def _generate(self, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Generated images of a random step and their class labels, each class as often as the others."""
        size, device = self.params.micro_batch_size, self.fabric.device
        steps = self.distill.steps if self.images >= self._first_step_images else 1
        last = int(torch.randint(steps, (), generator=rng)) if steps > 1 else 0
        latents = [latent(size, self.image_shape, self.conventions, rng, device) for _ in range(last + 1)]
        drawn = random_labels(self.classes, size, rng)
        labels = None if drawn is None else to_device(drawn, device)
        objective, further = None, None
        if self.distill.generator_input == "sampled":
            objective = self.loss.objective
            operator: Operator = self.corruption.draw(size, rng)
            further = objective.corrupt_further(operator, self.corruption, rng).to_device(device)
        image = None
        if last:
            with torch.no_grad():
                image = self.generator.run_steps(latents[0], objective, further, labels, latents[1:-1])
        return self.generator.step(image, latents[-1], last, objective, further, labels), labels

    def state(self) -> State:
        """The trained networks with their moments, the averages and the metric's history."""
        return {
            "fake": None if self.fake is None else self.fake.state(),
            "student": self.student.state(),
            "averages": self.averages.state(),
        }

    def load(self, state: State) -> None:
        """Continue from a saved state."""
        if self.fake is not None:
            self.fake.load(state["fake"])
        self.student.load(state["student"])
        self.averages.load(state["averages"])
        self.done = bool(self.averages.over)

    @property
    def result(self) -> nn.Module:
        """The best averaged network by the selection metric, or the last one without it."""
        return self.averages.result


def _require_possible(loss: DistillLoss, store: Store | None, fabric: Fabric) -> None:
    """Refuse an adversary without measurements, and a discriminator alone in several processes.

    Raises:
        UsageError: says what to change.
    """
    if loss.adversary is not None and store is None:
        raise UsageError("distill.loss.adversary compares with measurements: give a store, or leave it out")
    if not loss.uses_score and fabric.world_size > 1:
        raise UsageError(
            "distill.loss: a discriminator leaves half of its network idle, which several processes cannot "
            "average; start one process"
        )
