"""Runs commands one after another in a process that torchrun started: ``commands_worker.py FILE``."""

import json
import sys
from pathlib import Path

from mrigen.cli.main import run

if __name__ == "__main__":
    codes = [run(arguments) for arguments in json.loads(Path(sys.argv[1]).read_text())]
    Path(f"{sys.argv[1]}.codes").write_text(json.dumps(codes))
