"""Statistics that are no statistics: negative variances, channels without a spread, dtypes of the data."""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow.errors import DataError, StructureError


def test_variances_are_not_negative():
    with pytest.raises(StructureError, match="variances >= 0"):
        refflow.Moments(np.zeros(2), np.array([1.0, -1e-9]))


@pytest.mark.parametrize("make", [refflow.BatchNorm.init, refflow.ActNorm.init])
def test_channels_without_a_spread_are_refused(make):
    rng = np.random.default_rng(0)
    for column in (np.full(7, 0.1), np.array([1e200, -1e200, 0, 0, 0, 0, 0]), np.array([np.inf, 1, 2, 3, 4, 5, 6])):
        with np.errstate(all="ignore"), pytest.raises(DataError, match=r"\[1\]"):
            make(2).initialized(np.stack([rng.standard_normal(7), column], axis=1))


@pytest.mark.parametrize("make", [refflow.BatchNorm.init, refflow.ActNorm.init])
def test_initialised_maps_keep_their_dtype(make):
    f = make(2, dtype="float32").initialized(np.random.default_rng(0).standard_normal((7, 2)))
    assert {a.dtype for a in xp.leaves(refflow.modules.arrays(f))} == {np.dtype(np.float32)}
