"""What a recipe can say about training and distillation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from mrigen.diffusion.augment import LABELS
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.inverse import SOLVERS
from mrigen.losses import LOSSES
from mrigen.losses.base import FakeLoss
from mrigen.losses.generator import later_levels
from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.networks.precond import EDM
from mrigen.registry import Params, Registry

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1 << 40)]
Start = Literal["teacher", "random"]
Probability = Annotated[float, Field(ge=0, lt=1)]


def _spec(registry: Registry[Any]) -> Any:
    """A mapping ``{name: ..., parameters...}``, checked against the registry."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        registry.params(value)
        return value

    return Annotated[dict[str, Any], AfterValidator(check)]


def _network(value: dict[str, Any]) -> dict[str, Any]:
    """Resolution and channels are the data's; the rest is checked with stand-ins."""
    NETWORKS.params({"resolution": 32, "in_channels": 4, "out_channels": 2, **value})
    return value


def _solver(value: dict[str, Any]) -> dict[str, Any]:
    SOLVERS.params(value)
    return value


SolverSpec = Annotated[dict[str, Any], AfterValidator(_solver)]


class OptimizerParams(Params):
    """Adam.

    Attributes:
        lr: learning rate.
        betas: decay of the running moments.
        eps: added to the root of the second moment.
        ramp_images: images over which the learning rate rises linearly from 0.
        decay: fall of the learning rate after ``decay_from``: ``none``; ``linear`` or ``cosine``, to 0 at
            the end of the run; or ``inverse-sqrt``, as 1 / √images (Karras et al. 2024, EDM2).
        decay_from: part of the run before the fall, 0 ... 1.
        max_grad_norm: gradients are scaled down to this norm; None for no clipping.
        grad_norm_of: the loss whose gradient that norm is of, a mean over images in either case: ``sum``
            adds the squared errors of an image's real components, as EDM, SiD and their successors do;
            ``mean`` averages them, so that the same number clips C H W (complex: 2 C H W) times later.
            Losses of generators are sums always, and only the norm depends on this: Adam's step does
            not see a factor.
    """

    lr: Positive = 1e-3
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    eps: Positive = 1e-8
    ramp_images: Annotated[int, Field(ge=0)] = 0
    decay: Literal["none", "linear", "cosine", "inverse-sqrt"] = "none"
    decay_from: Probability = 0.0
    max_grad_norm: Positive | None = None
    grad_norm_of: Literal["sum", "mean"] = "sum"

    @model_validator(mode="after")
    def _falling(self) -> OptimizerParams:
        if self.decay == "none" and self.decay_from:
            raise ValueError("decay_from without decay; choose linear, cosine or inverse-sqrt")
        if self.decay == "inverse-sqrt" and not self.decay_from:
            raise ValueError("decay inverse-sqrt needs decay_from, for example 0.1")
        return self

    def rate(self, images: int, total: int) -> float:
        """Learning rate of the step that brings a run of ``total`` images to ``images``."""
        rate = self.lr
        if self.ramp_images:
            rate *= min(1.0, images / self.ramp_images)
        part = images / total
        if self.decay == "none" or part <= self.decay_from:
            return rate
        if self.decay == "inverse-sqrt":
            return rate * math.sqrt(self.decay_from / part)
        left = max(0.0, (1 - part) / (1 - self.decay_from))
        return rate * (left if self.decay == "linear" else (1 - math.cos(math.pi * left)) / 2)


