"""Property tests of invertibility with Hypothesis, for a transform of your own. Run them: pytest property_test.py

The layer is a refflow module, so that the strategies can draw its parameters. Anything else with `forward` and
`inverse` is tested the same way, with its parameters drawn by strategies of your own. All laws together take longer
than Hypothesis's deadline for one example, hence `deadline=None`.
"""

import numpy as np
from hypothesis import given, settings

import refflow
from refflow import arrays as xp
from refflow import strategies, verification


@refflow.module
class Shear(refflow.Bijection):
    """y_1 = x_1, y_2 = x_2 + a sin(x_1), on the plane."""

    amount: np.ndarray

    def forward(self, x, context=None):
        shift = self.amount * xp.sin(x[..., :1])
        return xp.concat([x[..., :1], x[..., 1:] + shift]), xp.zeros(x.shape[:-1], like=x)

    def inverse(self, y, context=None):
        shift = self.amount * xp.sin(y[..., :1])
        return xp.concat([y[..., :1], y[..., 1:] - shift]), xp.zeros(y.shape[:-1], like=y)


@settings(deadline=None)
@given(strategies.parameters(Shear(np.zeros(1))), strategies.points((2,)))
def test_shear_is_a_bijection(layer, x):
    verification.check_laws(layer, x)


@settings(deadline=None)
@given(strategies.flows((3,), context_dim=1), strategies.points((3,), rows=4), strategies.contexts(4, 1))
def test_flows_invert(flow, x, context):
    verification.round_trip(flow.bijection, x, context)


if __name__ == "__main__":
    test_shear_is_a_bijection()
    test_flows_invert()
    print("both properties hold")
