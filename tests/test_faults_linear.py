"""Seeded faults of linear and autoregressive maps, each caught by the law that should name it; clean twins pass."""

import numpy as np
import pytest
from test_faults import Fault, filled

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.bijections import linear
from refflow.bijections.autoregressive import solve_by_degree
from refflow.masked import of_coordinate
from refflow.modules import module, replace

RNG = np.random.default_rng(13)
X = RNG.integers(-16, 17, (6, 4)) / 8.0
IMAGES = RNG.integers(-16, 17, (5, 3, 2, 4)) / 8.0
CONTEXT = RNG.integers(-8, 9, (6, 2)) / 4.0

LU = filled(refflow.LU.init((1, 2, 3, 0)), 0.5)  # the order is odd, and no involution
UNBALANCED = replace(LU, factors=LU.factors + 0.25 * np.eye(4), rank=3)  # the trace is not 0
LOWER = filled(refflow.Triangular.init(4), 0.5)
ORTHOGONAL = filled(refflow.Orthogonal.init(4, 0, reflections=3))
NORM = refflow.BatchNorm(
    refflow.Frozen(refflow.Moments(np.array([0.5, -1.0, 0.0, 2.0]), np.array([0.25, 1.0, 4.0, 0.5]), 0.125)),
    np.array([0.5, -0.25, 0.125, 0.0]),
    np.array([1.0, 0.0, -0.5, 0.25]),
)
NORM_IMAGES = replace(NORM, moments=refflow.Frozen(replace(NORM.moments.bijection, rank=3)))


def network(degrees, **options):
    net = refflow.MaskedMLP.init(
        4, 2, rng=np.random.default_rng(0), degrees=degrees, hidden=(6,), activation="tanh", **options
    )
    return filled(net, 0.5)


MAF = refflow.AffineAutoregressive(network((3, 1, 4, 2)))
CONDITIONAL = refflow.AffineAutoregressive(network((1, 2, 3, 4), context_dim=2))

FAULTS = []


def fault(name, law, clean, x=X, context=None):
    """Class decorator: a subclass with the clean twin's fields, in which something is wrong."""

    def add(cls):
        made = object.__new__(module(cls))
        made.__dict__.update(clean.__dict__)
        FAULTS.append(Fault(name, law, made, clean, x, context))
        return cls

    return add


def lu_inverse(f, y, *, undo=None, first=True, transposed=False, unit_diagonal=True):
    """The inverse of an LU map, with something to turn wrong."""
    u, a = f._upper()
    undo = undo or tuple(sorted(range(f.channels), key=f.order.__getitem__))
    rows = xp.take(linear._rows(y - f.shift), undo)
    lower = lambda v: linear._solve(f.factors, v, lower=True, unit_diagonal=unit_diagonal)  # noqa: E731
    upper = lambda v: linear._solve(u, v, lower=False)  # noqa: E731
    if transposed:
        lower = lambda v: linear._solve(xp.matrix_transpose(f.factors), v, lower=False, unit_diagonal=True)  # noqa: E731
        upper = lambda v: linear._solve(xp.matrix_transpose(u), v, lower=True)  # noqa: E731
    rows = upper(lower(rows)) if first else lower(upper(rows))
    return xp.reshape(rows, y.shape), f._repeated(y, -xp.sum(a))


# Linear maps.


@fault("the inverse of the transposed factors", laws.round_trip, LU)
class _(refflow.LU):
    def inverse(self, y, context=None):
        return lu_inverse(self, y, transposed=True)


@fault("U undone before L", laws.round_trip, LU)
class _(refflow.LU):
    def inverse(self, y, context=None):
        return lu_inverse(self, y, first=False)


@fault("the permutation for its inverse", laws.round_trip, LU)
class _(refflow.LU):
    def inverse(self, y, context=None):
        return lu_inverse(self, y, undo=self.order)


@fault("the diagonal of U taken for that of L", laws.round_trip, LU)
class _(refflow.LU):
    def inverse(self, y, context=None):
        return lu_inverse(self, y, unit_diagonal=False)


@fault("the shift added in the inverse", laws.round_trip, LU)
class _(refflow.LU):
    def inverse(self, y, context=None):
        return super().inverse(y + 2.0 * self.shift)


@fault("log det W for log |det W|, of an odd permutation", laws.nan_stays, LU)
class _(refflow.LU):
    def _repeated(self, x, log_det):
        sign = np.linalg.slogdet(np.eye(4)[list(self.order)])[0]  # -1, whatever L and U are
        return super()._repeated(x, log_det + np.log(x.real.dtype.type(sign)))


@fault("an LU's log-determinant without H W", laws.log_det_complex_step, UNBALANCED, IMAGES)
class _(refflow.LU):
    def _repeated(self, x, log_det):
        return xp.zeros(x.shape[:-3], like=x) + log_det