class RunParams(Params):
    """What teacher training and distillation share.

    Attributes:
        images: length of the run in training images.
        batch: images per optimiser step, over all processes.
        micro_batch: images per forward pass; None for the whole batch. Randomness belongs to
            micro-batches, so that results do not depend on the number of processes.
        snapshot_images: images between two saved states.
        keep: number of saved states to keep.
    """

    images: Count
    batch: Count = 64
    micro_batch: Count | None = None
    snapshot_images: Count = 500_000
    keep: Count = 2

    @model_validator(mode="after")
    def _whole(self) -> RunParams:
        if self.batch % self.micro_batch_size:
            raise ValueError("micro_batch must divide batch")
        return self

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches in a step."""
        return self.batch // self.micro_batch_size

    @property
    def micro_batch_size(self) -> int:
        """Images of a micro-batch."""
        return self.micro_batch or self.batch


class TeacherParams(RunParams):
    """Training of the corruption-aware teacher.

    Attributes:
        network: architecture, without resolution and channels, which the data say.
        preconditioning: from network to denoiser.
        objective: training objective.
        optimizer: of the network.
        ema_halflife: half-life of the weight average, in images, at most 5 % of those so far (EDM).
        fixed_further: use the further masks stored with the data instead of new ones at every step.
        augment: probability of each of EDM's geometric transforms (of mirrors alone where masks are
            shown), which the network is told by labels; 0 for no augmentation.
        most_repeats: of images that differ in noise, how many times as often as at even shares one may be
            used at noise levels at which few others are; such levels are drawn less often. None for no limit.
        init: model folder, of a teacher of one's own or an imported one, whose weights the training starts
            from; its network and preconditioning are kept. None for random weights.
        restore: solver that restores the measurements first (``mrigen list solvers``); the training is on
            those images, as if measured whole, with objective ``standard``. A solver with a prior
            takes the model of ``init``. ``l1-wavelet`` makes L1-EDM; None to train on the measurements.
    """

    network: Annotated[dict[str, Any], AfterValidator(_network)] = {"name": "song-unet"}
    preconditioning: _spec(PRECONDITIONERS) = {"name": "edm"}  # type: ignore[valid-type]
    objective: _spec(OBJECTIVES) = {"name": "ambient"}  # type: ignore[valid-type]
    optimizer: OptimizerParams = OptimizerParams(max_grad_norm=1.0)
    ema_halflife: Positive = 500_000.0
    fixed_further: bool = False
    augment: Annotated[float, Field(ge=0, le=1)] = 0.0
    most_repeats: Positive | None = 10.0
    init: Path | None = None
    restore: SolverSpec | None = None

    @model_validator(mode="after")
    def _restorable(self) -> TeacherParams:
        if self.restore is None:
            return self
        solver, needs = self.restore["name"], SOLVERS[self.restore["name"]].needs
        if self.objective["name"] not in ("standard", "reconstructed"):
            raise ValueError(
                "restore makes images that count as measured whole and without noise: set objective: "
                "{name: standard} or {name: reconstructed}"
            )
        if needs and "teacher" not in needs:
            raise ValueError(f"restore: {solver} needs a generator; choose a solver that takes a teacher")
        if needs and self.init is None:
            raise ValueError(f"restore: {solver} needs a model; set init to the folder of one")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> TeacherParams:
        if self.augment and self.network.get("augment_dim", LABELS) != LABELS:
            raise ValueError(f"network.augment_dim must be {LABELS} for augment; leave it out")
        name, form = self.preconditioning["name"], OBJECTIVES.params(self.objective)
        if getattr(form, "pseudo_inverse", None) and not issubclass(PRECONDITIONERS[name], EDM):
            raise ValueError(
                f"preconditioning {name} has no form for what masks hide: use edm, or set "
                "objective.pseudo_inverse: null"
            )
        return self


class SelectionParams(Params):
    """Choice of the best generator without clean data.

    Attributes:
        every_images: images between two measurements, and the end of the run is measured too; None for none,
            and the last generator is taken.
        samples: generated images per measurement.
        patience: stop after so many measurements without a new best.
        diverged: stop when two measurements in a row are more than this many times the best one, which may
            be that of the untrained generator, or one is no number. None to stop at the latter alone.
        keep: put every generator that was measured into a model folder of its own.
    """

    every_images: Count | None = None
    samples: Count = 1000
    patience: Count | None = None
    diverged: Annotated[float, Field(gt=1)] | None = 3.0
    keep: bool = False


class DistillParams(RunParams):
    """Distillation of a teacher into a one-step generator.

    Attributes:
        loss: distillation loss.
        generator: optimiser of the generator.
        fake: optimiser of the fake score, for losses that have one.
        fake_steps: steps of the fake score per step of the generator.
        init: where the generator starts, the ``teacher``'s weights or ``random`` ones.
        fake_init: the same for the fake score.
        dropout: dropout of generator and fake score, each while it is trained itself; None for the teacher's
            own. The teacher's is off.
        augment: probability of each of EDM's geometric transforms of the generated images that train the
            fake score, which is told by labels (SiD's code); 0 for none.
        fake_loss: the fake score's loss on generated images: ``measurement``, the teacher's own, with what
            A measures as the target; or ``further``, with what the further mask shows alone as the target
            (the released code for masks).
        ema_halflife: half-life of the weight average, in images, at most 5 % of those so far (EDM); a list is
            averaged in one run, and the selection metric chooses.
        sigma_init: noise level at which the generator's network is called.
        steps: network evaluations per image; 1 for a one-step generator.
        first_step_share: share of the images during which a generator of several steps learns its first step
            alone; after that all alike.
        generator_input: ``full`` shows the generator its whole latent and needs no maps to sample;
            ``sampled`` masks it as the teacher's input is masked (the released MRI code).
        corruption: what to change of the teacher's corruption on purpose, in the words of its model
            folder: ``{sigma: 0.25}``, ``{mask: {acceleration: 6}}`` (DCD, fig. 6).
        loss_scale: the generator's gradients are those of its loss times this (``lsg`` of SiD's code, 100
            there). Adam's steps do not change, as long as gradients are large beside its ``eps``; they do
            where ``max_grad_norm`` clips, and 16-bit gradients of a small loss do not vanish.
        fake_loss_scale: the same for the fake score (``ls`` of SiD's code, 1 there).
        selection: choice of the best generator on the way.
    """

    loss: _spec(LOSSES) = {"name": "sid"}  # type: ignore[valid-type]
    generator: OptimizerParams = OptimizerParams(lr=1e-5, betas=(0.0, 0.999))
    fake: OptimizerParams = OptimizerParams(lr=1e-5, betas=(0.0, 0.999))
    fake_steps: Count = 1
    init: Start = "teacher"
    fake_init: Start = "teacher"
    dropout: Probability | None = None
    augment: Annotated[float, Field(ge=0, le=1)] = 0.0
    fake_loss: FakeLoss = "measurement"
    ema_halflife: Positive | Annotated[list[Positive], Field(min_length=1)] = 500_000.0
    sigma_init: Positive = 2.5
    steps: Count = 1
    first_step_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    generator_input: Literal["full", "sampled"] = "full"
    corruption: dict[str, Any] = {}
    loss_scale: Positive = 1.0
    fake_loss_scale: Positive = 1.0
    selection: SelectionParams = SelectionParams()

    @property
    def halflives(self) -> tuple[float, ...]:
        """All half-lives of the weight average."""
        return tuple(self.ema_halflife) if isinstance(self.ema_halflife, list) else (self.ema_halflife,)

    @property
    def later_sigmas(self) -> tuple[float, ...]:
        """Noise levels of the steps after the first."""
        return later_levels(self.sigma_init, self.steps)

    @model_validator(mode="after")
    def _fitting(self) -> DistillParams:
        if len(set(self.halflives)) < len(self.halflives):
            raise ValueError("ema_halflife says one half-life twice; leave one out")
        if len(self.halflives) > 1 and self.selection.every_images is None:
            raise ValueError("several ema_halflife need selection.every_images to choose from them")
        if self.selection.patience is not None and self.selection.every_images is None:
            raise ValueError("selection.patience needs selection.every_images")
        if self.selection.keep and self.selection.every_images is None:
            raise ValueError("selection.keep needs selection.every_images")
        if self.first_step_share and self.steps == 1:
            raise ValueError("first_step_share is for several steps; set steps, or leave it out")
        if self.steps > 1 and self.loss.get("regression") is not None:
            raise ValueError("loss.regression pairs latents with images of one step; set steps: 1")
        of_fake = ("fake_steps", "fake_init", "fake_loss_scale", "augment", "fake_loss")
        changed = [k for k in of_fake if getattr(self, k) != DistillParams.model_fields[k].default]
        changed += ["loss.adversary"] if self.loss.get("adversary") is not None else []
        if changed and not LOSSES[self.loss["name"]].uses_fake:
            raise ValueError(f"loss {self.loss['name']} has no fake score: leave out {' and '.join(changed)}")
        of_score = [name for name in ("augment", "fake_loss") if name in changed]
        if of_score and not LOSSES[self.loss["name"]].uses_score:
            raise ValueError(
                f"loss {self.loss['name']} has no fake score, only a discriminator: leave out "
                f"{' and '.join(of_score)}"
            )
        return self


SamplerChoice = _spec(SAMPLERS)


class SamplerSpec(Params):
    """How a teacher is sampled for evaluation."""

    sampler: SamplerChoice = {"name": "heun", "steps": 18}  # type: ignore[valid-type]
