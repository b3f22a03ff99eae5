"""Reduced precision, memory formats and compilation keep the result within stated tolerances.

Tolerances are relative to the largest value of the raw network's output, which preconditioning scales
by c_out; weights are random of a size at which every layer matters.
"""

import copy
import shutil

import pytest
import torch
from gpu import needs_gpu

from .test_published import CASES, randomised

TOLERANCE = {"bfloat16": 0.05, "float16": 0.01, "channels_last": 1e-5, "compiled": 1e-4}
NAMES = ["ddpm++ vp", "gated ncsn++", "adm labels"]


def prepared(case, device="cpu"):
    name, config, kind = CASES[case]
    model = randomised(name, config, kind).to(device)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, config["in_channels"], 8, 8, generator=generator).to(device)
    labels = torch.eye(4)[:2].to(device) if "label_dim" in config else None
    return model, (x, torch.tensor([0.4, 2.0], device=device), labels)


def error(model, inputs, changed):
    with torch.no_grad():
        reference, out = model(*inputs), changed(*inputs)
        scale = model.coefficients(inputs[1])[1].abs()
    assert out.dtype == torch.float32
    peak = (reference - inputs[0][:, : reference.shape[1]]).abs().max()
    assert peak > 0.1 * scale.max()
    return ((out - reference).abs().max() / peak).item()


@pytest.mark.parametrize("case", NAMES)
def test_bfloat16_autocast_on_the_cpu(case):
    model, inputs = prepared(case)

    def changed(*inputs):
        with torch.autocast("cpu", torch.bfloat16):
            return model(*inputs)

    assert 0 < error(model, inputs, changed) < TOLERANCE["bfloat16"]


@pytest.mark.parametrize("case", NAMES)
def test_channels_last(case):
    model, (x, *rest) = prepared(case)
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def changed(x, *rest):
        return twin(x.contiguous(memory_format=torch.channels_last), *rest)

    assert error(model, (x, *rest), changed) < TOLERANCE["channels_last"]


def test_one_graph_without_breaks():
    """torch.compile sees the whole model; no code is generated here."""
    model, inputs = prepared(NAMES[1])
    assert error(model, inputs, torch.compile(model, backend="eager", fullgraph=True)) < TOLERANCE["compiled"]


@needs_gpu
@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_on_the_gpu(case, dtype):
    model, inputs = prepared(case, "cuda")

    def changed(*inputs):
        with torch.autocast("cuda", dtype):
            return model(*inputs)

    assert 0 < error(model, inputs, changed) < TOLERANCE[str(dtype).removeprefix("torch.")]


@needs_gpu
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_on_the_gpu():
    model, inputs = prepared(NAMES[1], "cuda")
    assert error(model, inputs, torch.compile(model)) < TOLERANCE["compiled"]
