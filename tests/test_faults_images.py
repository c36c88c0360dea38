"""Seeded faults of the maps of images, each caught by the law that should name it, and the clean twin passing."""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.modules import module
from refflow.verification import LawViolation

RNG = np.random.default_rng(7)


def filled(m):
    """Positive parameters on the dyadic grid, none of them at their start: no log-determinant is 0 by chance."""
    return refflow.map_arrays(lambda a: RNG.integers(1, 5, a.shape) / 8, m)


def rows(*shape):
    return RNG.integers(-16, 17, shape) / 8.0


SQUEEZE = refflow.Squeeze((2, 4, 1))
RESHAPE = refflow.Reshape((2, 3, 1), (6,))
AXES = refflow.PermuteAxes((2, 2, 2), (1, 2, 0))
BOARD = refflow.checkerboard_mask(2, 2)
CHANNEL = refflow.channel_mask(2, 1, 4)


def coupling(mask, **options):
    net = refflow.ConvNet.init(mask, 2, rng=RNG, hidden=(3,), activation="tanh", **options)
    return filled(refflow.AffineCoupling(mask, net))


BOARDED, CHANNELLED, CONDITIONAL = coupling(BOARD), coupling(CHANNEL), coupling(BOARD, context_dim=2)
ELEMENTWISE = refflow.ElementwiseAffine.init
PIECES = filled(refflow.Concatenate((ELEMENTWISE((1, 2)), ELEMENTWISE((2, 2))), (1, 2), axis=-2))
FIRST = refflow.Chain((refflow.Squeeze((2, 2, 1)), ELEMENTWISE((1, 1, 4))))
SCALES = filled(refflow.MultiScale((FIRST, ELEMENTWISE((1, 1, 2)))))
ONE_BY_ONE = filled(refflow.LU.random(3, 0, rank=3))

IMAGES, WIDE, PILES = rows(4, 2, 2, 1), rows(3, 2, 4, 1), rows(3, 3, 2)
FAULTS = []


def fault(name, law, clean, x, context=None):
    """Class decorator: a subclass with the clean twin's fields, in which something is wrong."""

    def add(cls):
        made = object.__new__(module(cls))
        made.__dict__.update(clean.__dict__)
        FAULTS.append(pytest.param(law, made, clean, x, context, id=name))
        return cls

    return add


# Places.


@fault("squeeze whose inverse orders columns before rows", laws.round_trip, SQUEEZE, WIDE)
class _(refflow.Squeeze):
    def inverse(self, y, context=None):
        return super().inverse(xp.take(y, (0, 2, 1, 3), axis=-1), context)


@fault("reshape whose inverse is column-major", laws.round_trip, RESHAPE, rows(3, 2, 3, 1))
class _(refflow.Reshape):
    def inverse(self, y, context=None):
        columns, n = xp.reshape(y, (*y.shape[:-1], 3, 2, 1)), len(y.shape) - 1
        return xp.permute_dims(columns, (*range(n), n + 1, n, n + 2)), super().inverse(y, context)[1]


@fault("axes permuted by the same order in both directions", laws.round_trip, AXES, rows(3, 2, 2, 2))
class _(refflow.PermuteAxes):
    def inverse(self, y, context=None):
        return self.forward(y, context)


# Convolutional couplings.


@fault("the other colour of the checkerboard moves in the inverse", laws.round_trip, BOARDED, IMAGES)
class _(refflow.AffineCoupling):
    def inverse(self, y, context=None):
        x, log_det = super().inverse(xp.flip(y, axis=-2), context)
        return xp.flip(x, axis=-2), log_det


@fault("the other half of the channels moves in the inverse", laws.round_trip, CHANNELLED, rows(4, 2, 1, 4))
class _(refflow.AffineCoupling):
    def inverse(self, y, context=None):
        x, log_det = super().inverse(xp.take(y, (2, 3, 0, 1), axis=-1), context)
        return xp.take(x, (2, 3, 0, 1), axis=-1), log_det


