"""Models for other programs: released parameter names, TorchScript, ONNX."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mrigen.checkpoints.description import ModelDescription
from mrigen.checkpoints.folder import load_network
from mrigen.checkpoints.names import constants, correspondences
from mrigen.checkpoints.weights import weights_of, write_weights
from mrigen.errors import UsageError
from mrigen.files import atomic
from mrigen.networks import Preconditioner
from mrigen.networks.unet import UNet

TOLERANCE = 1e-4


class OneStep(nn.Module):
    """A generator as a plain function G(z) = D(σ_init z, σ_init) of standard normal z.

    Args:
        model: preconditioned network of a generator with ``full`` input.
        description: its description.
    """

    sigma: Tensor

    def __init__(self, model: Preconditioner, description: ModelDescription) -> None:
        super().__init__()
        self.model = model
        self.channels = description.conventions.image_channels
        self.extra = description.conventions.network_channels - self.channels
        self.register_buffer("sigma", torch.tensor([description.sigma_init], dtype=torch.float32))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, image channels, H, W) of z of that shape; complex ones as real and imaginary part."""
        seen = self.sigma * z
        if self.extra:
            ones = torch.ones_like(z[:, :1]).expand(-1, self.extra, -1, -1)
            seen = torch.cat([seen, ones], 1)
        out: Tensor = self.model(seen, self.sigma, labels)
        return out[:, : self.channels]


def export(folder: Path, kind: str, out: Path) -> float | None:
    """Write a model for another program.

    ``safetensors`` has the released parameter names (networks without a released counterpart keep
    theirs) and the description as metadata. ``torchscript`` and ``onnx`` are the generator as
    ``OneStep``, with inputs z and, for conditional ones, one-hot labels; any batch size.

    Returns:
        Largest difference between the file's output and the model's, None for safetensors.

    Raises:
        UsageError: not a model folder, a teacher or a generator with masked input or several steps
            where a plain function is wanted, or the packages for ONNX are not installed.
    """
    model, description = load_network(folder)
    if kind == "safetensors":
        metadata = {"mrigen": json.dumps(description.model_dump(mode="json"))}
        write_weights(out, released_weights(model), metadata)
        return None
    if description.role != "generator":
        raise UsageError(f"{folder} is a {description.role}: only one-step generators export to {kind}")
    if description.generator_input != "full":
        raise UsageError(
            f"{folder} is a generator that needs maps and masks as input: export it to safetensors"
        )
    if description.later_sigmas:
        raise UsageError(
            f"{folder} is a generator of {1 + len(description.later_sigmas)} steps, which draw noise between "
            "them: export it to safetensors, or distil with distill.steps=1"
        )
    if kind == "onnx":
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
        if missing:
            raise UsageError(f"--to onnx needs {', '.join(missing)}: pip install 'mrigen[export]'")
    generator = OneStep(model.requires_grad_(requires_grad=False), description).eval()
    inputs = _inputs(description, batch=2)
    with atomic(out) as temporary:
        run = WRITERS[kind](generator, inputs, temporary)
        difference = _difference(generator, run, _inputs(description, batch=3))
        if not difference <= TOLERANCE:
            raise RuntimeError(f"the exported {kind} differs from the model by {difference:.2g}")
    return difference


def released_weights(model: Preconditioner) -> dict[str, Tensor]:
    """The tensors of a model under the released names, the resampling filters included."""
    weights = weights_of(model)
    if not isinstance(model.network, UNet):
        return weights
    released: dict[str, Tensor] = {}
    for pair in correspondences(model):
        parts = weights[pair.ours].chunk(len(pair.theirs))
        released |= {name: part.clone() for name, part in zip(pair.theirs, parts, strict=True)}
    return released | constants(model)


Run = Callable[[tuple[Tensor, ...]], NDArray[np.float32]]


def _torchscript(generator: OneStep, inputs: tuple[Tensor, ...], path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advertises its other formats
        traced = torch.jit.trace(generator, inputs, check_trace=False)
        torch.jit.save(traced, str(path))
        loaded = torch.jit.load(str(path))

    def run(values: tuple[Tensor, ...]) -> NDArray[np.float32]:
        with torch.no_grad():
            out: NDArray[np.float32] = loaded(*values).numpy()
            return out

    return run


def _onnx(generator: OneStep, inputs: tuple[Tensor, ...], path: Path) -> Run:
    names = ["z", "labels"][: len(inputs)]
    batch = torch.export.Dim("batch", min=1, max=65535)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(generator, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
        torch.onnx.export(
            program,
            inputs,
            path,
            input_names=names,
            output_names=["image"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(values: tuple[Tensor, ...]) -> NDArray[np.float32]:
        feed = {name: value.numpy() for name, value in zip(names, values, strict=True)}
        out: NDArray[np.float32] = session.run(None, feed)[0]
        return out

    return run


WRITERS = {"torchscript": _torchscript, "onnx": _onnx}


def _inputs(description: ModelDescription, batch: int) -> tuple[Tensor, ...]:
    """Latents, and labels where the network takes them, for tracing and comparing."""
    from mrigen import seeds

    rng = seeds.seeded_rng(0, "export", batch)
    shape = (batch, description.conventions.image_channels, *description.image_shape[1:])
    z = torch.randn(shape, generator=rng)
    classes = int(description.network.get("label_dim", 0))
    if not classes:
        return (z,)
    chosen = torch.randint(classes, (batch,), generator=rng)
    return z, nn.functional.one_hot(chosen, classes).float()


def _difference(generator: OneStep, run: Run, inputs: tuple[Tensor, ...]) -> float:
    with torch.no_grad():
        expected = generator(*inputs).numpy()
    return float(np.abs(run(inputs) - expected).max())
