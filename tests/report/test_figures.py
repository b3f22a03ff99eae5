"""Figures show what they were given."""

import numpy as np
import torch
from PIL import Image

from mrigen.report.figures import PICTURES, POINTS, comparison, grid, view_of


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


def test_single_images_stand_side_by_side(tmp_path):
    path = tmp_path / "figure.png"
    comparison({"black": levels(-1.0), "dark": levels(-0.5), "bright": levels(0.4, 0.4)}, None, path)
    picture = grey(path)
    line = picture[(picture < 250).sum(1).argmax()]
    runs = line[np.flatnonzero(np.diff(line, prepend=-1))]
    assert [v for v in runs if v in {0, 64, 178}] == [0, 64, 178]


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


def test_points_are_shown_as_points_and_everything_else_as_pictures():
    assert view_of((1, 1, 2)) is POINTS
    for shape in ((1, 2, 1), (1, 8, 8), (2, 1, 2), (3, 32, 32)):
        assert view_of(shape) is PICTURES


def test_scatter_has_a_panel_per_name_with_its_points_where_they_are(tmp_path):
    """The truth is grey in both panels; a cluster in the upper right of the plane is blue there."""
    path = tmp_path / "points.png"
    truth = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).reshape(-1, 1, 1, 2)
    cluster = torch.tensor([0.5, 0.5]) + 0.05 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    POINTS.comparison({"truth": truth, "sample": cluster.reshape(-1, 1, 1, 2)}, None, path, "title")
    with Image.open(path) as file:
        colours = np.asarray(file.convert("RGB"), int)
    blue = colours[..., 2] - colours[..., 0] > 60
    rows, columns = np.nonzero(blue)
    height, width = blue.shape
    assert columns.min() > 0.8 * width
    assert 0.2 * height < rows.min() <= rows.max() < 0.5 * height


def test_points_alone_fill_their_panel(tmp_path):
    path = tmp_path / "points.png"
    POINTS.several(torch.tensor([[-3.0, 0.0], [3.0, 0.0]]).reshape(-1, 1, 1, 2), None, path)
    with Image.open(path) as file:
        colours = np.asarray(file.convert("RGB"), int)
    _, columns = np.nonzero(colours[..., 2] - colours[..., 0] > 30)
    assert columns.min() < 0.1 * colours.shape[1]
    assert columns.max() > 0.9 * colours.shape[1]
