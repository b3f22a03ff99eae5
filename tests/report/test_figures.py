"""Figures show what they were given."""

import numpy as np
import torch
from PIL import Image

from mrigen.report.figures import comparison, grid


def levels(*values):
    return torch.stack([torch.full((1, 4, 4), v) for v in values])


def grey(path):
    with Image.open(path) as file:
        return np.asarray(file.convert("L"), int)


def test_comparison_has_a_row_per_name_in_order(tmp_path):
    """Rows of constant grey appear from top to bottom, and the longer row is cut."""
    path = tmp_path / "figure.png"
    rows = {"black": levels(-1.0, -1.0, -1.0), "dark": levels(-0.5, -0.5), "bright": levels(0.4, 0.4)}
    comparison(rows, None, path, "title")
    picture = grey(path)
    column = picture[:, (picture < 250).sum(0).argmax()]
    runs = column[np.flatnonzero(np.diff(column, prepend=-1))]
    found = [v for v in runs if v in {0, 64, 178}]
    assert found == [0, 64, 178]


def test_complex_images_are_shown_as_magnitudes_in_the_window(tmp_path):
    path = tmp_path / "grid.png"
    images = torch.polar(levels(0.0, 1.0, 2.0, 9.0), levels(0.0, 1.0, -2.0, 3.0))
    grid(images, 2.0, path)
    picture = grey(path)
    tile = picture.shape[1] // 4
    np.testing.assert_allclose(picture[0, ::tile], [0, 127.5, 255, 255], atol=1)


def test_grid_pads_its_last_row(tmp_path):
    path = tmp_path / "grid.png"
    grid(levels(*[1.0] * 11), None, path)
    picture = grey(path)
    height, width = picture.shape
    assert height * 4 == width
    assert picture[-1, 0] == 255
    assert picture[-1, -1] == 0
