"""Seeded faults of the maps whose inverse is a root: each caught by its law; the clean twins pass."""

import numpy as np
import pytest
from test_faults import Fault

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.bijections.mixture import _value_and_slope, mixture_logit
from refflow.bijections.planar import bend_slope, excess, gap, share, unbend
from refflow.modules import module, replace

RNG = np.random.default_rng(21)


def filled(m, scale=1.0):
    return refflow.map_arrays(lambda a: RNG.integers(1, 9, a.shape) * RNG.choice([-1, 1], a.shape) / 8 * scale, m)


MASK = refflow.half_mask(4)
MIXTURE = filled(
    refflow.LogisticMixtureCoupling(MASK, refflow.MLP.init(2, 22, rng=RNG, hidden=(4,), activation="tanh"), 3)
)
PULLED = refflow.Planar(np.array([1.0, -0.5, 0.75, 0.25]), np.array([-2.0, 1.0, -1.0, -0.5]), np.array([0.125]))
RADIAL = refflow.Radial(np.array([0.5, -0.25, 1.0, 0.0]), np.array([0.25]), np.array([-1.5]))
SYLVESTER = replace(
    filled(refflow.Sylvester.init(4, 3, rng=RNG)), diagonals=np.array([[-1.5, 0.5, -0.75], [1.0, 0.75, 2.0]])
)
RESIDUAL = filled(refflow.ResidualBlock.init(4, rng=RNG, hidden=(5,)), 2.0)
FOLDED = refflow.ResidualBlock(
    (refflow.Linear(1.2 * np.eye(4), np.zeros(4)), refflow.Linear(-1.2 * np.eye(4), np.zeros(4))), "tanh"
)

NEAR = 0.9375 * RNG.choice([-1.0, 1.0], (6, 4))
X = RNG.integers(-16, 17, (6, 4)) / 8.0
FAULTS = []


def fault(name, law, clean, turn=False, x=X):
    """Class decorator: a subclass with the clean twin's fields, in which something is wrong; turned round or not."""

    def add(cls):
        made = object.__new__(module(cls))
        made.__dict__.update(clean.__dict__)
        FAULTS.append(Fault(name, law, *(map(laws.turned, (made, clean)) if turn else (made, clean)), x))
        return cls

    return add


# Roots.


@fault("twelve bisections for a root", laws.round_trip, MIXTURE)
class _(refflow.LogisticMixtureCoupling):
    def inverse(self, y, context=None):
        y1, y2 = self.mask.split(y)
        a, b, mixture = self.coefficients(y1, context)
        t = (y2 - b) * xp.exp(-a)
        quantiles = mixture[1] + xp.exp(mixture[2]) * t
        low, high = xp.min(quantiles, axis=0), xp.max(quantiles, axis=0)
        for _ in range(12):
            middle = 0.5 * (low + high)
            below = mixture_logit(middle, *mixture)[0] < t
            low, high = xp.where(below, middle, low), xp.where(below, high, middle)
        return self.mask.join(y1, middle), -xp.sum(a + mixture_logit(middle, *mixture)[1], axis=-1)


@fault("a bracket of habit, [-10, 10]", laws.onto, MIXTURE, turn=True)
class _(refflow.LogisticMixtureCoupling):
    def inverse(self, y, context=None):
        y1, y2 = self.mask.split(y)
        a, b, mixture = self.coefficients(y1, context)
        t = (y2 - b) * xp.exp(-a)
        x2 = xp.solve_increasing(_value_and_slope, mixture, t, t * 0.0 - 10.0, t * 0.0 + 10.0)
        return self.mask.join(y1, x2), -xp.sum(a + mixture_logit(x2, *mixture)[1], axis=-1)


# The mixture.


@fault("the distribution function clamped to [1e-6, 1 - 1e-6] before its logit", laws.onto, MIXTURE)
class _(refflow.LogisticMixtureCoupling):
    def forward(self, x, context=None):
        x1, x2 = self.mask.split(x)
        a, b, mixture = self.coefficients(x1, context)
        value, log_slope = mixture_logit(x2, *mixture)
        return self.mask.join(x1, xp.exp(a) * xp.clip(value, -13.8, 13.8) + b), xp.sum(a + log_slope, axis=-1)


@fault("log-determinant without the outer scale, both ways", laws.log_det_complex_step, MIXTURE)
class _(refflow.LogisticMixtureCoupling):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det - xp.sum(self.coefficients(self.mask.split(x)[0], context)[0], axis=-1)

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det + xp.sum(self.coefficients(self.mask.split(y)[0], context)[0], axis=-1)