@fault("the log-determinant of the diagonal, not of its logarithms", laws.log_det_complex_step, LU)
class _(refflow.LU):
    def forward(self, x, context=None):
        return super().forward(x)[0], self._repeated(x, xp.sum(xp.diagonal(self._upper()[0])))


@fault("a lower triangle solved as an upper one", laws.round_trip, LOWER)
class _(refflow.Triangular):
    def inverse(self, y, context=None):
        t, a = self._triangle()
        return linear._solve(xp.matrix_transpose(t), y - self.shift, lower=False), self._repeated(y, -xp.sum(a))


@fault("the other triangle read in one direction", laws.round_trip, LOWER)
class _(refflow.Triangular):
    def forward(self, x, context=None):
        t, a = self._triangle()
        t = t + xp.triu(self.matrix, 1)
        return x @ xp.matrix_transpose(t) + self.shift, self._repeated(x, xp.sum(a))


@fault("reflections undone in the order in which they were made", laws.round_trip, ORTHOGONAL)
class _(refflow.Orthogonal):
    def inverse(self, y, context=None):
        return self.forward(y)


@fault("reflections that stop short of the mirror image", laws.log_det_complex_step, ORTHOGONAL)
class _(refflow.Orthogonal):
    def _reflected(self, x, order):
        for k in order:
            v = self.vectors[k]
            x = x - 1.5 * (x @ v)[..., None] * v / (v @ v)
        return x


@fault("reflections by vectors that are not normalised", laws.log_det_complex_step, ORTHOGONAL)
class _(refflow.Orthogonal):
    def _reflected(self, x, order):
        for k in order:
            v = self.vectors[k]
            x = x - 2.0 * (x @ v)[..., None] * v
        return x


@fault("batch statistics at evaluation", laws.row_independence, NORM)
class _(refflow.BatchNorm):
    def forward(self, x, context=None):
        return refflow.BatchNorm.forward(self.initialized(x), x) if len(x) > 1 else super().forward(x)


@fault("moments that follow the batches", laws.repeatable, NORM)
class _(refflow.BatchNorm):
    def forward(self, x, context=None):
        y = super().forward(x)
        moments = self.moments.bijection
        moved = replace(moments, mean=0.9 * moments.mean + 0.1 * np.mean(x.real, axis=0))
        self.__dict__["moments"] = refflow.Frozen(moved)
        return y


@fault("a batch normalisation's log-determinant without eps", laws.log_det_complex_step, NORM)
class _(refflow.BatchNorm):
    def forward(self, x, context=None):
        log_det = xp.sum(self.log_scale - 0.5 * xp.log(self.moments.bijection.variance))
        return super().forward(x)[0], xp.zeros(x.shape[:-1], like=x) + log_det


@fault("a batch normalisation's log-determinant without its trained scale", laws.log_det_complex_step, NORM)
class _(refflow.BatchNorm):
    def forward(self, x, context=None):
        return super().forward(x)[0], self.moments.forward(x)[1]


@fault("a batch normalisation's log-determinant without H W", laws.log_det_complex_step, NORM_IMAGES, IMAGES)
class _(refflow.BatchNorm):
    def forward(self, x, context=None):
        y, log_det = super().forward(x)
        return y, log_det / 6.0


@fault("sqrt(v) + eps for sqrt(v + eps) in the inverse", laws.round_trip, NORM)
class _(refflow.BatchNorm):
    def inverse(self, y, context=None):
        m = self.moments.bijection
        u = (y - self.shift) * xp.exp(-self.log_scale)
        return m.mean + u * (xp.sqrt(m.variance) + m.eps), super().inverse(y)[1]


# Autoregressive maps.


def conditioned(name, law, clean=MAF, **case):
    """Class decorator: the clean map with its conditioner of this class."""

    def add(cls):
        made = object.__new__(module(cls))
        made.__dict__.update(clean.conditioner.__dict__)
        FAULTS.append(Fault(name, law, replace(clean, conditioner=made), clean, **{"x": X, **case}))
        return cls

    return add


