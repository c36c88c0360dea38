"""Seeded faults: each law catches the faults it is there for, and is silent on the clean twin.

Every fault is a flow that breaks a promise: a wrong inverse, log-determinant, density, sampler, or a row that sees its
neighbours. A fault that both directions share, such as another scale map, is just another valid flow and not listed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.modules import module, replace

RNG = np.random.default_rng(7)


def filled(m, scale=1.0):
    """Parameters on the dyadic grid, none of them at their start."""
    return refflow.map_arrays(lambda a: RNG.integers(1, 9, a.shape) * RNG.choice([-1, 1], a.shape) / 8 * scale, m)


MASK = refflow.Mask((4,), (1, 3))
NET = refflow.MLP.init(2, 4, rng=np.random.default_rng(0), hidden=(5,), activation="tanh")
CLEAN = filled(refflow.AffineCoupling(MASK, NET, "tanh"))
SHIFT_NET = refflow.MLP.init(2, 2, rng=np.random.default_rng(0), hidden=(5,), activation="tanh")
ADDITIVE = filled(refflow.AdditiveCoupling(MASK, SHIFT_NET))
CONTEXT_NET = refflow.MLP.init(2, 4, rng=np.random.default_rng(0), hidden=(5,), activation="tanh", context_dim=2)
CONDITIONAL = filled(refflow.AffineCoupling(MASK, CONTEXT_NET, "tanh"))
NORM = filled(refflow.ActNorm.init(2, rank=3))
DIAGONAL = filled(refflow.ElementwiseAffine.init((4,)))

X = RNG.integers(-16, 17, (6, 4)) / 8.0
IMAGES = RNG.integers(-16, 17, (5, 3, 2, 2)) / 8.0
CONTEXT = RNG.integers(-8, 9, (6, 2)) / 4.0


@dataclass(frozen=True)
class Fault:
    """A broken map, its clean twin, where to look, and the law that must name it."""

    name: str
    law: Any
    broken: Any
    clean: Any
    x: np.ndarray
    context: np.ndarray | None = None


FAULTS = []


def fault(name, law, clean=CLEAN, x=X, context=None):
    """Class decorator: a subclass with the clean twin's fields, in which something is wrong."""

    def add(cls):
        broken = module(cls)
        made = object.__new__(broken)
        made.__dict__.update(clean.__dict__)
        FAULTS.append(Fault(name, law, made, clean, x, context))
        return cls

    return add


class Affine(refflow.AffineCoupling):
    """The clean coupling, to break."""


# The log-determinant.


@fault("log-determinant with the wrong sign, both ways", laws.log_det_complex_step)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, -log_det

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, -log_det


@fault("inverse's log-determinant with forward's sign", laws.antisymmetry)
class _(Affine):
    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, -log_det


@fault("log-determinant averaged over coordinates, both ways", laws.log_det_ladder)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det / 2

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det / 2


@fault("log-determinant doubled, both ways", laws.log_det_complex_step)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, 2.0 * log_det

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, 2.0 * log_det


@fault("mask off by one in the inverse", laws.round_trip)
class _(Affine):
    def inverse(self, y, context=None):
        first, *rest = self.mask.moved
        return refflow.AffineCoupling.inverse(replace(self, mask=refflow.Mask((4,), (first - 1, *rest))), y, context)


@fault("one coordinate's term dropped from the log-determinant, both ways", laws.log_det_central)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        s, _ = self.scale_and_shift(self.mask.split(x)[0], context)
        return y, log_det - s[..., 0]

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        s, _ = self.scale_and_shift(self.mask.split(y)[0], context)
        return x, log_det + s[..., 0]


@fault("log-determinant off by one in a million, both ways", laws.log_det_complex_step)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det * (1 + 1e-6)

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det * (1 + 1e-6)


@fault("additive coupling that claims a log-determinant", laws.log_det_complex_step, ADDITIVE)
class _(refflow.AdditiveCoupling):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det + xp.sum(x, axis=-1)

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det - xp.sum(x, axis=-1)


@fault("ActNorm's log-determinant without H W", laws.log_det_complex_step, NORM, IMAGES)
class _(refflow.ActNorm):
    def _repeats(self, x):
        return 1.0


@fault("scale bounded in the map, not in the log-determinant", laws.log_det_complex_step)
class _(Affine):
    def forward(self, x, context=None):
        y, _ = super().forward(x, context)
        x1, _ = self.mask.split(x)
        return y, xp.sum(xp.split(self.conditioner(x1, context), (2, 2))[0], axis=-1)


# The inverse.