@fault("log-slope of the distribution function, not of its logit", laws.log_det_complex_step, MIXTURE)
class _(refflow.LogisticMixtureCoupling):
    def forward(self, x, context=None):
        x1, x2 = self.mask.split(x)
        a, b, (log_pi, mu, s) = self.coefficients(x1, context)
        z = (x2 - mu) * xp.exp(-s)
        log_density = xp.logsumexp(log_pi - s + xp.log_sigmoid(z) + xp.log_sigmoid(-z), axis=0)
        y2 = xp.exp(a) * mixture_logit(x2, log_pi, mu, s)[0] + b
        return self.mask.join(x1, y2), xp.sum(a + log_density, axis=-1)


# Planar, radial, Sylvester.


class Unmended:
    """u as it comes, w.u = -3.4375 < -1: not one to one, with log|.| to hide it."""

    def mended(self):
        return xp.sum(self.w * self.u, keepdims=True), self.u

    def forward(self, x, context=None):
        t, u = self.mended()
        a = self._along(x)
        return x + u * xp.tanh(a), xp.log(xp.abs(1.0 + t * (1.0 - xp.tanh(a) ** 2)))[..., 0]


@fault("the planar constraint not enforced", laws.round_trip, PULLED)
class _(Unmended, refflow.Planar):
    pass


@fault("the mended direction in the value only", laws.log_det_complex_step, PULLED)
class _(refflow.Planar):
    def forward(self, x, context=None):
        y, _ = super().forward(x, context)
        slope = 1.0 + xp.sum(self.w * self.u) * (1.0 - xp.tanh(self._along(x)) ** 2)
        return y, xp.log(xp.abs(slope))[..., 0]


@fault("only the term along the radius in the log-determinant, both ways", laws.log_det_complex_step, RADIAL)
class _(refflow.Radial):
    def _stretch(self, r):
        k, more, log_det = super()._stretch(r)
        return k, more, log_det - (self.dim - 1) * xp.log(k)[..., 0]


@fault("the negative root of the radius", laws.round_trip, RADIAL)
class _(refflow.Radial):
    def inverse(self, y, context=None):
        away, alpha, k0 = y - self.center, xp.exp(self.log_alpha), gap(self.raw_beta)
        s = xp.sqrt(xp.sum(away * away, axis=-1, keepdims=True))
        p = alpha * k0 - s
        r = 0.5 * (-p - xp.sqrt(p * p + 4.0 * alpha * s))
        k, _, log_det = self._stretch(r)
        return self.center + away / k, -log_det


@fault("back substitution from first to last", laws.round_trip, SYLVESTER)
class _(refflow.Sylvester):
    def inverse(self, y, context=None):
        w, m = self._into(y), self.directions
        a = [unbend(self._r(1, i) * w[..., i] + self.b[i], self._t(i)) for i in range(m)]
        return self._bent(y, a, -1.0)


@fault("one pass of back substitution short", laws.round_trip, SYLVESTER)
class _(refflow.Sylvester):
    def inverse(self, y, context=None):
        x, _ = super().inverse(y, context)
        v = self._into(x)
        a = [self._above(1, i, v[..., i + 1 :]) + self._r(1, i) * v[..., i] + self.b[i] for i in range(self.directions)]
        a[0] = a[0] + excess(self._t(0)) * xp.tanh(a[0])
        return self._bent(y, a, -1.0)


@fault("log-determinant of one direction only", laws.log_det_complex_step, SYLVESTER)
class _(refflow.Sylvester):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        v = self._into(x)
        a = self._above(1, 0, v[..., 1:]) + self._r(1, 0) * v[..., 0] + self.b[0]
        return y, xp.log(bend_slope(a, self._t(0))) + 0.0 * log_det


@fault("the share of the diagonal forgotten in the value", laws.log_det_complex_step, SYLVESTER)
class _(refflow.Sylvester):
    def _r(self, which, i):
        r = super()._r(which, i)
        return r if which else r / share(self._t(i))


# Residual.


@fault("five steps to the fixed point and no Newton step", laws.round_trip, RESIDUAL)
class _(refflow.ResidualBlock):
    def inverse(self, y, context=None):
        weights, x = self.bounded(), y
        for _ in range(5):
            x = y - self._residual(x, *weights)
        return x, -xp.log_det_leading(xp.identity_plus(self._jacobian(x, *weights)))


