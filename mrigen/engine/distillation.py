"""Distillation of a teacher into a one-step generator under the teacher's corruption."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mrigen import seeds
from mrigen.diffusion.denoiser import NetworkDenoiser
from mrigen.distill import DistillLoss, Generator
from mrigen.distill.base import latent
from mrigen.engine.ema import EMA
from mrigen.engine.labels import classes, random_labels
from mrigen.engine.loop import Job
from mrigen.engine.optimizers import Optimizer
from mrigen.engine.params import DistillParams
from mrigen.engine.states import State
from mrigen.operators.corruption import Corruption

Score = Callable[[Generator], float]
"""Distance of a generator's corrupted samples from the corrupted training data, less is better."""


class DistillJob(Job):
    """Two-time-scale score distillation (RSD algorithm 6, DCD algorithm 1).

    The fake score and the generator start as copies of the teacher. Every step trains the fake score
    ``fake_steps`` times on corrupted generated images with the teacher's own objective, then the
    generator once. The teacher stays in training mode: its dropout is part of the method.

    Args:
        params: the recipe's distill section.
        teacher: the teacher's denoiser.
        loss: distillation loss, made with the teacher's objective.
        corruption: the teacher's corruption; no measurement is needed.
        image_shape: (C, H, W).
        fabric: device, precision and processes.
        seed: key of all randomness.
        score: selection metric, or None to keep the last generator.
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
        score: Score | None = None,
    ) -> None:
        self.params = params
        self.distill = params
        self.loss, self.corruption, self.image_shape = loss, corruption, image_shape
        self.fabric, self.seed, self.score = fabric, seed, score
        conventions = teacher.conventions
        self.classes = classes(teacher)
        network = teacher.network.to(fabric.device).train()
        self.fake = Optimizer(copy.deepcopy(network), params.fake, params.images, fabric)
        self.student = Optimizer(copy.deepcopy(network), params.generator, params.images, fabric)
        self.teacher = NetworkDenoiser(network.requires_grad_(False), conventions)
        self.fake_score = NetworkDenoiser(self.fake.module, conventions)
        self.generator = Generator(NetworkDenoiser(self.student.module, conventions), params.sigma_init)
        self.ema = EMA(network, params.ema_halflife)
        self.best = EMA(network, params.ema_halflife)
        self.history: list[list[float]] = []

    def step(self, number: int) -> dict[str, float]:
        """Train the fake score, then the generator; measure the selection metric when it is due."""
        micro = range(self.fabric.global_rank, self.params.micro_batches, self.fabric.world_size)
        images = self.images + self.params.batch
        self.fake.module.requires_grad_(True)
        for repeat in range(self.distill.fake_steps):
            fake = [self._fake(number, repeat, index, len(micro)) for index in micro]
            self.fake.step(fake, images)
        self.fake.module.requires_grad_(False)
        student = [self._student(number, index, len(micro)) for index in micro]
        self.student.step(student, images)
        self.ema.update(self.student.module, images, self.params.batch)
        logs = {"fake": float(torch.stack(fake).mean()), "generator": float(torch.stack(student).mean())}
        if self.score is not None and self._due(images):
            logs["selection"] = self._select(images)
        return logs

    def _fake(self, number: int, repeat: int, index: int, share: int) -> Tensor:
        generator = seeds.generator(self.seed, "fake", number, repeat, index)
        with seeds.dropout_seed(self.seed, "fake-dropout", number, repeat, index):
            with torch.no_grad():
                x_g, labels = self._generate(generator)
            loss = self.loss.fake_score(self.fake_score, x_g, self.corruption, generator, labels).mean()
            self.fabric.backward(loss / share)
        return loss.detach()

    def _student(self, number: int, index: int, share: int) -> Tensor:
        generator = seeds.generator(self.seed, "generator", number, index)
        with seeds.dropout_seed(self.seed, "generator-dropout", number, index):
            x_g, labels = self._generate(generator)
            losses = self.loss.generator(
                self.teacher, self.fake_score, x_g, self.corruption, generator, labels
            )
            loss = losses.mean()
            self.fabric.backward(loss / share)
        return loss.detach()

    def _generate(self, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Generated images and their class labels, each class as often as the others."""
        size, device = self.params.batch // self.params.micro_batches, self.fabric.device
        z = latent(size, self.image_shape, self.teacher.conventions, generator).to(device)
        drawn = random_labels(self.classes, size, generator)
        labels = None if drawn is None else drawn.to(device)
        if self.distill.generator_input == "full":
            return self.generator(z, labels=labels), labels
        operator = self.corruption.draw(size, generator).to(device=device)
        further = self.loss.objective.further(operator, self.corruption, generator)
        return self.generator(z, self.loss.objective, further, labels), labels

    def _due(self, images: int) -> bool:
        every = self.distill.selection.every_images
        return every is not None and images // every > (images - self.params.batch) // every

    def _select(self, images: int) -> float:
        """Measure the averaged generator; keep it if it is the best; stop when patience is over."""
        averaged = Generator(
            NetworkDenoiser(self.ema.module, self.teacher.conventions), self.distill.sigma_init
        )
        value = self.score(averaged)  # type: ignore[misc]
        if all(value < earlier for _, earlier in self.history):
            self.best.module.load_state_dict(self.ema.module.state_dict())
        self.history.append([float(images), value])
        patience = self.distill.selection.patience
        values = [v for _, v in self.history]
        if patience is not None and len(values) - 1 - values.index(min(values)) >= patience:
            self.done = True
        return value

    def state(self) -> State:
        """Both trained networks with their moments, the averages and the metric's history."""
        return {
            "fake": self.fake.state(),
            "student": self.student.state(),
            "ema": self.ema.module.state_dict(),
            "best": self.best.module.state_dict(),
            "history": self.history,
        }

    def load(self, state: State) -> None:
        """Continue from a saved state."""
        self.fake.load(state["fake"])
        self.student.load(state["student"])
        self.ema.module.load_state_dict(state["ema"])
        self.best.module.load_state_dict(state["best"])
        self.history = state["history"]

    @property
    def result(self) -> nn.Module:
        """The best averaged network by the selection metric, or the last one without it."""
        return self.best.module if self.history else self.ema.module