@fault("exp(s) for exp(-s) in the inverse", laws.round_trip)
class _(Affine):
    def inverse(self, y, context=None):
        y1, y2 = self.mask.split(y)
        s, t = self.scale_and_shift(y1, context)
        return self.mask.join(y1, (y2 - t) * xp.exp(s)), -xp.sum(s, axis=-1)


@fault("shift added in the inverse", laws.round_trip, ADDITIVE)
class _(refflow.AdditiveCoupling):
    def inverse(self, y, context=None):
        y1, y2 = self.mask.split(y)
        return self.mask.join(y1, y2 + self.conditioner(y1, context)), super().inverse(y, context)[1]


@fault("shift taken off after the scale in the inverse", laws.round_trip)
class _(Affine):
    def inverse(self, y, context=None):
        y1, y2 = self.mask.split(y)
        s, t = self.scale_and_shift(y1, context)
        return self.mask.join(y1, y2 * xp.exp(-s) - t), -xp.sum(s, axis=-1)


@fault("scale and shift blocks swapped in the inverse", laws.round_trip)
class _(Affine):
    def inverse(self, y, context=None):
        y1, y2 = self.mask.split(y)
        t, s = self.scale_and_shift(y1, context)
        return self.mask.join(y1, (y2 - t) * xp.exp(-s)), -xp.sum(s, axis=-1)


@fault("mask swapped in the inverse", laws.round_trip)
class _(Affine):
    def inverse(self, y, context=None):
        return refflow.AffineCoupling.inverse(replace(self, mask=self.mask.flip()), y, context)


@fault("forward moved by one in a million", laws.round_trip)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y + 1e-6, log_det


@fault("scale clamped in forward only", laws.round_trip)
class _(Affine):
    def forward(self, x, context=None):
        x1, x2 = self.mask.split(x)
        s, t = self.scale_and_shift(x1, context)
        s = xp.clip(s, -0.25, 0.25)
        return self.mask.join(x1, xp.exp(s) * x2 + t), xp.sum(s, axis=-1)


@fault("input clamped in forward only", laws.round_trip, CLEAN, 4.0 * X)
class _(Affine):
    def forward(self, x, context=None):
        return super().forward(xp.clip(x, -3.0, 3.0), context)


@fault("input clamped in forward only: no volume is left", laws.log_det_complex_step, CLEAN, 4.0 * X)
class _(Affine):
    def forward(self, x, context=None):
        return super().forward(xp.clip(x, -3.0, 3.0), context)


@fault("softplus for exp in forward only", laws.round_trip)
class _(Affine):
    def forward(self, x, context=None):
        x1, x2 = self.mask.split(x)
        s, t = self.scale_and_shift(x1, context)
        s = xp.log(xp.softplus(s))
        return self.mask.join(x1, xp.exp(s) * x2 + t), xp.sum(s, axis=-1)


@fault("softplus for exp both ways, exp's log-determinant", laws.log_det_complex_step)
class _(Affine):
    def forward(self, x, context=None):
        x1, x2 = self.mask.split(x)
        s, t = self.scale_and_shift(x1, context)
        return self.mask.join(x1, xp.softplus(s) * x2 + t), xp.sum(s, axis=-1)

    def inverse(self, y, context=None):
        y1, y2 = self.mask.split(y)
        s, t = self.scale_and_shift(y1, context)
        return self.mask.join(y1, (y2 - t) / xp.softplus(s)), -xp.sum(s, axis=-1)


@fault("the order applied again for its inverse", laws.round_trip, refflow.Permutation((1, 2, 3, 0)))
class _(refflow.Permutation):
    def inverse(self, y, context=None):
        return self.forward(y, context)


CHAIN = refflow.Chain((CLEAN, refflow.Permutation((1, 2, 3, 0)), DIAGONAL))


@fault("layers in the wrong order in the inverse", laws.round_trip, CHAIN)
class _(refflow.Chain):
    def inverse(self, y, context=None):
        log_det = xp.zeros(y.shape[:-1], like=y)
        for f in self.bijections:
            y, term = f.inverse(y, context)
            log_det = log_det + term
        return y, log_det


@fault("a layer missing from the chain's log-determinant, both ways", laws.chain_additivity, CHAIN)
class _(refflow.Chain):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det - self.bijections[-1].forward(x, context)[1]

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det + self.bijections[-1].forward(x, context)[1]


