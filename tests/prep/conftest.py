"""A small head to scan, and the two commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrigen.cli.main import run

from .scans import arguments


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ellipsoid with random structure, 30 x 40 x 30 voxels of 5 mm."""
    random = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (30, 40, 30)), indexing="ij")
    inside = sum((a / r) ** 2 for a, r in zip(axes, (0.75, 0.8, 0.9), strict=True)) < 1
    path = tmp_path_factory.mktemp("anatomy") / "head.npz"
    np.savez(path, volume=inside * (0.4 + random.random(inside.shape)), voxel_mm=np.full(3, 5.0))
    return path


@pytest.fixture(scope="session")
def simulate(head: Path) -> Callable[..., Path]:
    """Run ``mrigen simulate`` on the small head: options with underscores, sequences for several values."""

    def call(out: Path, **options: Any) -> Path:
        given = {"volumes": 2, "slices": 3, "matrix": (32, 30), "jobs": 1} | options
        assert run(["simulate", "--out", str(out), "--anatomy", str(head), *arguments(given)]) == 0
        return out

    return call


@pytest.fixture
def prep(tmp_path: Path) -> Callable[..., Path]:
    """Run ``mrigen prep-fastmri`` and return the store's folder."""

    def call(*sources: Path, out: str = "store", code: int = 0, **options: Any) -> Path:
        given = {"jobs": 1, "acs_lines": 4, "kernel_width": 3, "acceleration": 4} | options
        command = ["prep-fastmri", *map(str, sources), "--out", str(tmp_path / out), *arguments(given)]
        assert run(command) == code
        return tmp_path / out

    return call
