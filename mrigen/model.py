"""A model: a teacher or a generator with everything that is known of it, opened once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.folder import load_network, save_model
from mrigen.checkpoints.snapshots import find_model
from mrigen.checkpoints.weights import state_digest
from mrigen.data.image_store import described_corruption
from mrigen.data.stores import Store, as_store, scan_corruption
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import OBJECTIVES, Objective
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.engine.params import SamplerSpec
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.errors import UsageError
from mrigen.inverse import GeneratorPrior, Prior, TeacherPrior
from mrigen.inverse.prior import FurtherMasks, frozen
from mrigen.inverse.tiling import size_text, tiled
from mrigen.losses import Generator
from mrigen.networks import NETWORKS, PRECONDITIONERS, Preconditioner
from mrigen.networks.blocks import activation_checkpointing
from mrigen.operators import MultiCoilMRI
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import noise_levels
from mrigen.tensors import ArrayLike, tensor_of

Shape = tuple[int, int, int]
Role = Literal["teacher", "generator"]
LARGE = 128 * 128  # pixels from which on gradients keep little and compute the rest again


class Model:
    """A teacher, E[x₀ | x₀ + σ ε], or a generator of one step or a few, with its description.

    Args:
        description: architecture, meaning of the channels, training corruption, provenance.
        denoiser: its network as a denoiser of images.
        folder: where it was read from or written to; None for a model that is in memory only.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=3)
        >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask)
        >>> model = mg.train(store, images=2, batch=2, network={"name": "mlp", "hidden": 8}, device="cpu")
        >>> model.role, model.image_shape, model.complex_valued
        ('teacher', (1, 12, 9), True)
        >>> model.sample(2, seed=5, sampler={"name": "heun", "steps": 2}, store=store).shape
        torch.Size([2, 1, 12, 9])
    """

    def __init__(
        self, description: ModelDescription, denoiser: NetworkDenoiser, folder: Path | None = None
    ) -> None:
        self.description, self.denoiser, self.folder = description, denoiser, folder

    @classmethod
    def load(
        cls, folder: str | Path, device: torch.device | str = "cpu", *, role: Role | None = None
    ) -> Self:
        """The model of a folder, in evaluation mode and with frozen weights.

        On the CPU the weights are views of the mapped file and are read when they are first used.

        Args:
            folder: what ``save``, ``mrigen train``, ``distill`` or ``import-checkpoint`` wrote; of a run or
                one of its stages the newest model, see ``find_model``.
            device: where it works.
            role: refuse models of the other one.

        Raises:
            UsageError: not a model folder, a damaged one, or one of another role.

        Examples:
            >>> import tempfile
            >>> import mrigen as mg
            >>> A = mg.operators.MultiCoilMRI.example()
            >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=3)
            >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask)
            >>> teacher = mg.train(store, images=2, batch=2, network="mlp", device="cpu")
            >>> folder = tempfile.mkdtemp()
            >>> teacher.save(folder).role
            'teacher'
            >>> mg.load(folder).denoise(A.zero_image(), 0.5).shape
            torch.Size([2, 1, 12, 9])
        """
        folder = find_model(folder)
        network, description = load_network(folder, device)
        denoiser = NetworkDenoiser(network.requires_grad_(requires_grad=False), description.conventions)
        model = cls(description, denoiser.eval(), folder)
        return model if role is None else model.require(role)

    @classmethod
    def random_init(cls, description: ModelDescription, seed: int = 0) -> Self:
        """A model with random weights that depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = NETWORKS.build(description.network)
            model: Preconditioner = PRECONDITIONERS.build(description.preconditioner, network=network)
        model = model.to(memory_format=torch.channels_last)
        return cls(description, NetworkDenoiser(model, description.conventions))

    def save(self, folder: str | Path) -> Self:
        """Write the model folder, ``model.safetensors`` and ``model.json``; returns the model of that folder.

        Each file is complete or absent; other files in the folder stay.
        """
        description = save_model(Path(folder), self.denoiser.network, self.description)
        return type(self)(description, self.denoiser, Path(folder))

    def variant(self, module: nn.Module | None = None, /, **changes: Any) -> Self:
        """The same model with another network of its architecture, or with changes of its description."""
        if module is not None:
            changes = {**changes, "weights_sha256": ""}
        description = self.description.model_copy(update=changes)
        denoiser = self.denoiser if module is None else NetworkDenoiser(module, description.conventions)
        return type(self)(description, denoiser, self.folder if module is None else None)

    def copy(self) -> Self:
        """The same model with weights of its own."""
        return type(self)(self.description, copy.deepcopy(self.denoiser), self.folder)

    def to(self, device: torch.device | str) -> Self:
        """This model, moved to a device."""
        self.denoiser.to(device)
        return self

    def __repr__(self) -> str:
        count = sum(weight.numel() for weight in self.denoiser.parameters())
        return (
            f"Model({self.role} of {self.description.conventions.image} images of "
            f"{size_text(self.image_shape)}, {self.description.network['name']} with {count:,} parameters, "
            f"{self.name})"
        )

    @property
    def name(self) -> str:
        """Its folder, for messages."""
        return "model in memory" if self.folder is None else str(self.folder)

    @property
    def title(self) -> str:
        """Its folder and, of a snapshot, how far its run was."""
        reached = self.description.provenance.get("snapshot")
        if not isinstance(reached, dict):
            return self.name
        return f"{self.name} (snapshot after {reached.get('images')} of {reached.get('of')} images)"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its weights file, or, of a model that was never saved, of its weights."""
        if self.description.weights_sha256:
            return self.description.weights_sha256
        return state_digest(self.denoiser.network)

    @property
    def role(self) -> Role:
        """``teacher`` or ``generator``."""
        return self.description.role

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of an image; one channel for complex MRI."""
        return self.description.image_shape

    @property
    def complex_valued(self) -> bool:
        """Whether its images are complex."""
        return self.description.conventions.image == "complex"

    @property
    def conditions_on_mask(self) -> bool:
        """Whether its denoiser is given Ã."""
        objective = self.description.objective
        if objective is None:
            return self.description.conventions.mask_channels > 0
        return bool(OBJECTIVES[objective["name"]].conditions_on_mask)

    @property
    def generator(self) -> Generator:
        """The network as a generator.

        Raises:
            UsageError: it is a teacher's.
        """
        self.require("generator")
        description = self.description
        assert description.sigma_init is not None
        return Generator(self.denoiser, description.sigma_init, description.later_sigmas).eval()

    def after(self, steps: int) -> Self:
        """This generator of several steps, ended after the first of them, for which it was trained too.

        Raises:
            UsageError: a teacher, or a generator of fewer steps.
        """
        if not 1 <= steps <= (own := len(self.generator.sigmas)):
            raise UsageError(f"{self.name}: {steps} steps of a generator that has {own}; ask for 1 to {own}")
        return self.variant(later_sigmas=self.description.later_sigmas[: steps - 1])

    def require(self, role: Role) -> Self:
        """This model, if it has the role.

        Raises:
            UsageError: it has the other one.
        """
        if self.role != role:
            raise UsageError(f"{self.name}: is a {self.role}; give the folder of a {role}")
        return self

    def denoise(
        self,
        x: ArrayLike,
        sigma: ArrayLike | float,
        A_tilde: LinearOperator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """E[x₀ | x₀ + σ ε], or E[x₀ | Ñ(x₀ + σ ε), Ã] with Ñ = Ãᴴ Ã, (B, C, H, W), of a teacher.

        Args:
            x: noisy images x₀ + σ ε, (B, C, H, W), real or complex as the model's are, to which gradients
                flow; ε has unit variance in every real component.
            sigma: noise levels, a number or (B,).
            A_tilde: Ã, through which the network sees them; None where everything is seen.
            labels: class labels (B, classes), of a conditional model.

        Raises:
            UsageError: a generator, images of another kind, or Ã for a teacher that is not shown masks.
        """
        self.require("teacher")
        x = tensor_of(x)
        if x.ndim != 4 or x.is_complex() != self.complex_valued:
            kind = "complex" if self.complex_valued else "real"
            have = f"{str(x.dtype)[6:]} {tuple(x.shape)}"
            raise UsageError(f"{self.name}: denoises {kind} images (B, C, H, W), not {have}")
        if A_tilde is not None:
            if not self.conditions_on_mask:
                raise UsageError(f"{self.name}: sees its whole input: leave A_tilde out")
            x = A_tilde.normal(x)
        level = noise_levels(sigma, x).to(device=x.device, dtype=torch.float32)
        return cast("Tensor", self.denoiser(x, level, A_tilde, labels))

    def corruption(self, store: Store | None = None) -> Corruption:
        """p(A) and the noise that the model was trained under.

        Args:
            store: where operators take what is measured with the data, such as coil maps; models of
                natural images do without.

        Raises:
            UsageError: the model is not for such data, or needs a store.
        """
        described = self.description.corruption
        whole = described is not None and isinstance(described.get("operator"), Mapping)
        if store is None:
            if self.complex_valued and not whole:
                raise UsageError(
                    f"{self.name}: sees its noise through coil maps: give --maps STORE (in Python, store=)"
                )
            return described_corruption(described, self.image_shape)
        if self.complex_valued != store.complex_valued:
            kind = "MRI" if self.complex_valued else "natural images"
            raise UsageError(f"{store.folder}: holds other data than {kind}, which {self.name} is for")
        if whole and self.complex_valued:
            return described_corruption(described, self.image_shape)
        return store.corruption(described=described)

    def objective(self, data: Store | Corruption | None = None) -> Objective:
        """The objective that the model's teacher was trained with.

        Weights of errors go with the form of the network, which models of others and of earlier versions say
        by leaving ``pseudo_inverse`` out of their conventions.

        Args:
            data: as ``corruption`` takes it, or a corruption.

        Raises:
            UsageError: the model does not say, or as ``corruption``.
        """
        if self.description.objective is None:
            raise UsageError(
                f"{self.name}: does not say with which objective it was trained; import it again"
            )
        spec = dict(self.description.objective)
        if self.conditions_on_mask:
            spec["pseudo_inverse"] = self.description.conventions.model_dump()["pseudo_inverse"]
        corruption = data if isinstance(data, Corruption) else self.corruption(data)
        return cast("Objective", OBJECTIVES.build(spec, corruption=corruption))

    def sampler(
        self,
        store: Store | str | Path | None = None,
        sampler: str | Mapping[str, Any] | None = None,
        batch: int = 64,
        label: int | None = None,
    ) -> TeacherSampler | StudentSampler:
        """What makes images from seeds.

        Args:
            store: measurement store with coil maps, or its folder, where the model needs them.
            sampler: of a teacher, a name or a recipe's mapping; by default 18 steps of ``heun``.
            batch: images per network call.
            label: class of all images; by default each seed has its own.

        Raises:
            UsageError: no such sampler or class, one for a generator, or a model that needs a store.
        """
        if self.role == "generator" and sampler is not None:
            raise UsageError(f"{self.name}: is a generator, which needs no sampler; leave it out")
        if self.description.generator_input == "full":
            return StudentSampler(self.generator, self.image_shape, batch, label=label)
        data = as_store(store)
        shape = self.image_shape if data is None else data.image_shape
        corruption = self.corruption(data)
        objective = self.objective(corruption)
        if self.role == "generator":
            return StudentSampler(self.generator, shape, batch, objective, corruption, label)
        spec = SamplerSpec().sampler if sampler is None else sampler
        reverse = SAMPLERS.build({"name": spec} if isinstance(spec, str) else spec)
        return TeacherSampler(self.denoiser, objective, corruption, reverse, shape, batch, label)

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        sampler: str | Mapping[str, Any] | None = None,
        store: Store | str | Path | None = None,
        batch: int = 64,
        label: int | None = None,
    ) -> Tensor:
        """Images (n, C, H, W) of the seeds ``seed``, ``seed + 1``, ..., those of ``mrigen sample --seeds``.

        An image depends on its seed alone. Other arguments as ``sampler``.

        Raises:
            UsageError: no image is asked for, or as ``sampler``.
        """
        if n < 1:
            raise UsageError(f"sample: n is {n}, and must be at least 1")
        run = self.sampler(store, sampler, batch, label)
        return torch.cat(list(run(list(range(seed, seed + n)))))

    def prior(
        self, shape: Shape | None = None, *, complex_valued: bool | None = None, differentiated: bool = False
    ) -> Prior:
        """The model as solvers use it, for images of a given size.

        Args:
            shape: (C, H, W) of the images to reconstruct; None for the model's own. A teacher of another size
                tiles them.
            complex_valued: whether they are complex; None for what the model's are.
            differentiated: whether gradients of a teacher are wanted; those of a generator always are.

        Raises:
            UsageError: a model of another kind or size of images.
        """
        shape = self.image_shape if shape is None else shape
        if complex_valued is not None and complex_valued != self.complex_valued:
            raise UsageError(
                f"{self.name}: a model of {self.description.conventions.image} images cannot be the prior of "
                f"{'complex' if complex_valued else 'real'} ones; give a model of such data"
            )
        _, height, width = self.image_shape
        uniform = MultiCoilMRI(torch.ones(1, height, width) + 0j, torch.ones(width))
        objective = self.objective(self._corruption_of(uniform))
        frozen(self.denoiser)
        if height * width >= LARGE and (differentiated or self.role == "generator"):
            activation_checkpointing(self.denoiser)
        if self.role == "generator":
            if shape != self.image_shape:
                raise UsageError(
                    f"{self.name}: makes images of {size_text(self.image_shape)}, but the scan's are "
                    f"{size_text(shape)}, and a generator has one size: train on this size, crop the scan "
                    "with --crop, or tile a teacher"
                )
            masks = FurtherMasks(objective, self._corruption_of)
            sampled = masks if self.description.generator_input == "sampled" else None
            generator = self.generator
            return GeneratorPrior(generator, sampled, len(generator.sigmas))
        behind_masks = self.conditions_on_mask
        denoiser = tiled(self.denoiser, self.image_shape, shape, self.name, behind_masks=behind_masks)
        return TeacherPrior(denoiser, objective, self._corruption_of)

    def _corruption_of(self, operator: Operator) -> Corruption:
        """p(A) of the training, with the coils of ``operator``."""
        return scan_corruption(self.description.corruption, operator, self.image_shape)


load = Model.load
