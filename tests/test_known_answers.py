"""Densities with known answers: Gaussians through linear maps, the funnel, the banana, the pinwheel, rings and moons;
and the mass of every map of one dimension.

Closed forms hold to 1e-12 in float64, relative to 1 + |log p|: some hundred roundings. A new line of the registry is
asked by itself: if the map is linear for its Gaussian, if it takes one coordinate for its mass.
"""

import dataclasses

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from registry import REGISTRY, Entry

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.bijections.base import batch_zeros
from refflow.data import planar
from refflow.modules import arrays, bind_arrays, map_modules, module, named_arrays
from refflow.strategies import POSITIVE

CLOSED = 1e-12
RNG = np.random.default_rng(9)


def near(got, want, bound=CLOSED):
    error = np.abs(np.asarray(got) - want) / (1.0 + np.abs(want))
    assert np.all(error <= bound), (np.max(error), got, want)


def drawn(m, seed, scale=1.0):
    """The map with dyadic parameters in [-scale, scale], none of them 0."""
    rng = np.random.default_rng(seed)
    found = {
        n: scale * rng.integers(1, 9, a.shape) * rng.choice([-1, 1], a.shape) / 8 for n, a in named_arrays(m).items()
    }
    found = {n: np.abs(a) if n.endswith(POSITIVE) else a for n, a in found.items()}
    return bind_arrays(m, xp.rebuild(arrays(m), iter(found.values()))) if found else m


# Gaussians.


def is_linear(entry: Entry) -> bool:
    """f(x + h) - f(x) is the same everywhere, for unconditional maps of vectors onto all of space."""
    if entry.context_dim or len(entry.event_shape) > 1 or not (entry.onto and entry.domain is None):
        return False
    f, rng = drawn(entry.map, 0), np.random.default_rng(0)
    x, h = 3.0 * rng.normal(size=(2, 16, *entry.event_shape))
    moved = f.forward(x + h)[0] - f.forward(x)[0]
    return bool(np.allclose(moved, f.forward(h)[0] - f.forward(0.0 * h)[0], rtol=1e-6, atol=1e-8))


NETWORK = refflow.MLP((refflow.Linear(RNG.normal(size=(2, 2)), RNG.normal(size=2)),))
LINEAR = [e for e in REGISTRY if is_linear(e)] + [
    Entry("additive coupling, linear network", refflow.AdditiveCoupling(refflow.half_mask(4), NETWORK), (4,)),
    Entry(
        "chain of linear maps",
        refflow.Chain(
            (
                refflow.ElementwiseAffine.init((4,)), refflow.AdditiveCoupling(refflow.half_mask(4), NETWORK),
                refflow.Permutation((2, 0, 3, 1)), refflow.AdditiveCoupling(refflow.half_mask(4), NETWORK),
            )
        ),
        (4,),
    ),
]  # fmt: skip


def test_every_linear_family_is_asked():
    found = {type(e.map) for e in LINEAR}
    assert {refflow.ElementwiseAffine, refflow.Standardize, refflow.ActNorm, refflow.Permutation} <= found


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("entry", LINEAR, ids=lambda e: e.name)
def test_a_gaussian_through_a_linear_map(entry, seed):
    """z = A x + b with z ~ N(0, I) makes x ~ N(-A^-1 b, (A^T A)^-1): by its quadratic form, and by `FullNormal`."""
    f, (dim,) = drawn(entry.map, seed), entry.event_shape
    b = f.forward(np.zeros((1, dim)))[0][0]
    a = (f.forward(np.eye(dim))[0] - b).T
    x = np.random.default_rng(seed).normal(size=(40, dim))
    log_p = refflow.Flow(refflow.StandardNormal((dim,)), f).log_prob(x)
    z = x @ a.T + b
    near(log_p, -0.5 * np.sum(z**2, axis=1) + np.linalg.slogdet(a)[1] - 0.5 * dim * np.log(2 * np.pi))
    inverse = np.linalg.inv(a)
    normal = refflow.FullNormal.of(-inverse @ b, inverse @ inverse.T)
    near(log_p, normal.log_prob(x), CLOSED * np.linalg.cond(a) ** 2)  # a covariance squares the condition of A


def test_a_full_normal_is_a_standard_normal_through_its_whitening():
    base = refflow.FullNormal.of(np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]]))
    z = base.sample((500_000,), np.random.default_rng(1), np.zeros(1))
    assert np.allclose(np.cov(z.T), [[2.0, 0.6], [0.6, 0.5]], atol=6 * 2.0 * np.sqrt(2 / 500_000))


# Flows that are the density.


