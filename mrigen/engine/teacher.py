"""Training of a corruption-aware teacher on measurements."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mrigen import seeds
from mrigen.data.stores import Store
from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import Objective
from mrigen.engine.ema import EMA
from mrigen.engine.labels import classes
from mrigen.engine.loop import Job
from mrigen.engine.optimizers import Optimizer, fix_augmentation
from mrigen.engine.params import TeacherParams
from mrigen.engine.shares import Share, Shares
from mrigen.engine.states import State
from mrigen.errors import UsageError
from mrigen.operators.base import Measurements


def sample_indices(count: int, seed: int, first: int, batch: int) -> list[int]:
    """Indices of training images ``first`` ... ``first + batch - 1`` of an endless shuffled stream.

    Every epoch is a new permutation keyed by (seed, epoch): the position alone tells the index.
    """
    indices = []
    for position in range(first, first + batch):
        epoch, offset = divmod(position, count)
        indices.append((epoch, offset))
    orders = {
        epoch: torch.randperm(count, generator=seeds.generator(seed, "order", epoch))
        for epoch in {e for e, _ in indices}
    }
    return [int(orders[epoch][offset]) for epoch, offset in indices]


class TeacherJob(Job):
    """Minimise an objective over the images of a store.

    Args:
        params: the recipe's teacher section.
        network: preconditioned network to train.
        wrap: makes a denoiser of images from the network.
        objective: objective with the data's corruption.
        store: training data.
        fabric: device, precision and processes.
        seed: key of all randomness.

    Raises:
        UsageError: fixed further masks for an objective that hides nothing, or fewer micro-batches than
            processes.
    """

    def __init__(
        self,
        params: TeacherParams,
        denoiser: NetworkDenoiser,
        objective: Objective,
        store: Store,
        fabric: Fabric,
        seed: int,
    ) -> None:
        if params.fixed_further and not objective.shows_mask:
            raise UsageError(f"objective {params.objective['name']} hides nothing: leave out fixed_further")
        self.params = params
        self.shares = Shares("teacher", params, fabric)
        self.teacher = params
        self.fabric, self.store, self.objective, self.seed = fabric, store, objective, seed
        self.augmentation = Augmentation(params.augment) if params.augment else None
        self.classes = classes(denoiser)
        network = denoiser.network.to(fabric.device).train()
        if self.augmentation is None:
            fix_augmentation(network)
        self.ema = EMA(network, params.ema_halflife)
        self.optimizer = Optimizer(network, params.optimizer, params.images, fabric)
        self.denoiser = NetworkDenoiser(self.optimizer.module, denoiser.conventions)

    def step(self, number: int) -> dict[str, float]:
        """One step: the loss of every micro-batch of this process, then the update."""
        losses = [(share, self._micro(number, share)) for share in self.shares]
        loss = self.optimizer.step(losses, self.images + self.params.batch)
        self.ema.update(self.optimizer.module, self.images + self.params.batch, self.params.batch)
        return {"loss": loss}

    def _micro(self, number: int, share: Share) -> Tensor:
        index = share.index
        size = self.params.batch // self.params.micro_batches
        first = number * self.params.batch + index * size
        indices = sample_indices(len(self.store), self.seed, first, size)
        batch = self._batch(indices, seeds.generator(self.seed, "augment", number, index))
        generator = seeds.generator(self.seed, "teacher", number, index)
        with self.shares.collect(share, self.optimizer.module):
            with seeds.dropout_seed(self.seed, "teacher-dropout", number, index):
                loss = self.objective(self.denoiser, batch, generator).mean()
            self.fabric.backward(share.weight * loss)
        return loss.detach()

    def _batch(self, indices: list[int], generator: torch.Generator) -> Measurements:
        """Measurements on the device, augmented if the recipe says so.

        Raises:
            UsageError: the network wants class labels that the data do not have.
        """
        batch = self.store.measurements(indices, fixed_further=self.teacher.fixed_further)
        have = 0 if batch.labels is None else batch.labels.shape[1]
        if self.classes not in {0, have}:
            raise UsageError(
                f"network.label_dim is {self.classes}, but the data have {have} classes: set it to {have}"
            )
        batch = batch.to(device=self.fabric.device)
        if self.augmentation is None:
            return batch
        return self.objective.augment(batch, self.augmentation, generator)

    def state(self) -> State:
        """Network, moments and average."""
        return {"optimizer": self.optimizer.state(), "ema": self.ema.module.state_dict()}

    def load(self, state: State) -> None:
        """Continue from a saved state."""
        self.optimizer.load(state["optimizer"])
        self.ema.module.load_state_dict(state["ema"])

    @property
    def result(self) -> nn.Module:
        """The averaged network."""
        return self.ema.module
