"""Loaders of strangers' files on thousands of damaged examples: read, or refused in one line."""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from mutations import mutated

TARGETS = {"fuzz_pickles": 1500, "fuzz_headers": 4000, "fuzz_manifests": 1500, "fuzz_recipes": 400}


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_valid_files(name):
    module = importlib.import_module(name)
    for example in module.EXAMPLES:
        module.target(example)
    for seed in range(TARGETS[name]):
        data = mutated(module.EXAMPLES, module.TOKENS, seed)
        try:
            module.target(data)
        except Exception as error:
            raise AssertionError(f"input {seed}: {data!r}"[:2000]) from error


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_atheris_finds(name, tmp_path):
    """Half as many again, led by the branches that they reach."""
    runs = TARGETS[name] // 2
    script = Path(__file__).with_name("explore.py")
    command = [sys.executable, str(script), name, f"-runs={runs}", "-seed=1", "-max_len=4096"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Done {runs} runs" in done.stderr
