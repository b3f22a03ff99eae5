"""Importing streams: the memory that it adds does not grow with the snapshot."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mrigen.checkpoints.folder import verify_model

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "import_memory.py"


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="/proc tells the resident memory on Linux only"
)
def test_import_needs_far_less_than_the_snapshot(tmp_path):
    """83 MB; reading it whole would cost 1, converting and writing through copies 2 or 3 times that."""
    spec = importlib.util.spec_from_file_location("import_memory", BENCHMARK)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    source = benchmark.make_snapshot(tmp_path, 80e6)
    base, peak, _ = benchmark.measure("import", source, tmp_path / "out")
    assert (peak - base) / source.stat().st_size < 0.7
    verify_model(tmp_path / "out")