@module
class Quadratic(refflow.Conditioner):
    """t(x_1) = -b (x_1^2 - c)."""

    b: float
    c: float

    in_features = out_features = 1
    context_dim = 0

    def __call__(self, x, context=None):
        return -self.b * (xp.square(x) - self.c)


@module
class Twist(refflow.Bijection):
    """A rotation of the plane by the angle `rate` times the radius: radii stay, so volume does."""

    rate: float

    event_shape = (2,)

    def _turned(self, x, sign):
        radius = xp.sqrt(xp.square(x[..., 0]) + xp.square(x[..., 1]))
        angle = sign * self.rate * radius
        c, s = xp.cos(angle), xp.sin(angle)
        y = xp.stack([c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1]])
        return y, batch_zeros(y, 1)

    def forward(self, x, context=None):
        return self._turned(x, 1.0)

    def inverse(self, y, context=None):
        return self._turned(y, -1.0)


def funnel(dim):
    """Neal (2003, section 8): v ~ N(0, 9), x_i ~ N(0, e^v). Data to latent it is one affine coupling with s = -v / 2
    and nothing to clamp, on a base with standard deviation 3 in v."""
    mask = refflow.Mask((dim,), tuple(range(1, dim)))
    weight = np.concatenate([np.full((1, dim - 1), -0.5), np.zeros((1, dim - 1))], axis=1)
    net = refflow.MLP((refflow.Linear(weight, np.zeros(2 * (dim - 1))),))
    base = refflow.DiagonalNormal(np.zeros(dim), np.array([np.log(3.0)] + [0.0] * (dim - 1)))
    return refflow.Flow(base, refflow.AffineCoupling(mask, net, "exp"))


def banana(b, c):
    """A Gaussian bent along a parabola: x_1 ~ N(0, 1), x_2 ~ N(b (x_1^2 - c), 1/4)."""
    base = refflow.DiagonalNormal(np.zeros(2), np.log([1.0, 0.5]))
    return refflow.Flow(base, refflow.AdditiveCoupling(refflow.half_mask(2), Quadratic(b, c)))


def pinwheel(arms, rate):
    """Arms of a star, each a narrow Gaussian, twisted."""
    angle = 2 * np.pi * np.arange(arms) / arms
    out, across = np.stack([np.cos(angle), np.sin(angle)], 1), np.stack([-np.sin(angle), np.cos(angle)], 1)
    covariances = 0.25 * out[:, :, None] * out[:, None] + 0.01 * across[:, :, None] * across[:, None]
    base = refflow.MixtureOfNormals.of(np.full(arms, 1 / arms), 1.5 * out, covariances)
    return refflow.Flow(base, Twist(rate)), (1.5 * out, covariances)


@pytest.mark.parametrize("dim", [2, 5, 10])
def test_neals_funnel_is_one_coupling(dim):
    flow, norm = funnel(dim), scipy.stats.norm
    v = np.array([-9.0, -3.0, -0.5, 0.0, 1.0, 4.0, 9.0])
    x = np.concatenate([v[:, None], np.exp(v / 2)[:, None] * RNG.normal(size=(7, dim - 1))], axis=1)
    exact = norm.logpdf(v, 0, 3) + norm.logpdf(x[:, 1:], 0, np.exp(v / 2)[:, None]).sum(axis=1)
    near(flow.log_prob(x), exact)
    drawn_v = flow.sample(20_000, seed=3)[:, 0]
    assert scipy.stats.kstest(drawn_v, norm(0, 3).cdf).pvalue > 1e-9


def test_the_banana_is_one_coupling():
    flow, norm = banana(0.75, 1.5), scipy.stats.norm
    x = 3.0 * RNG.normal(size=(50, 2))
    near(flow.log_prob(x), norm.logpdf(x[:, 0]) + norm.logpdf(x[:, 1], 0.75 * (x[:, 0] ** 2 - 1.5), 0.5))


def test_the_pinwheel_preserves_volume():
    """log p is the star's at the turned point, worked out with complex numbers; and the laws hold for the twist."""
    flow, (means, covariances) = pinwheel(5, 1.25)
    x = 2.0 * RNG.normal(size=(50, 2))
    w = (x[:, 0] + 1j * x[:, 1]) * np.exp(1.25j * np.hypot(x[:, 0], x[:, 1]))
    z = np.stack([w.real, w.imag], axis=1)
    parts = [scipy.stats.multivariate_normal.logpdf(z, m, s) for m, s in zip(means, covariances, strict=True)]
    near(flow.log_prob(x), scipy.special.logsumexp(parts, axis=0) - np.log(5))
    found = laws.check_laws(Twist(1.25), x[:8])
    assert {f.status for f in found} <= {"pass", "inconclusive"}
    assert laws.normalisation(flow, x).status in ("pass", "inconclusive")


