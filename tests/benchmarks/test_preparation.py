"""Arithmetic of the preparation benchmark, and the costs of a command with its children."""

import sys

import numpy as np
import pytest
from benchmarks.preparation import rows
from benchmarks.process_tree import Cost, measure
from benchmarks.sigpy_loop import crop_readout, draw_lines, mix


def test_rows_are_medians_with_the_loop_as_unit():
    costs = {
        ("sigpy loop", 1): [Cost(10, 9, 100), Cost(30, 9, 300), Cost(20, 9, 200)],
        ("mrigen --jobs 2", 4): [Cost(4, 6, 50)],
    }
    loop, ours = rows(costs, slices=2)
    assert (loop["seconds"], loop["peak_mib"], loop["ratio"]) == (20, 200, 1)
    assert ours["slices_per_second"] == 2
    assert ours["ratio"] == 20
    assert ours["processor_ratio"] == 6
    assert ours["cores"] == 1.5


def test_memory_and_processor_time_of_a_child_count():
    worker = "import time; x = bytearray(b'1') * (150 << 20); sum(range(3000000)); time.sleep(1.5)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {worker!r}], check=True)"
    cost = measure([sys.executable, "-S", "-c", script], {})
    assert cost.seconds > 1.5
    assert cost.processor_seconds > 0
    assert 150 < cost.peak_mib < 300


def test_a_command_that_fails_is_quoted():
    with pytest.raises(RuntimeError, match="no such thing"):
        measure([sys.executable, "-S", "-c", "import sys; sys.exit('no such thing')"], {})


def test_the_loop_draws_exactly_its_lines_and_crops_the_image():
    mask = draw_lines(40, 4, slice(16, 22), np.random.default_rng(0))
    assert mask.sum() == 10
    assert mask[16:22].all()
    image = np.arange(8.0)[:, None] * np.ones((2, 1, 6))
    transform = {"axes": (-2, -1), "norm": "ortho"}
    shifted = np.fft.ifftshift(image, axes=(-2, -1))
    kspace = np.fft.fftshift(np.fft.fft2(shifted, **transform), axes=(-2, -1))
    back = np.fft.ifft2(np.fft.ifftshift(crop_readout(kspace), axes=(-2, -1)), **transform)
    np.testing.assert_allclose(np.fft.fftshift(back, axes=(-2, -1)), image[:, 2:6], atol=1e-12)
    assert (mix(np.array([[1.0, 1.0]]), image) == 2 * image[:1]).all()