@conditioned("MADE off by one: degree <= where it is <", laws.log_det_complex_step)
class _(refflow.MaskedMLP):
    def masked(self):
        higher = tuple(d + 1 for d in self.degrees)  # of the outputs alone
        *hidden, _ = refflow.MaskedMLP.masked(self).layers
        last = self.network.layers[-1]
        kept = np.array(self._hidden(6))[:, None] < np.array(higher * 2)
        *_, last = (*hidden, replace(last, weight=xp.where(kept, last.weight, 0.0)))
        return replace(self.network, layers=(*hidden, last))

    def _hidden(self, width):
        return [1 + j * 4 // width for j in range(width)]  # up to D, which the outputs' mask must stop


@conditioned("hidden units that are not masked", laws.log_det_complex_step)
class _(refflow.MaskedMLP):
    def masked(self):
        first, _ = self.network.layers
        return replace(self.network, layers=(first, refflow.MaskedMLP.masked(self).layers[1]))


@conditioned("outputs that are not masked", laws.log_det_complex_step)
class _(refflow.MaskedMLP):
    def masked(self):
        _, last = self.network.layers
        return replace(self.network, layers=(refflow.MaskedMLP.masked(self).layers[0], last))


@conditioned("a mask of another order going forward than back", laws.round_trip)
class _(refflow.MaskedMLP):
    def __call__(self, x, context=None):
        return refflow.MaskedMLP.__call__(replace(self, degrees=(1, 2, 3, 4)), x, context)


@fault("one pass short", laws.round_trip, MAF)
class _(refflow.AffineAutoregressive):
    def inverse(self, y, context=None):
        network, x = self.conditioner.masked(), y
        for _ in range(len(self.conditioner.degrees) - 1):  # the first pass reads y where it should read x
            s, t = self._scale_and_shift(network(x, context))
            x = (y - t) * xp.exp(-s)
        return x, -xp.sum(s, axis=-1)


@fault("coordinates solved in the order in which they stand", laws.round_trip, MAF)
class _(refflow.AffineAutoregressive):
    def inverse(self, y, context=None):
        network, x, log_det = self.conditioner.masked(), xp.zeros_like(y), 0.0
        for i in range(4):
            x_i, term = self._undone(y[..., i : i + 1], of_coordinate(network, i, 4)(x, context))
            x = xp.where(np.arange(4) == i, x_i, x)
            log_det = log_det + term[..., 0]
        return x, log_det


@fault("all coordinates solved at once, from y", laws.round_trip, MAF)
class _(refflow.AffineAutoregressive):
    def inverse(self, y, context=None):
        s, t = self._scale_and_shift(self.conditioner(y, context))
        return (y - t) * xp.exp(-s), -xp.sum(s, axis=-1)


@fault("the context ignored in the inverse", laws.round_trip, CONDITIONAL, context=CONTEXT)
class _(refflow.AffineAutoregressive):
    def inverse(self, y, context=None):
        return super().inverse(y, xp.zeros_like(context))


@fault("the scale map left out of the inverse", laws.round_trip, MAF)
class _(refflow.AffineAutoregressive):
    def inverse(self, y, context=None):
        return solve_by_degree(self.conditioner, replace(self, scale="exp")._undone, y, context)


@fault("the blocks of parameters taken for pairs, in the inverse", laws.round_trip, MAF)
class _(refflow.AffineAutoregressive):
    def inverse(self, y, context=None):
        pairs = [k // 2 + 4 * (k % 2) for k in range(8)]
        last = self.conditioner.network.layers[-1]
        last = replace(last, weight=last.weight[:, pairs], bias=last.bias[pairs])
        network = replace(self.conditioner.network, layers=(self.conditioner.network.layers[0], last))
        return solve_by_degree(replace(self.conditioner, network=network), self._undone, y, context)


@fault("the inverse's log-determinant with forward's sign", laws.antisymmetry, MAF)
class _(refflow.AffineAutoregressive):
    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, -log_det


@fault("the last coordinate's term alone in the log-determinant", laws.log_det_complex_step, MAF)
class _(refflow.AffineAutoregressive):
    def forward(self, x, context=None):
        s, _ = self._scale_and_shift(self.conditioner(x, context))
        return super().forward(x, context)[0], s[..., -1]


EACH = pytest.mark.parametrize("fault", [pytest.param(f, id=f.name) for f in FAULTS])


def writable(fault):
    return np.array(fault.x), None if fault.context is None else np.array(fault.context)


@EACH
def test_the_law_catches_the_fault(fault):
    moments = fault.broken.__dict__.get("moments")
    with pytest.raises(laws.LawViolation) as caught:
        fault.law(fault.broken, *writable(fault))
    assert caught.value.law == fault.law.__name__
    if moments is not None:
        fault.broken.__dict__["moments"] = moments


@EACH
def test_the_law_passes_the_clean_twin(fault):
    assert fault.law(fault.clean, *writable(fault)).status == "pass"


@EACH
def test_asking_all_laws_catches_the_fault(fault):
    with pytest.raises(laws.LawViolation):
        laws.check_laws(fault.broken, *writable(fault))


@pytest.mark.parametrize(
    "clean", [LU, UNBALANCED, LOWER, ORTHOGONAL, NORM, NORM_IMAGES, MAF, CONDITIONAL], ids=lambda f: repr(f)[:20]
)
def test_all_laws_pass_the_clean_twins(clean):
    x, context = (IMAGES if clean.event_rank == 3 else X), (CONTEXT if clean.context_dim else None)
    assert {f.status for f in laws.check_laws(clean, np.array(x), context)} <= {"pass", "inconclusive"}
