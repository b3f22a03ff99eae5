"""The Slurm script: its command works, and a signal before the time limit queues the job again."""

import os
import shutil
import signal
import subprocess
from importlib.resources import files

import pytest
import typer
from torch.distributed.run import get_args_parser
from waiting import wait_until

from mrigen import recipe
from mrigen.cli.main import app
from mrigen.engine.micro_batches import MicroBatchPlan

SCRIPT = files("mrigen.recipes") / "slurm" / "train.sbatch"
JOB = {
    "SLURM_JOB_ID": "42",
    "SLURM_JOB_NODELIST": "node[7-8]",
    "SLURM_NNODES": "2",
    "SLURM_GPUS_ON_NODE": "8",
}
SRUN = """#!/bin/bash
trap 'echo saved > {folder}/saved; exit 1' TERM
printf '%s\\n' "$@" > {folder}/srun.part && mv {folder}/srun.part {folder}/srun
{body}
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; else echo "$@" > {folder}/requeued; fi
"""


def start(folder, body):
    """The script on a cluster whose ``srun`` notes its arguments and does ``body``."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (folder / name).write_text(text.format(folder=folder, body=body))
        (folder / name).chmod(0o755)
    (folder / "bin").mkdir()
    for name in ("srun", "scontrol"):
        shutil.move(folder / name, folder / "bin" / name)
    environment = {**os.environ, **JOB, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return subprocess.Popen(["bash", str(SCRIPT)], env=environment, cwd=folder)


def words(folder):
    return (folder / "srun").read_text().splitlines()


def test_bash_accepts_the_script():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


@pytest.mark.parametrize("code", [0, 3])
def test_the_command_works_and_its_code_is_the_job_s(tmp_path, code):
    assert start(tmp_path, f"exit {code}").wait(timeout=60) == code
    assert not (tmp_path / "requeued").exists()
    command = words(tmp_path)
    torchrun = get_args_parser().parse_args(command[command.index("torch.distributed.run") + 1 :])
    assert (torchrun.nnodes, torchrun.nproc_per_node) == ("2", "8")
    assert (torchrun.rdzv_endpoint, torchrun.rdzv_id) == ("node7:29500", "42")
    assert torchrun.module
    assert torchrun.training_script == "mrigen"
    name, *arguments = torchrun.training_script_args
    context = typer.main.get_command(app).commands[name].make_context(name, arguments)
    loaded = recipe.load(context.params["recipe"], context.params["set_"])
    for section in ("teacher", "distill"):
        assert list(MicroBatchPlan(section, getattr(loaded, section), Sixteen()))


class Sixteen:
    global_rank, world_size = 15, 16


def test_a_signal_before_the_time_limit_queues_the_job_again(tmp_path):
    job = start(tmp_path, "while true; do sleep 0.1; done")
    wait_until((tmp_path / "srun").exists, 60)  # written after the step's own trap was set
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == 0
    assert (tmp_path / "saved").read_text() == "saved\n"
    assert (tmp_path / "requeued").read_text() == "requeue 42\n"
