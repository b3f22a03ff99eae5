"""Several processes on this machine, as users start them."""

import os
import subprocess
import sys


def torchrun(*arguments, processes=2):
    """Run a script, or ``-m MODULE``, under torchrun with one thread per process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, "--nproc-per-node", str(processes), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=900,
    )
