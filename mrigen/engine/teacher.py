"""A corruption-aware teacher: its description, and its training on measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mrigen import __version__, seeds
from mrigen.channels import ChannelLayout
from mrigen.checkpoints.description import ModelDescription
from mrigen.data.stores import Packed, Store
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.augment import LABELS, Augmentation
from mrigen.diffusion.objectives import OBJECTIVES, Objective
from mrigen.engine.averages import EMA
from mrigen.engine.guard import NonFiniteGuard
from mrigen.engine.loop import Job
from mrigen.engine.micro_batches import MicroBatch, MicroBatchPlan
from mrigen.engine.optimizers import Optimizer, fix_augmentation, real_components
from mrigen.engine.params import TeacherParams
from mrigen.engine.precision import Compile, compile_network
from mrigen.engine.sampling import classes
from mrigen.engine.states import State
from mrigen.errors import UsageError
from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.operators.measurements import Measurements
from mrigen.prefetch import Prefetcher
from mrigen.tensors import to_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Place = tuple[int, int]
"""A micro-batch: number of the step, index in it."""
TRIES = 100  # of a level that is drawn again
AHEAD = 2  # micro-batches that are read while one is computed


@dataclass(frozen=True, eq=False)
class Read:
    """A micro-batch as it is stored.

    Attributes:
        packed: measurements.
        rng: of everything that is drawn for it.
        levels: noise levels (B,) to learn at; None to draw them.
        missing: σ (B,) of noise that is to be added; None for none.
    """

    packed: Packed
    rng: torch.Generator
    levels: Tensor | None
    missing: Tensor | None


def describe_teacher(
    params: TeacherParams, store: Store, provenance: Mapping[str, Any] | None = None
) -> ModelDescription:
    """Description of the teacher that a recipe and a store make together."""
    conventions = conventions_of(store, params.objective)
    _, height, width = store.image_shape
    sides = {"resolution": height}
    if width != height and "width" in NETWORKS[params.network["name"]].Params.model_fields:
        sides["width"] = width
    network = {
        **sides,
        "in_channels": conventions.network_channels,
        "out_channels": conventions.image_channels,
        "label_dim": store.classes,
        "augment_dim": LABELS if params.augment else 0,
        **params.network,
    }
    return ModelDescription(
        network=NETWORKS.freeze(network),
        preconditioner=PRECONDITIONERS.freeze(params.preconditioning),
        conventions=conventions,
        image_shape=store.image_shape,
        objective=OBJECTIVES.pinned(params.objective),
        corruption=store.described(),
        provenance={"created_by": f"mrigen {__version__}", **(provenance or {})},
    )


def conventions_of(store: Store, objective: Mapping[str, Any]) -> ChannelLayout:
    """What a network sees of the images of a store.

    Args:
        store: complex images become two channels and, with the mask, a channel of ones as in the
            released Ambient-MRI models; real images keep their channels.
        objective: as a recipe writes it; says whether the denoiser is given Ã, and by which form.
    """
    conditions_on_mask, planes = OBJECTIVES[objective["name"]].conditions_on_mask, 0
    if conditions_on_mask:
        shown = store.corruption().draw(1, seeds.seeded_rng(0, "conventions")).conditioning()
        planes = 0 if shown is None else shown.shape[1]
    return ChannelLayout(
        image="complex" if store.complex_valued else "real",
        image_channels=store.image_shape[0] * (2 if store.complex_valued else 1),
        mask_channels=planes,
        ones_channel=store.complex_valued and conditions_on_mask,
        pseudo_inverse=getattr(OBJECTIVES.params(objective), "pseudo_inverse", None),
    )


def sample_indices(count: int, seed: int, first: int, batch: int) -> list[int]:
    """Indices of training images ``first`` ... ``first + batch - 1`` of an endless shuffled stream.

    Every epoch is a new permutation keyed by (seed, epoch): the position alone tells the index.
    """
    indices = []
    for position in range(first, first + batch):
        epoch, offset = divmod(position, count)
        indices.append((epoch, offset))
    return [int(_order(count, seed, epoch)[offset]) for epoch, offset in indices]


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=seeds.seeded_rng(seed, "order", epoch))


class UsableImages:
    """Images that teach something at a noise level, for stores of mixed quality.

    A noise level is drawn first, and then an image whose own noise is below it: images differ in how good
    they are, and each is used only where that does not matter (Ambient Diffusion Omni, Daras et al. 2025).
    Where few images are usable each is used often, and a network learns them by heart: such levels are drawn
    less often.

    Args:
        least: noise levels (n,) below which the images teach nothing.
        most_repeats: k of ``thin_out``; None for no limit.
    """

    def __init__(self, least: Tensor, most_repeats: float | None = None) -> None:
        self._least, self._most_repeats = least, most_repeats
        self._sorted, self._order = least.sort()

    def thin_out(self, levels: Tensor, draw: Callable[[], Tensor], rng: torch.Generator) -> Tensor:
        """The levels (B,), each kept with probability min(1, k s) and otherwise drawn again.

        s is the share of the images that are usable there; levels at which none is are kept.

        Args:
            levels: noise levels.
            draw: draws as many of the same law.
            rng: of the decisions.
        """
        kept = torch.full_like(levels, fill_value=False, dtype=torch.bool)
        most = float("inf") if self._most_repeats is None else self._most_repeats
        for _ in range(TRIES):
            share = torch.searchsorted(self._sorted, levels) / len(self._sorted)
            kept |= (torch.rand(len(levels), generator=rng) < most * share) | (share == 0)
            if bool(kept.all()):
                break
            levels = torch.where(kept, levels, draw())
        return levels

    def choose(self, indices: list[int], levels: Tensor, rng: torch.Generator) -> list[int]:
        """The images, each that its level (B,) is too low for replaced by a random one that it is not.

        Where there is none the image stays.
        """
        usable = torch.searchsorted(self._sorted, levels)
        drawn = (torch.rand(len(levels), generator=rng) * usable).long().clamp(max=len(self._order) - 1)
        wrong = (self._least[indices] >= levels) & (usable > 0)
        return torch.where(wrong, self._order[drawn], torch.tensor(indices)).tolist()


class TeacherJob(Job):
    """Minimise an objective over the images of a store.

    Of images with different noise each is used only at levels above its own, see ``UsableImages``.

    Args:
        params: the recipe's teacher section.
        network: preconditioned network to train.
        wrap: makes a denoiser of images from the network.
        objective: objective with the data's corruption.
        store: training data.
        fabric: device, precision and processes.
        seed: key of all randomness.
        compiled: compile the network.

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
        *,
        compiled: Compile = False,
    ) -> None:
        if params.fixed_further and not objective.conditions_on_mask:
            raise UsageError(f"objective {params.objective['name']} hides nothing: leave out fixed_further")
        self.params = params
        self.shares = MicroBatchPlan("teacher", params, fabric)
        self.teacher = params
        self.fabric, self.store, self.objective, self.seed = fabric, store, objective, seed
        self.augmentation = Augmentation(params.augment) if params.augment else None
        self.classes = classes(denoiser)
        network = denoiser.network.to(fabric.device).train()
        if self.augmentation is None:
            fix_augmentation(network)
        self.ema = EMA(network, params.ema_halflife)
        if compiled:
            compile_network(network, fabric.device, graphs=compiled == "graphs")
        self.guard = NonFiniteGuard(fabric.device)
        components = real_components(store.image_shape, denoiser.conventions)
        self.optimizer = Optimizer(
            network, params.optimizer, params.images, fabric, self.guard, components=components
        )
        self.denoiser = NetworkDenoiser(self.optimizer.module, denoiser.conventions)
        self._usable, self._noisy = None, bool(objective.least_levels(torch.ones(1)).any())
        if self._noisy:
            least = objective.least_levels(store.noise_levels(list(range(len(store)))))
            mixed = bool((least != least[0]).any())
            self._usable = UsableImages(least, params.most_repeats) if mixed else None
        self._ahead = Prefetcher(self._read)

    def step(self, number: int) -> dict[str, float | Tensor]:
        """One step: the loss of every micro-batch of this process, then the update."""
        losses = [(share, self._micro(number, share)) for share in self.shares]
        loss = self.optimizer.step(losses, self.images + self.params.batch)
        self.ema.update(self.optimizer.module, self.images + self.params.batch, self.params.batch, self.guard)
        self.guard.finish_step()
        return {"loss": loss}

    def _micro(self, number: int, share: MicroBatch) -> Tensor:
        index = share.index
        read = self._ahead.take((number, index), self._following(number, index))
        batch, generator = self._batch(read, seeds.seeded_rng(self.seed, "augment", number, index)), read.rng
        with self.shares.accumulate_grad(share, self.optimizer.module):
            with seeds.dropout_seed(self.seed, "teacher-dropout", number, index):
                loss = self.objective(self.denoiser, batch, generator).mean()
            self.fabric.backward(share.weight * loss)
        return loss.detach()

    def _following(self, number: int, index: int) -> Iterator[Place]:
        """The places of this process's next micro-batches, up to the end of the run."""
        places = (
            (step, share.index)
            for step in (number, number + 1)
            for share in self.shares
            if step * self.params.batch < self.params.images
        )
        later = dropwhile(lambda place: place != (number, index), places)
        return islice(later, 1, 1 + AHEAD)

    def _read(self, place: Place) -> Read:
        """What is stored of a micro-batch, in memory that the device can fetch it from, and its randomness.

        Ã is drawn here, because A's masks would have to be read back from the device.
        """
        number, index = place
        size = self.params.micro_batch_size
        first = number * self.params.batch + index * size
        indices = sample_indices(len(self.store), self.seed, first, size)
        levels: Tensor | None = None
        if self._usable is not None:
            of_levels = seeds.seeded_rng(self.seed, "levels", number, index)
            law, again = self.objective.params.noise, seeds.seeded_rng(self.seed, "rare", number, index)
            levels = law.draw(size, of_levels)
            levels = self._usable.thin_out(levels, lambda: law.draw(size, again), again)
            indices = self._usable.choose(indices, levels, of_levels)
        packed: Packed = self.store.packed(indices, fixed_further=self.teacher.fixed_further)
        rng = seeds.seeded_rng(self.seed, "teacher", number, index)
        if self.objective.conditions_on_mask:
            packed = packed.mask_further(
                lambda A: self.objective.corrupt_further(A, self.objective.corruption, rng)
            )
        missing = self._missing(packed, indices)
        if self.fabric.device.type == "cuda":
            packed = packed.pin_memory()
        return Read(packed, rng, levels, missing)

    def _missing(self, packed: Packed, indices: list[int]) -> Tensor | None:
        """σ of what lacks in measurements to be as noisy as their store says; None if nothing does."""
        if not self._noisy or packed.sigma is None:
            return None
        levels = self.store.noise_levels(indices)
        missing = (levels.square() - packed.sigma.square()).clamp(min=0).sqrt()
        return missing if bool(missing.any()) else None

    def _batch(self, read: Read, rng: torch.Generator) -> Measurements:
        """Measurements, put together on the device and augmented if the recipe says so.

        Raises:
            UsageError: the network wants class labels that the data do not have.
        """
        device = self.fabric.device
        batch = read.packed.to(device=device, non_blocking=True).unpack()
        if read.missing is not None:
            batch = batch.noisier(to_device(read.missing, device), read.rng)
        if read.levels is not None:
            batch = replace(batch, levels=to_device(read.levels, device))
        have = 0 if batch.labels is None else batch.labels.shape[1]
        if self.classes not in {0, have}:
            raise UsageError(
                f"network.label_dim is {self.classes}, but the data have {have} classes: set it to {have}"
            )
        if self.augmentation is None:
            return batch
        return self.objective.augment(batch, self.augmentation, rng)

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
