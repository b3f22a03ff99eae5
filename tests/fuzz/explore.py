"""Let atheris (``pip install 'mrigen[fuzz]'``) look for inputs that a loader does not survive.

``python tests/fuzz/explore.py fuzz_recipes -max_total_time=600``; options are libFuzzer's. A finding ends the
run with its traceback and is written to a file.
"""

import importlib
import sys
import tempfile
from pathlib import Path

import atheris

TARGETS = ["fuzz_pickles", "fuzz_headers", "fuzz_manifests", "fuzz_recipes"]


def main(name, *options):
    if name not in TARGETS:
        sys.exit(f"{name}: give one of {', '.join(TARGETS)}")
    with atheris.instrument_imports(include=["mrigen", "yaml"]):
        module = importlib.import_module(name)
    with tempfile.TemporaryDirectory() as corpus:
        for number, example in enumerate(module.EXAMPLES):
            (Path(corpus) / str(number)).write_bytes(example)
        atheris.Setup([name, *options, corpus], module.target)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