@fault("the Lipschitz constant, 1.44 here, not enforced: three x for some y", laws.round_trip, FOLDED, x=NEAR)
class _(refflow.ResidualBlock):
    def bounded(self):
        return tuple(a for layer in self.layers for a in (layer.weight, layer.bias))


@fault("the trace of J_g for log det(I + J_g), both ways", laws.log_det_complex_step, RESIDUAL)
class _(refflow.ResidualBlock):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        j = self._jacobian(x, *self.bounded())
        return y, sum(j[..., i, i] for i in range(self.dim)) + 0.0 * log_det


@fault("slopes at the activations instead of before them", laws.log_det_complex_step, RESIDUAL)
class _(refflow.ResidualBlock):
    def _jacobian(self, x, *weights):
        a = xp.linear(x, *weights[:2])
        slope = xp.exp(xp.minimum(xp.expm1(xp.minimum(a, 0.0)), 0.0))
        inner = xp.expand_dims(slope, -1) * xp.matrix_transpose(weights[0])
        return xp.matmul(xp.matrix_transpose(weights[2]), inner)


EACH = pytest.mark.parametrize("fault", [pytest.param(f, id=f.name) for f in FAULTS])


@EACH
def test_the_law_catches_the_fault(fault):
    with pytest.raises(laws.LawViolation) as caught:
        fault.law(fault.broken, fault.x)
    assert caught.value.law == fault.law.__name__


@EACH
def test_the_law_passes_the_clean_twin(fault):
    assert fault.law(fault.clean, fault.x).status == "pass"


@pytest.mark.parametrize("clean", [MIXTURE, PULLED, RADIAL, SYLVESTER, RESIDUAL], ids=lambda f: type(f).__name__)
def test_all_laws_pass_the_clean_twin(clean):
    found = laws.check_laws(clean, X)
    assert {f.status for f in found} <= {"pass", "inconclusive"}


# What the laws of values leave to others.


def inverse_derivatives(f, y):
    """dx/dy by autograd and by the complex step, against J^-1 with J of forward at x by the complex step (1e-11)."""
    x = f.inverse(y)[0]
    forward = np.stack([f.forward(x + 1e-30j * e)[0].imag / 1e-30 for e in np.eye(4)], axis=-1)
    want = np.linalg.inv(forward)
    by_step = np.stack([f.inverse(y + 1e-30j * e)[0].imag / 1e-30 for e in np.eye(4)], axis=-1)
    rows = [xp.value_and_grad(lambda y, i=i: xp.sum(f.inverse(y)[0][..., i]))(y)[1] for i in range(4)]
    for got in (by_step, np.stack(rows, axis=-2)):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * np.abs(want).max())


@pytest.mark.parametrize("clean", [MIXTURE, PULLED, RADIAL, SYLVESTER, RESIDUAL], ids=lambda f: type(f).__name__)
def test_derivatives_of_inverses_are_inverses_of_derivatives(clean):
    inverse_derivatives(clean, X)


def test_a_root_cut_off_the_tape_has_another_derivative():
    """Its values are right, so that the laws, which let differences overrule the complex step, pass it."""

    @module
    class Cut(refflow.Planar):
        def inverse(self, y, context=None):
            t, u = self.mended()
            a = xp.detach(unbend(self._along(y), t))
            return y - u * xp.tanh(a), -xp.log(bend_slope(a, t))[..., 0]

    broken = Cut(PULLED.w, PULLED.u, PULLED.b)
    assert np.array_equal(broken.inverse(X)[0], PULLED.inverse(X)[0])
    with pytest.raises(AssertionError, match="Not equal"):
        inverse_derivatives(broken, X)


def test_log_determinants_without_absolute_value_are_not_judged_a_pass():
    """NaN where the constraint is broken: rows that no law may judge, and says so."""

    @module
    class Bare(Unmended, refflow.Planar):
        def forward(self, x, context=None):
            t, u = self.mended()
            a = self._along(x)
            return x + u * xp.tanh(a), xp.log(1.0 + t * (1.0 - xp.tanh(a) ** 2))[..., 0]

    broken = Bare(PULLED.w, PULLED.u, PULLED.b)
    near = 0.125 * X
    with np.errstate(invalid="ignore"):
        assert laws.log_det_complex_step(broken, near).judged < 0.5
    assert laws.log_det_complex_step(PULLED, near).judged == 1.0