SPLINES = [e for e in REGISTRY if "spline" in e.name]


@pytest.mark.parametrize("entry", SPLINES, ids=lambda e: e.name)
def test_a_spline_with_equal_bins_and_unit_slopes_is_the_identity(entry):
    """All parameters 0 is that spline. Inside, at the outermost knots and beyond them."""
    f = refflow.map_arrays(np.zeros_like, entry.map)
    size = np.array([1e-300, 0.1, 0.5, 1.0, 2.0, 3.0, 1e6])
    size = size if entry.domain is None else size[size < entry.domain[1]]
    x = np.concatenate([-size, size]).reshape(-1, *(1,) * len(entry.event_shape)) * np.ones(entry.event_shape)
    context = np.zeros((len(x), entry.context_dim)) if entry.context_dim else None
    for g in (f, laws.turned(f)):
        y, log_det = g.forward(x, context)
        near(y, x)
        near(log_det, np.zeros(len(x)), CLOSED * np.prod(entry.event_shape))


# Rings and moons.


def plane_mass(log_prob, reach, cells):
    """The integral over [-reach, reach]^2 by a 10-point Gauss-Legendre rule in each of cells^2 squares."""
    t, w = np.polynomial.legendre.leggauss(10)
    edges = np.linspace(-reach, reach, cells + 1)
    half = reach / cells
    axis, weight = (edges[:-1, None] + half * (t + 1)).ravel(), np.tile(half * w, cells)
    total = 0.0
    for y, v in zip(axis, weight, strict=True):
        total += v * np.sum(weight * np.exp(log_prob(np.stack([axis, np.full_like(axis, y)], axis=-1))))
    return total


def test_rings_and_moons_have_mass_one():
    assert abs(plane_mass(lambda x: planar.rings_log_prob(x, (0.5, 1.5), 0.15), 3.0, 40) - 1.0) < 1e-8
    assert abs(plane_mass(lambda x: planar.moons_log_prob(x, 0.2), 3.5, 24) - 1.0) < 1e-8


def test_rings_are_bessels_and_moons_are_halves_of_a_ring():
    """(3) integrated by QUADPACK; and an arc with its mirror image is a ring, so quadrature and Bessel agree."""
    x = np.concatenate([RNG.normal(size=(20, 2)), [[0.0, 0.0], [1.0, 0.0], [3.0, -2.0]]])
    for point in x:

        def blurred(t, point=point):
            return np.exp(-0.5 * np.sum((point - [np.cos(t), np.sin(t)]) ** 2) / 0.25) / (2 * np.pi * 0.25)

        exact = scipy.integrate.quad(blurred, 0, 2 * np.pi, epsabs=0, epsrel=1e-13)[0] / (2 * np.pi)
        near(planar.rings_log_prob(point, (1.0,), 0.5), np.log(exact), 1e-11)
    for sigma in (0.05, 0.1, 0.5):
        upper, lower = (planar._arc_log_prob(x * [1.0, s], sigma, 32 + int(16 / sigma)) for s in (1.0, -1.0))
        near(np.logaddexp(upper, lower) - np.log(2), planar.rings_log_prob(x, (1.0,), sigma))
    near(planar.moons_log_prob(x), planar.moons_log_prob(x, nodes=801))


def test_rings_and_moons_far_out_do_not_overflow():
    far = np.array([[1e3, 1e3], [-1e4, 0.0]])
    assert np.isfinite(planar.rings_log_prob(far)).all()
    assert np.isfinite(planar.moons_log_prob(far)).all()
    for log_prob in (planar.rings_log_prob, planar.moons_log_prob):
        with pytest.raises(refflow.RefflowError, match="positive"):
            log_prob(far, sigma=0.0)


@pytest.mark.parametrize("name", ["rings", "moons"])
def test_samples_follow_the_reference_density(name):
    """20,000 points in 144 squares, each square's mass by quadrature; false alarms once in 10^9 runs, seed 12."""
    sample, log_prob = getattr(planar, f"sample_{name}"), getattr(planar, f"{name}_log_prob")
    x = sample(20_000, np.random.default_rng(12), sigma=0.2)
    edges = np.linspace(-2.4, 2.4, 13)
    t, w = np.polynomial.legendre.leggauss(12)
    axis = (edges[:-1, None] + 0.2 * (t + 1)).ravel()
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    weights = np.tile(0.2 * w, 12)
    mass = (np.exp(log_prob(grid, sigma=0.2)) * weights[:, None] * weights).reshape(12, 12, 12, 12).sum(axis=(1, 3))
    counts = np.histogramdd(x, [edges, edges])[0]
    large = mass * 20_000 >= 5
    seen = np.append(counts[large], 20_000 - counts[large].sum())
    expected = np.append(20_000 * mass[large], 20_000 * (1 - mass[large].sum()))
    assert scipy.stats.chisquare(seen, expected).pvalue > 1e-9


