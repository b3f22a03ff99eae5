"""No command opens a connection unless it is asked to; one process runs them all and notes what it tries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"

WATCH = """
import os, sys

TO = ("socket.connect", "socket.sendto", "socket.sendmsg")
NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")

def watch(event, arguments):
    remote = event in TO and isinstance(arguments[-1], tuple)  # a Unix socket has the name of a file
    if event in NAMES or remote:
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{os.getpid()} {event} {arguments[1:]}\\n")
        raise PermissionError(f"{event} is not allowed here")

sys.addaudithook(watch)
"""

SESSION = """
import sys
from mrigen.cli.main import run

def call(line, wanted=0):
    code = run(line.split())
    assert code == wanted, (line, code)

SMALL = "--acceleration 2 --acs-lines 4 --kernel-width 3 --no-noise-whitening"
if __name__ == "__main__":
    call("--help")
    call("--version")
    call("recipes list")
    call("recipes show celeba/deblur-s20 --resolved")
    call("doctor")
    call("simulate --out raw --volumes 2 --slices 2 --matrix 16 16 --coils 2")
    call(f"prep-fastmri raw --out mri {SMALL} --jobs 2")
    call(f"run {sys.argv[1]} --out run --device cpu")
    call("doctor run")
    call("sample run/student/model --seeds 0-7 --out a.h5 --device cpu")
    against = "evaluate a.h5 --reference run/store-reference --cache c --device cpu --features"
    call(f"{against} pixels --bootstrap 0")
    call(f"{against} inception --metrics fid", 2)
    call(f"{against} dinov2", 2)
    call("audit a.h5 --data run/store --out audit --device cpu")
    call("models")
    call("models https://example.org/models", 2)
    call("report run")
    call(f"reconstruct raw/simulated_0000.h5 --solver zero-filled --out found --acceleration 2 --acs-lines 4 "
         "--kernel-width 3")
    call("export run/student/model --to safetensors --out exported")
    call("import-checkpoint https://example.org/network.pkl imported", 2)
    call("prep-images https://example.org/images.zip --out store", 2)
    call("train https://example.org/recipe.yaml --out other", 2)
    call("prep-images cifar10 --out cifar", 2)
    print("all done")
"""


@pytest.fixture
def watched(tmp_path):
    """Run Python where every process notes and refuses connections; returns the outcome and the attempts."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCH)
    attempts = tmp_path / "attempts"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]),
        "ATTEMPTS": str(attempts),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home" / "cache"),
    }

    def call(*arguments):
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done, attempts.read_text().splitlines() if attempts.exists() else []

    return call


def test_no_command_tries(watched, tmp_path):
    script = tmp_path / "session.py"
    script.write_text(SESSION)
    done, attempts = watched(str(script), str(TINY))
    assert attempts == []
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all done\n")
    missing = [line for line in done.stderr.splitlines() if line.startswith("mrigen: ")]
    assert len(missing) == SESSION.count(", 2)")  # a line for every refusal
    assert not any("not allowed here" in line for line in missing)


ATTEMPTS = [
    "import socket; socket.create_connection(('127.0.0.1', 9))",
    "import socket; socket.socket().connect(('127.0.0.1', 9))",
    "import socket; socket.getaddrinfo('localhost', 80)",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
    "import requests; requests.get('http://127.0.0.1:9/', timeout=1)",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import socket; socket.getfqdn(str(1))'])",
]


def test_attempts_are_seen(watched):
    """The test above could fail."""
    for number, code in enumerate(ATTEMPTS, 1):
        _, attempts = watched("-c", code)
        assert len(attempts) >= number
        assert attempts[-1].split()[1].startswith("socket.")
