"""Importing holds the weights once: the mapped snapshot is let go tensor by tensor."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mrigen.checkpoints.folder import verify_model

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "import_memory.py"


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="/proc tells the resident memory on Linux only"
)
def test_import_holds_the_weights_once(tmp_path):
    """83 MB; reading the snapshot whole or writing through copies would cost 2 or 3 times that."""
    spec = importlib.util.spec_from_file_location("import_memory", BENCHMARK)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    source = benchmark.make_snapshot(tmp_path, 80e6)
    base, peak, _ = benchmark.measure("import", source, tmp_path / "out")
    assert (peak - base) / source.stat().st_size < 1.5
    verify_model(tmp_path / "out")