# The mass of every map of the line.


def one_dimensional():
    """The registry's maps onto the line, in one dimension: as they stand, of any size, or made anew by `init((1,))`."""
    for entry in REGISTRY:
        if not entry.onto:
            continue
        f, shape = entry.map, entry.event_shape
        if np.prod(shape) == 1:
            yield entry.name, entry
        elif f.event_shape is None and f.event_rank == 1 and not named_arrays(f) and moves_alone(f):
            yield entry.name, dataclasses.replace(entry, event_shape=(1,))
        elif f.event_rank == 1 and type(f) in (refflow.ElementwiseAffine, refflow.ActNorm, refflow.SinhArcsinh):
            made = type(f).init(1) if isinstance(f, refflow.ActNorm) else type(f).init((1,))
            yield entry.name, dataclasses.replace(entry, map=made, event_shape=(1,))
        elif isinstance(f, refflow.Standardize):
            yield (
                entry.name,
                dataclasses.replace(entry, map=refflow.Standardize(np.zeros(1), np.ones(1)), event_shape=(1,)),
            )


def moves_alone(f):
    """Whether the map takes events of one coordinate."""
    try:
        return f.forward(np.full((1, 1), 0.5))[0].shape == (1, 1)
    except (refflow.RefflowError, IndexError, ValueError):
        return False


LINE = list(one_dimensional())


def test_the_families_of_the_line_are_asked():
    found = set()

    def note(part):
        found.add(type(part))
        return part

    for _, entry in LINE:
        map_modules(note, entry.map)
    assert {refflow.ElementwiseAffine, refflow.Standardize, refflow.ActNorm, refflow.AffineCoupling, refflow.Logit,
            refflow.LeakyReLU, refflow.SinhArcsinh} <= found  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(("name", "entry"), LINE, ids=[name for name, _ in LINE])
def test_the_mass_of_every_map_of_the_line_is_one(name, entry, scale):
    """Within 1e-10 at three draws, by QUADPACK between the points that go to whole latents from -9 to 9, beyond which a
    standard normal has 2e-19, and 0, where a kink may be."""
    for seed in range(3):
        f = drawn(entry.map, seed, scale)
        context = np.random.default_rng(seed).normal(size=(1, entry.context_dim)) if entry.context_dim else None
        flow = refflow.Flow(refflow.StandardNormal(entry.event_shape), f)
        z = np.arange(-9.0, 10.0).reshape(-1, *entry.event_shape)
        rows = None if context is None else np.repeat(context, len(z), axis=0)
        edges = flow.decode(z, rows).ravel()
        assert np.all(np.isfinite(edges)), "an onto map has a point for every latent"
        if entry.domain is None:
            edges = np.append(edges, 0.0)
        edges = np.unique(edges)

        def density(v, flow=flow, context=context):
            return float(np.exp(flow.log_prob(np.full((1, *entry.event_shape), v), context))[0])

        parts = [
            scipy.integrate.quad(density, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ]
        total, error = np.sum(parts, axis=0)
        assert error < 1e-10
        assert abs(total - 1.0) < 1e-10


@pytest.mark.parametrize(("name", "entry"), LINE, ids=[name for name, _ in LINE])
def test_no_map_onto_the_line_saturates(name, entry):
    """Every latent up to a million is reached: f(f^-1(z)) = z to half of the digits, and larger z from further out.

    Maps of an interval reach what their doubles can tell apart: |z| <= 30.
    """
    size = 10.0 ** np.arange(0.0, 6.5, 0.5) if entry.domain is None else np.arange(1.0, 31.0, 4.0)
    z = np.concatenate([-size[::-1], size]).reshape(-1, *entry.event_shape)
    for seed in range(3):
        f = drawn(entry.map, seed)
        context = np.zeros((len(z), entry.context_dim)) if entry.context_dim else None
        x, log_det = f.inverse(z, context)
        assert np.isfinite(x).all()
        assert np.isfinite(log_det).all()
        assert np.all(np.abs(np.sum(np.sign(np.diff(x.ravel())))) == len(z) - 1)
        np.testing.assert_allclose(f.forward(x, context)[0], z, rtol=1e-8 if entry.domain is None else 1e-3)