@fault("a convolutional network that sees what it moves", laws.log_det_complex_step, BOARDED, IMAGES)
class _(refflow.AffineCoupling):
    def forward(self, x, context=None):
        x1, x2 = self.mask.split(x)
        s, t = self.scale_and_shift(x1 + 0.25 * x2, context)
        return self.mask.join(x1, xp.exp(s) * x2 + t), xp.sum(s, axis=-1)


def first_row(context):
    one = context[:1] if len(context.shape) > 1 else context
    return xp.broadcast_to(one, tuple(context.shape))


@fault("row 0's context for all rows", laws.row_independence, CONDITIONAL, IMAGES, rows(4, 2))
class _(refflow.AffineCoupling):
    def forward(self, x, context=None):
        return super().forward(x, first_row(context))

    def inverse(self, y, context=None):
        return super().inverse(y, first_row(context))


@fault("the context ignored in the inverse", laws.round_trip, CONDITIONAL, IMAGES, rows(4, 2))
class _(refflow.AffineCoupling):
    def inverse(self, y, context=None):
        return super().inverse(y, 0.0 * context)


@fault("1 x 1 convolution without H W, both ways", laws.log_det_complex_step, ONE_BY_ONE, rows(3, 2, 2, 3))
class _(refflow.LU):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det / 4

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det / 4


# Pieces and scales.


@fault("a piece's log-determinant dropped, both ways", laws.log_det_complex_step, PIECES, PILES)
class _(refflow.Concatenate):
    def _put_together(self, found):
        return super()._put_together(found)[0], found[0][1]


@fault("a piece's log-determinant dropped from the inverse", laws.antisymmetry, PIECES, PILES)
class _(refflow.Concatenate):
    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det - self.bijections[1].inverse(y[..., 1:, :], context)[1]


@fault("pieces cut at other places in the inverse", laws.round_trip, PIECES, PILES)
class _(refflow.Concatenate):
    def inverse(self, y, context=None):
        x, log_det = super().inverse(xp.flip(y, axis=-2), context)
        return xp.flip(x, axis=-2), log_det


@fault("latents of the scales in another order in the inverse", laws.round_trip, SCALES, IMAGES)
class _(refflow.MultiScale):
    def inverse(self, y, context=None):
        return super().inverse(xp.concat([y[..., 2:], y[..., :2]], axis=-1), context)


@fault("the channels that left and those that stayed exchanged in the inverse", laws.round_trip, SCALES, IMAGES)
class _(refflow.MultiScale):
    def inverse(self, y, context=None):
        h, second = self.levels[1].inverse(xp.reshape(y[..., 2:], (*y.shape[:-1], 1, 1, 2)), context)
        z = xp.reshape(y[..., :2], tuple(h.shape))
        x, first = self.levels[0].inverse(xp.concat([h, z], axis=-1), context)
        return x, first + second


@fault("only the last scale's log-determinant counted, both ways", laws.log_det_complex_step, SCALES, IMAGES)
class _(refflow.MultiScale):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det - self.levels[0].forward(x, context)[1]

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det + self.levels[0].forward(x, context)[1]


@fault("the last scale's log-determinant dropped from the inverse", laws.antisymmetry, SCALES, IMAGES)
class _(refflow.MultiScale):
    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det - self.levels[1].inverse(xp.reshape(y[..., 2:], (*y.shape[:-1], 1, 1, 2)), context)[1]


@fault("a multi-scale latent of the images' shape", laws.shapes, SCALES, IMAGES)
class _(refflow.MultiScale):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return xp.reshape(y, tuple(x.shape)), log_det


@pytest.mark.parametrize(("law", "broken", "clean", "x", "context"), FAULTS)
def test_the_law_names_the_fault_and_passes_its_clean_twin(law, broken, clean, x, context):
    assert law(clean, x, context).status == "pass"
    with pytest.raises(LawViolation) as caught:
        law(broken, x, context)
    assert caught.value.law == law.__name__
