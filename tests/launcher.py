"""Several processes on this machine, as users start them."""

import os
import socket
import subprocess
import sys

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
SECONDS = 900


def started(*command):
    """A process with one thread, whose output is kept."""
    return subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finished(process):
    """The same as ``subprocess.run`` returns it."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def torchrun(*arguments, processes=2):
    """Run a script, or ``-m MODULE``, under torchrun with one thread per process."""
    return finished(started(*TORCHRUN, "--standalone", "--nproc-per-node", processes, *arguments))


def torchrun_nodes(*arguments, nodes=2):
    """The same with one process on each of several nodes, which are agents that meet at a port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--local-addr", "127.0.0.1"]
    command = [*TORCHRUN, "--nnodes", nodes, "--nproc-per-node", 1, *meeting, *arguments]
    return list(map(finished, [started(*command) for _ in range(nodes)]))
