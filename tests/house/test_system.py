"""What POSIX alone has is not needed: commands run without it, and say nothing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mrigen
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


WARNS = """
import sys, warnings
from mrigen.cli import main

class Command:
    @staticmethod
    def main(**options):
        warnings.warn("compile: failed (a reason\\nof two lines); the network runs as it is", stacklevel=2)

main.typer.main.get_command = lambda app: Command
main.main()
"""


def test_a_warning_is_one_line():
    done = subprocess.run([sys.executable, "-c", WARNS], capture_output=True, text=True, check=True)
    words = "compile: failed (a reason of two lines); the network runs as it is"
    assert done.stderr == f"mrigen: warning: {words}\n"


GPU_WORDS = "the GPU's memory is full: lower"
CPU_FULL = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried ..."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ..."), "2.50 GiB"),
        (
            getattr(torch, "AcceleratorError", RuntimeError)(
                "CUDA error: out of memory\nCUDA kernel errors might ..."
            ),
            GPU_WORDS,
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            GPU_WORDS,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), GPU_WORDS),
        (RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling ..."), GPU_WORDS),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), GPU_WORDS),
        (RuntimeError(CPU_FULL), "there is not enough memory"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_memory_that_is_full_is_one_line(error, said, monkeypatch, capsys):
    """Whoever was refused it, torch's allocator, CUDA, its libraries or the machine."""

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


POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios"}
POSIX_CALLS = {
    *("os.chown", "os.fork", "os.geteuid", "os.getloadavg", "os.getuid", "os.killpg", "os.mkfifo", "os.nice"),
    *("os.pread", "os.pwrite", "os.sched_getaffinity", "os.setsid", "os.statvfs", "os.sysconf", "os.uname"),
    *("os.wait4", "os.O_DIRECTORY", "os.O_NOFOLLOW", "signal.SIGALRM", "signal.SIGHUP", "signal.SIGKILL"),
    *("signal.SIGPIPE", "signal.SIGUSR1", "signal.setitimer"),
}


def posix_only(source):
    """Modules and calls that Windows has not, but those behind ``hasattr``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & POSIX_MODULES
        elif isinstance(node, ast.ImportFrom):
            yield from {node.module} & POSIX_MODULES
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in POSIX_CALLS:
            module, name = ast.unparse(node).split(".")
            if f'hasattr({module}, "{name}")' not in source:
                yield f"{module}.{name}"


def test_what_windows_has_not_stands_in_one_module():
    package = Path(mrigen.__file__).parent
    files = [path for path in package.rglob("*.py") if path != package / "system.py"]
    assert {path.name: names for path in files if (names := list(posix_only(path.read_text())))} == {}
    assert list(posix_only("import fcntl\nimport os\nos.fork()\n")) == ["fcntl", "os.fork"]
    assert list(posix_only('import os\nx = os.nice(1) if hasattr(os, "nice") else 0\n')) == []
