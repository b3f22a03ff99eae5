"""What POSIX alone has is not needed: commands run without it, and say nothing."""

import os
import subprocess
import sys

import pytest
import torch

from mrigen.cli import main

WITHOUT = """
import os, sys

for name in ("fcntl", "resource"):
    sys.modules[name] = None
for name in ("sysconf", "sched_getaffinity", "getloadavg", "pread", "pwrite", "O_DIRECTORY", "O_NOFOLLOW"):
    delattr(os, name)

from mrigen.cli.main import run

assert run("simulate --out raw --volumes 2 --slices 2 --matrix 16 16 --coils 2 --jobs 1".split()) == 0
line = "prep-fastmri raw --out store --acceleration 2 --acs-lines 4 --kernel-width 3 --no-noise-whitening"
assert run([*line.split(), "--jobs", "1"]) == 0
assert run("sample demo-brain --seeds 0-1 --out first --device cpu".split()) == 0
assert run(["doctor"]) == 0
assert run(["doctor", "store"]) == 0

from pathlib import Path
from mrigen.engine.stops import end_requests, running

with end_requests(Path()) as asked:
    assert running(Path())["process"] == os.getpid()
    assert not asked()
print("all done")
"""


def test_commands_run_without_posix(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all done\n")
    assert "Error" not in done.stderr
    assert (tmp_path / "first.png").is_file()


CPU_FULL = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried ..."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ..."), "2.50 GiB"),
        (RuntimeError(CPU_FULL), "there is not enough memory"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_memory_that_is_full_is_one_line(error, said, monkeypatch, capsys):
    def full(**options):
        raise error

    class Command:
        main = staticmethod(full)

    monkeypatch.setattr(main.typer.main, "get_command", lambda app: Command)
    assert main.run(["sample"]) == 2
    words = capsys.readouterr().err.strip()
    assert said in words
    assert "--batch" in words
    assert len(words.splitlines()) == 1
    assert "micro_batch" in words
    assert "Traceback" not in words
