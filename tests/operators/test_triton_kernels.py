"""The GPU's kernel: in Triton's interpreter here, on a GPU where there is one."""

import os
import subprocess
import sys

import pytest
import torch
from gpu import needs_gpu

from mrigen.operators import MultiCoilMRI
from mrigen.tensors import randn_like

pytest.importorskip("triton")

INTERPRETED = """
import torch
from mrigen import triton_kernels

def drawn(*shape):
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(sum(shape)))

for batch, coils, height, width in [(2, 3, 12, 9), (3, 1, 1, 300), (1, 5, 40, 33)]:
    images = drawn(batch, coils, height, width)
    for maps in [
        drawn(batch, coils, height, width),
        drawn(1, coils, height, width).expand(batch, -1, -1, -1),
        drawn(batch, coils, height + 4, width)[:, :, 2:-2],
        drawn(batch, coils, width, height).mT,
        drawn(batch, coils, height, width).conj(),
    ]:
        expected = (maps.conj() * images).sum(1, keepdim=True)
        torch.testing.assert_close(triton_kernels.combine(maps, images), expected)
"""


COMPILED = """
import triton
from mrigen import triton_kernels
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

arguments = triton_kernels.combine_kernel.arg_names
kinds = ["*fp32"] * 3 + ["constexpr"] + ["i32"] * 3 + ["constexpr"]
types = dict(zip(arguments, kinds, strict=True))
constants = {"coils": 16, "block": triton_kernels.PIXELS}
source = ASTSource(triton_kernels.combine_kernel, types, constexprs=constants)
for capability in [80, 90]:
    assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
"""


def run(program, **env):
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_coils_are_combined_as_by_torch():
    run(INTERPRETED, TRITON_INTERPRET="1")


def test_it_compiles_for_gpus_that_are_not_here(tmp_path):
    run(COMPILED, TRITON_CACHE_DIR=str(tmp_path))


@needs_gpu
@pytest.mark.filterwarnings("ignore:TRITON")
@pytest.mark.parametrize("rows", [1, 12])
def test_the_normal_operator_of_a_gpu_uses_it(rows):
    from mrigen import triton_kernels  # which not every machine can import

    assert triton_kernels.works(torch.device("cuda"))
    generator = torch.Generator().manual_seed(0)
    operator = MultiCoilMRI.example().with_mask(torch.rand(2, 1, rows, 9, generator=generator) < 0.5)
    x = randn_like(operator.zero_image(), generator)
    found = operator.to(device="cuda").normal(x.cuda())
    torch.testing.assert_close(found.cpu(), operator.normal(x))


def test_operators_are_found_where_there_is_no_triton():
    run(
        "import sys; sys.modules['triton'] = None\n"
        "from mrigen.operators import CORRUPTIONS\n"
        "assert 'inpainting' in CORRUPTIONS.names()"
    )