@fault("values beyond 5 clamped both ways: not onto", laws.onto, DIAGONAL)
class _(refflow.ElementwiseAffine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return xp.clip(y, -5.0, 5.0), log_det

    def inverse(self, y, context=None):
        return super().inverse(xp.clip(y, -5.0, 5.0), context)


@fault("tanh in front of the flow: saturates", laws.onto, DIAGONAL)
class _(refflow.ElementwiseAffine):
    def forward(self, x, context=None):
        t = xp.tanh(x)
        y, log_det = super().forward(t, context)
        return y, log_det + xp.sum(xp.log(1.0 - t * t), axis=-1)

    def inverse(self, y, context=None):
        t, log_det = super().inverse(y, context)
        with np.errstate(all="ignore"):
            return 0.5 * xp.log((1.0 + t) / (1.0 - t)), log_det - xp.sum(xp.log(1.0 - t * t), axis=-1)


# Arithmetic, rows and memory.


def rounded(a):
    """Through float32 and back."""
    return a.astype(np.complex64 if a.dtype.kind == "c" else np.float32).astype(a.dtype)


@fault("the network's input in float32, both ways", laws.continuity)
class _(Affine):
    def scale_and_shift(self, x1, context=None):
        return super().scale_and_shift(rounded(x1), context)


@fault("the network's input in float16, both ways", laws.continuity)
class _(Affine):
    def scale_and_shift(self, x1, context=None):
        if x1.dtype.kind == "c":
            return super().scale_and_shift(x1, context)
        return super().scale_and_shift(x1.astype(np.float16).astype(x1.dtype), context)


@fault("log-determinant summed in float32", laws.log_det_complex_step)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, rounded(log_det)


@fault("a constant in float32 precision", laws.precision)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y + (0.1 if y.dtype == np.longdouble else float(np.float32(0.1))), log_det


@fault("float32 raised to float64", laws.dtypes)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det * np.ones(1)[0] if log_det.ndim else log_det.astype(np.float64)

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det.astype(np.float64)


@fault("log-determinant keeps a trailing axis", laws.shapes)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det[..., None]


@fault("input written to", laws.no_mutation)
class _(Affine):
    def forward(self, x, context=None):
        x[..., 0] += 1.0
        return super().forward(x, context)


@fault("standardised by the batch", laws.row_independence)
class _(Affine):
    def forward(self, x, context=None):
        return super().forward(x - np.mean(x, axis=0), context)


@fault("context of row 0 for all rows", laws.row_independence, CONDITIONAL, X, CONTEXT)
class _(refflow.AffineCoupling):
    def forward(self, x, context=None):
        return super().forward(x, context if context is None or context.ndim < 2 else context[:1] + 0.0 * context)


@fault("context ignored in the inverse", laws.round_trip, CONDITIONAL, X, CONTEXT)
class _(refflow.AffineCoupling):
    def inverse(self, y, context=None):
        return super().inverse(y, 0.0 * context)


@fault("dropout left on", laws.repeatable, filled(refflow.AffineCoupling(MASK, replace(NET, dropout=0.5), "tanh")))
class _(refflow.AffineCoupling):
    def scale_and_shift(self, x1, context=None):
        noisy = replace(self.conditioner, rng=np.random.default_rng())
        return refflow.AffineCoupling.scale_and_shift(replace(self, conditioner=noisy), x1, context)


@fault("NaN replaced by 0", laws.nan_stays)
class _(Affine):
    def forward(self, x, context=None):
        return super().forward(np.nan_to_num(x), context)


@fault("the last rows of a large batch left out", laws.batching)
class _(Affine):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        if len(np.atleast_2d(x)) > 4:
            y[4:] += 1e-3
        return y, log_det


@fault("inverse answers from a cache", laws.round_trip)
class _(Affine):
    def forward(self, x, context=None):
        self.__dict__["cache"] = x, super().forward(x, context)
        return self.cache[1]

    def inverse(self, y, context=None):
        return self.cache[0], -self.cache[1][1]


# Densities.

SMALL = refflow.Flow(
    refflow.StandardNormal((2,)),
    refflow.Chain(
        (
            filled(
                refflow.AffineCoupling(
                    refflow.half_mask(2), refflow.MLP.init(1, 2, rng=RNG, hidden=(4,), activation="tanh")
                )
            ),
            refflow.Reverse(),
            filled(refflow.ElementwiseAffine.init((2,))),
        )
    ),
)
POINTS = RNG.integers(-16, 17, (5, 2)) / 8.0


@fault("the base's constant missing", laws.normalisation, SMALL, POINTS)
class _(refflow.Flow):
    def log_prob(self, x, context=None):
        return super().log_prob(x, context) + np.log(2.0 * np.pi)


@fault("log-determinant subtracted in log_prob", laws.change_of_variables, SMALL, POINTS)
class _(refflow.Flow):
    def log_prob(self, x, context=None):
        return super().log_prob(x, context) - 2.0 * self.bijection.forward(x, context)[1]


@fault("log_prob is the mean of the batch", laws.density_rows, SMALL, POINTS)
class _(refflow.Flow):
    def log_prob(self, x, context=None):
        found = super().log_prob(x, context)
        return np.full_like(found, np.mean(found))


@fault("decode at another temperature", laws.coding, SMALL, POINTS)
class _(refflow.Flow):
    def decode(self, z, context=None):
        return super().decode(0.97 * z, context)


@fault("samples cut off at 2", laws.samples_follow_base, SMALL, POINTS)
class _(refflow.Flow):
    def sample(self, n, context=None, *, seed, chunks=None):
        z = self.encode(super().sample(n, context, seed=seed), context)
        return self.decode(np.clip(z, -2.0, 2.0), context)


@fault("samples with one coordinate's noise for both", laws.stein, SMALL, POINTS)
class _(refflow.Flow):
    def sample(self, n, context=None, *, seed, chunks=None):
        z = self.encode(super().sample(n, context, seed=seed), context)
        return self.decode(z[:, :1] * np.array([1.0, 0.5]), context)


@fault("samples at temperature 0.9", laws.samples_follow_density, SMALL, POINTS)
class _(refflow.Flow):
    def sample(self, n, context=None, *, seed, chunks=None):
        z = self.encode(super().sample(n, context, seed=seed), context)
        return self.decode(0.9 * z, context)


@fault("samples through forward", laws.samples_follow_density, SMALL, POINTS)
class _(refflow.Flow):
    def sample(self, n, context=None, *, seed, chunks=None):
        return self.bijection.forward(np.random.default_rng(seed).standard_normal((n, 2)), context)[0]


@fault("samples repeated", laws.sampling, SMALL, POINTS)
class _(refflow.Flow):
    def sample_and_log_prob(self, n, context=None, *, seed, chunks=None):
        x, log_p = super().sample_and_log_prob(n, context, seed=seed)
        return np.repeat(x[:1], n, axis=0), np.repeat(log_p[:1], n)

    def sample(self, n, context=None, *, seed, chunks=None):
        return self.sample_and_log_prob(n, context, seed=seed)[0]


@fault("the sample's log-density without its log-determinant", laws.sampled_density, SMALL, POINTS)
class _(refflow.Flow):
    def sample_and_log_prob(self, n, context=None, *, seed, chunks=None):
        x, _ = super().sample_and_log_prob(n, context, seed=seed)
        return x, self.base.log_prob(self.encode(x, context))


@fault("samples that ignore the seed", laws.sampling, SMALL, POINTS)
class _(refflow.Flow):
    def sample_and_log_prob(self, n, context=None, *, seed, chunks=None):
        return super().sample_and_log_prob(n, context, seed=0)

    def sample(self, n, context=None, *, seed, chunks=None):
        return super().sample(n, context, seed=0)


def writable(fault):
    return np.array(fault.x), None if fault.context is None else np.array(fault.context)


EACH = pytest.mark.parametrize("fault", [pytest.param(f, id=f.name) for f in FAULTS])


def test_there_are_enough_faults():
    assert len(FAULTS) >= 20
    assert len({f.name for f in FAULTS}) == len(FAULTS)


def test_every_law_is_needed_by_a_fault_or_says_why():
    """`double_inverse` and `parameters_round_trip` check refflow's own Inverse and bind: their faults are below."""
    used = {f.law for f in FAULTS}
    unused = {law for law in (*laws.BIJECTION_LAWS, *laws.FLOW_LAWS, laws.onto) if law not in used}
    assert unused == {laws.double_inverse, laws.parameters_round_trip}


@EACH
def test_the_law_catches_the_fault(fault):
    with pytest.raises(laws.LawViolation) as caught:
        fault.law(fault.broken, *writable(fault))
    assert caught.value.law == fault.law.__name__


@EACH
def test_the_law_passes_the_clean_twin(fault):
    assert fault.law(fault.clean, *writable(fault)).status == "pass"


@EACH
def test_asking_all_laws_catches_the_fault(fault):
    if fault.law is laws.onto:
        pytest.skip("onto is asked by name: check_laws cannot know what a map claims")
    with pytest.raises(laws.LawViolation):
        laws.check_laws(fault.broken, *writable(fault))


@EACH
def test_all_laws_pass_the_clean_twin(fault):
    found = laws.check_laws(fault.clean, *writable(fault))
    assert {f.status for f in found} <= {"pass", "inconclusive"}


def test_a_module_that_bind_rebuilds_wrongly():
    """Parameters that bind does not put back: a field that is set, and used, outside the fields of the module."""

    @module
    class Hidden(refflow.ElementwiseAffine):
        def forward(self, x, context=None):
            y, log_det = super().forward(x, context)
            return y * self.__dict__.get("gain", 1.0), log_det

    f = Hidden(np.zeros(2), np.zeros(2))
    laws.parameters_round_trip(f, X[:, :2])
    object.__setattr__(f, "counter", [0])

    class Counting(Hidden):
        def forward(self, x, context=None):
            self.counter[0] += 1
            return super().forward(x + self.counter[0], context)

    g = object.__new__(Counting)
    g.__dict__.update(f.__dict__)
    with pytest.raises(laws.LawViolation, match="parameters_round_trip"):
        laws.parameters_round_trip(g, X[:, :2])


def test_an_inverse_whose_inverse_is_another_map():
    @module
    class Turning(refflow.ElementwiseAffine):
        calls = 0

        def forward(self, x, context=None):
            type(self).calls += 1
            return super().forward(x + self.calls, context)

    with pytest.raises(laws.LawViolation, match="double_inverse"):
        laws.double_inverse(Turning(np.zeros(2), np.zeros(2)), X[:, :2])


def test_foreign_functions_are_judged_too():
    """Two plain NumPy functions: right, and with a sign wrong; no tape, no module, no complex numbers."""

    def forward(x):
        x = np.asarray(x, dtype=np.float64)
        return np.sinh(x), np.sum(np.log(np.cosh(x)), axis=-1)

    def inverse(y):
        x = np.arcsinh(np.asarray(y, dtype=np.float64))
        return x, -np.sum(np.log(np.cosh(x)), axis=-1)

    def wrong(y):
        x, log_det = inverse(y)
        return x, -log_det

    found = laws.check_laws(laws.Functions(forward, inverse), X)
    assert {f.status for f in found if f.law in ("round_trip", "antisymmetry", "log_det_ladder")} == {"pass"}
    with pytest.raises(laws.LawViolation, match="antisymmetry"):
        laws.check_laws(laws.Functions(forward, wrong), X)


def test_foreign_functions_of_plain_batches_only():
    """Code that takes `(n, d)` only, with a context, always in float32: no false alarm from what it never claimed."""

    def forward(x, c):
        n, _ = x.shape
        assert n > 0
        scale = np.exp(0.5 * np.tanh(c[:, :1]))
        return (x * scale).astype(np.float32), np.full(n, 2.0, np.float32) * 0.5 * np.tanh(c[:, 0])

    def inverse(y, c):
        scale = np.exp(0.5 * np.tanh(c[:, :1]))
        return (y / scale).astype(np.float32), np.float32(-2.0) * 0.5 * np.tanh(c[:, 0])

    x, c = X[:, :2].astype(np.float32), CONTEXT.astype(np.float32)
    found = laws.check_laws(laws.Functions(forward, inverse), x, c)
    assert {f.law: f.status for f in found}["round_trip"] == "pass"
    assert {f.law: f.status for f in found}["log_det_ladder"] == "inconclusive"


def test_lossy_is_not_wrong():
    """A correct black box with stiff intermediates is warned about, never failed (y = (3.3 x + 1e4) 0.7 - 7e3)."""
    slope = 3.3 * 0.7

    def forward(x):
        return (3.3 * x + 1e4) * 0.7 - 7e3, np.full(x.shape[:-1], x.shape[-1] * np.log(slope))

    def inverse(y):
        return ((y + 7e3) / 0.7 - 1e4) / 3.3, np.full(y.shape[:-1], -y.shape[-1] * np.log(slope))

    with pytest.warns(laws.LossyWarning, match="round_trip"):
        assert laws.round_trip(laws.Functions(forward, inverse), X).status == "lossy"


def test_foreign_maps_that_take_float64_only_are_judged():
    """torch, JAX and SciPy refuse long double and complex numbers, each in its own way."""

    def forward(x):
        assert x.dtype == np.float64, "no other numbers here"
        return np.sinh(x), np.log(np.cosh(x)).sum(axis=-1)

    def inverse(y):
        assert y.dtype == np.float64
        x = np.arcsinh(y)
        return x, -np.log(np.cosh(x)).sum(axis=-1)

    found = {f.law: f.status for f in laws.check_laws(laws.Functions(forward, inverse), X)}
    assert found["precision"] == "inconclusive"
    assert found["log_det_ladder"] == found["round_trip"] == "pass"
