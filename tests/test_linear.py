"""Linear maps against dense matrices, LAPACK and normal distributions; triangular systems; batch normalisation."""

import numpy as np
import pytest
import scipy.linalg
from scipy.stats import multivariate_normal

import refflow
from refflow import arrays as xp
from refflow.errors import DataError, ShapeError, StructureError

RNG = np.random.default_rng(11)
U = np.finfo(np.float64).eps / 2


def filled(m, scale=1.0):
    """Normal parameters; variances and standard deviations positive."""
    names = refflow.modules.named_arrays(m)
    drawn = [scale * RNG.normal(size=a.shape) for a in names.values()]
    drawn = [np.exp(a) if n.endswith(("std", "variance")) else a for n, a in zip(names, drawn, strict=True)]
    return refflow.modules.bind_arrays(m, xp.rebuild(refflow.modules.arrays(m), iter(drawn)))


def dense(f, size):
    """W and b of y = W x + b, from the images of 0 and of the axes."""
    b = f.forward(np.zeros((1, size)))[0][0]
    return (f.forward(np.eye(size))[0] - b).T, b


def unpacked(f):
    """P, L and U of an LU map, by LAPACK's convention."""
    a = f.factors
    p = np.eye(len(a))[list(f.order)]
    return p, np.tril(a, -1) + np.eye(len(a)), np.triu(a, 1) + np.diag(np.exp(np.diag(a)))


MAPS = {
    "lu": lambda rank: filled(refflow.LU.init((2, 3, 1, 0), rank)),
    "lower": lambda rank: filled(refflow.Triangular.init(4, rank=rank)),
    "upper": lambda rank: filled(refflow.Triangular.init(4, lower=False, rank=rank)),
    "orthogonal": lambda rank: refflow.Orthogonal.init(4, 3, reflections=3, rank=rank),
    "actnorm": lambda rank: filled(refflow.ActNorm.init(4, rank)),
    "batch norm": lambda rank: filled(refflow.BatchNorm.init(4, rank=rank)),
    "permutation": lambda rank: refflow.Permutation((2, 3, 1, 0), rank),
}
EACH = pytest.mark.parametrize("name", MAPS)


# Values.


def test_lu_is_its_equation():
    f = filled(refflow.LU.init((2, 3, 1, 0)))
    p, lower, upper = unpacked(f)
    w = p @ lower @ upper
    x = RNG.normal(size=(7, 4))
    y, log_det = f.forward(x)
    assert np.allclose(y, x @ w.T + f.shift, rtol=1e-13, atol=1e-13)
    assert np.allclose(log_det, np.linalg.slogdet(w)[1], rtol=1e-13)
    back, log_det_back = f.inverse(y)
    assert np.allclose(back, np.linalg.solve(w, (y - f.shift).T).T, rtol=1e-11, atol=1e-11)
    assert np.array_equal(log_det_back, -log_det)


@pytest.mark.parametrize("lower", [True, False])
def test_triangular_is_scipys(lower):
    f = filled(refflow.Triangular.init(5, lower=lower))
    t = np.tril(f.matrix) if lower else np.triu(f.matrix)
    np.fill_diagonal(t, np.exp(np.diag(f.matrix)))
    x = RNG.normal(size=(6, 5))
    y, log_det = f.forward(x)
    assert np.allclose(y, x @ t.T + f.shift, rtol=1e-14, atol=1e-14)
    assert np.allclose(log_det, np.linalg.slogdet(t)[1], rtol=1e-13)
    expected = scipy.linalg.solve_triangular(t, (y - f.shift).T, lower=lower).T
    assert np.allclose(f.inverse(y)[0], expected, rtol=1e-12, atol=1e-12)


def test_what_stands_beside_the_triangle_is_not_read():
    f = filled(refflow.Triangular.init(3))
    spoiled = refflow.modules.replace(f, matrix=f.matrix + np.triu(np.full((3, 3), np.nan), 1))
    x = RNG.normal(size=(4, 3))
    for a, b in zip((*f.forward(x), *f.inverse(x)), (*spoiled.forward(x), *spoiled.inverse(x)), strict=True):
        assert np.array_equal(a, b)


def test_orthogonal_is_the_product_of_its_reflections():
    f = refflow.Orthogonal.init(4, 0, reflections=3)
    q = np.eye(4)
    for v in f.vectors:
        q = (np.eye(4) - 2.0 * np.outer(v, v) / (v @ v)) @ q
    w, _ = dense(f, 4)
    assert np.allclose(w, q, atol=1e-15)
    assert np.allclose(w @ w.T, np.eye(4), atol=1e-15)
    assert np.linalg.det(w) == pytest.approx(-1.0, abs=1e-14)


@pytest.mark.parametrize("power", [-1060, -540, 0, 540, 1000])
def test_reflections_see_only_directions(power):
    """2^power v is v: no square overflows, none underflows, down to numbers that are no longer normal."""
    v = np.array([[3.0, -5.0, 0.0, 1.0], [0.0, 1.0, 2.0, -1.0]])
    x = RNG.normal(size=(5, 4))
    expected, got = (refflow.Orthogonal(a).forward(x)[0] for a in (v, np.ldexp(v, power)))
    assert np.array_equal(got, expected)


def test_a_vector_of_zeros_reflects_nothing():
    x = RNG.normal(size=(5, 2))
    f = refflow.Orthogonal(np.zeros((2, 2)))
    assert np.array_equal(f.forward(x)[0], x)
    loss = lambda p: xp.sum(refflow.bind(f, p).forward(x)[0])  # noqa: E731
    assert np.all(np.isfinite(xp.value_and_grad(loss)(refflow.parameters(f))[1]["vectors"]))


@EACH
def test_images_are_mapped_pixel_by_pixel(name):
    """For events (2, 3, 4): the same matrix at all six pixels, and six times its log-determinant."""
    state = RNG.bit_generator.state
    f = MAPS[name](1)
    RNG.bit_generator.state = state
    g = MAPS[name](3)
    x = RNG.normal(size=(5, 2, 3, 4))
    w, b = dense(f, 4)
    y, log_det = g.forward(x)
    assert np.allclose(y, np.einsum("nhwc,dc->nhwd", x, w) + b, rtol=1e-13, atol=1e-13)
    assert np.allclose(log_det, 6 * np.linalg.slogdet(w)[1], rtol=1e-12, atol=1e-13)
    whole = np.stack([g.forward(e.reshape(1, 2, 3, 4))[0].ravel() for e in np.eye(24)], 1) - np.tile(b, 6)[:, None]
    assert np.allclose(log_det, np.linalg.slogdet(whole)[1], rtol=1e-12, atol=1e-13)
    assert np.allclose(g.inverse(y)[0], x, atol=1e-12)


@EACH
def test_normal_densities_in_closed_form(name):
    """x = W^-1 (z - b) is normal with mean -W^-1 b and covariance (W^T W)^-1. SciPy loses cond(W)^2, so W is mild."""
    f = refflow.map_arrays(lambda a: 0.25 * a, MAPS[name](1))
    w, b = dense(f, 4)
    inverse = np.linalg.inv(w)
    x = f.inverse(RNG.normal(size=(20, 4)))[0]
    expected = multivariate_normal(-inverse @ b, inverse @ inverse.T).logpdf(x)
    got = refflow.Flow(refflow.StandardNormal((4,)), f).log_prob(x)
    assert np.allclose(got, expected, rtol=1e-12, atol=1e-12)


@EACH
@pytest.mark.parametrize("batch", [(), (0,), (1,), (2, 0), (2, 3)])
def test_batches_of_any_shape(name, batch):
    f = MAPS[name](1)
    x = RNG.normal(size=(*batch, 4))
    for value, log_det in (f.forward(x), f.inverse(x)):
        assert value.shape == x.shape
        assert log_det.shape == batch


def test_nothing_overflows_silently_where_a_diagonal_vanishes():
    """exp(-800) is 0 in float64: the inverse is infinite or NaN, and no error is raised for values."""
    f = refflow.LU(np.diag([-800.0, 0.0]), np.zeros(2), (0, 1))
    with np.errstate(all="ignore"):
        x, log_det = f.inverse(np.ones((1, 2)))
    assert not np.isfinite(x[0, 0])
    assert x[0, 1] == 1.0
    assert log_det[0] == 800.0


# Starts.


def test_lu_starts_where_it_says():
    x = RNG.normal(size=(3, 5))
    assert np.array_equal(refflow.LU.init((0, 1, 2, 3, 4)).forward(x)[0], x)
    assert np.array_equal(refflow.LU.init((4, 0, 1, 3, 2)).forward(x)[0], x[:, [4, 0, 1, 3, 2]])
    f = refflow.LU.random(5, 0)
    w, _ = dense(f, 5)
    assert np.allclose(w @ w.T, np.eye(5), atol=1e-14)
    assert np.allclose(f.forward(x)[1], 0.0, atol=1e-14)
    assert len(set(map(tuple, np.round(w, 3)))) == 5


@pytest.mark.parametrize("size", [1, 2, 7])
def test_lu_from_a_matrix_keeps_it_but_for_signs_of_rows(size):
    matrix = RNG.normal(size=(size, size))
    w, _ = dense(refflow.LU.from_matrix(matrix), size)
    signs = np.sign(np.sum(w * matrix, axis=1))
    assert np.allclose(w, signs[:, None] * matrix, rtol=1e-12, atol=1e-13)


def test_realnvps_linear_maps():
    options = {"layers": 4, "hidden": (3,), "seed": 0}
    kinds = {None: set(), "permutation": {refflow.Permutation}, "lu": {refflow.LU}, "rotation": {refflow.LU}}
    for kind, expected in kinds.items():
        maps = refflow.realnvp(3, linear=kind, **options).bijection.bijections
        assert {type(f) for f in maps} - {refflow.AffineCoupling} == expected
    x = RNG.normal(size=(4, 3))
    start = [refflow.realnvp(3, linear=kind, **options).encode(x) for kind in ("permutation", "lu")]
    assert np.array_equal(*start)  # the same draws: lu starts as that permutation
    with pytest.raises(StructureError, match="permutation, lu, rotation"):
        refflow.realnvp(3, linear="shuffle", **options)


# Triangular systems.


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("unit_diagonal", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_solutions_have_a_small_backward_error(lower, unit_diagonal, dtype):
    """|a x - b| <= (n + 1) u (|a| |x|), element by element, on graded triangles whose condition is beyond 1/u."""
    n = 12
    grades = 10.0 ** RNG.uniform(-6, 6, (n, 1))
    a = (RNG.normal(size=(n, n)) * grades).astype(dtype)
    b = RNG.normal(size=(n, 3)).astype(dtype)
    x = xp.solve_triangular(a, b, lower=lower, unit_diagonal=unit_diagonal)
    assert x.dtype == dtype
    t = (np.tril(a) if lower else np.triu(a)).astype(np.clongdouble if dtype is np.complex128 else np.longdouble)
    if unit_diagonal:
        np.fill_diagonal(t, 1.0)
    u = np.finfo(dtype).eps / 2 * (1.0 if dtype is not np.complex128 else 2.0**1.5)  # complex products: Higham, 3.14
    assert np.all(np.abs(t @ x - b) <= (n + 2) * u * (np.abs(t) @ np.abs(x)))


def test_a_nan_spoils_its_own_column():
    a, b = RNG.normal(size=(4, 4)) + 3.0 * np.eye(4), RNG.normal(size=(4, 5))
    spoiled = np.array(b)
    spoiled[2, 3] = np.nan
    x, y = (xp.solve_triangular(a, v, lower=True) for v in (b, spoiled))
    assert np.array_equal(np.delete(x, 3, axis=1), np.delete(y, 3, axis=1))
    assert np.array_equal(np.isnan(y[:, 3]), [False, False, True, True])


def test_the_other_triangle_is_not_read():
    a = np.tril(RNG.normal(size=(4, 4))) + np.triu(np.full((4, 4), np.nan), 1)
    b = RNG.normal(size=(4, 2))
    value, gradient = xp.value_and_grad(lambda m: xp.sum(xp.solve_triangular(m, b, lower=True)))(a)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    assert np.array_equal(np.triu(gradient, 1), np.zeros((4, 4)))


def test_systems_that_do_not_fit_are_refused():
    for a, b in (((2, 3), (2, 1)), ((3, 3), (2, 1)), ((3, 3), (3,)), ((1, 3, 3), (3, 1))):
        with pytest.raises(ShapeError, match="expected a of shape"):
            xp.solve_triangular(np.ones(a), np.ones(b), lower=True)


# Batch normalisation.


def test_batch_norm_is_torchs_in_evaluation():
    torch = pytest.importorskip("torch")
    f = filled(refflow.BatchNorm.init(3, eps=1e-3, rank=3))
    x = RNG.normal(size=(5, 2, 4, 3))
    m = f.moments.bijection
    arguments = [torch.asarray(np.array(a)) for a in (m.mean, m.variance, np.exp(f.log_scale), f.shift)]
    expected = torch.nn.functional.batch_norm(torch.asarray(np.moveaxis(x, -1, 1).copy()), *arguments, eps=1e-3)
    assert np.allclose(f.forward(x)[0], np.moveaxis(expected.numpy(), 1, -1), rtol=1e-13, atol=1e-13)


def test_batch_norm_takes_its_moments_only_on_demand():
    x = RNG.normal(3.0, [1.0, 2.0, 5.0], size=(50, 3))
    start = refflow.BatchNorm.init(3)
    before = start.forward(x)[0]
    f = start.initialized(x)
    assert np.array_equal(start.forward(x)[0], before)
    y = f.forward(x)[0]
    assert np.allclose(y.mean(axis=0), 0.0, atol=1e-13)
    assert np.allclose(y.var(axis=0), x.var(axis=0) / (x.var(axis=0) + 1e-5), rtol=1e-13)
    assert np.array_equal(f.forward(x[:1])[0], y[:1])  # one row alone: no statistics of the batch it comes in


def test_moments_do_not_train():
    f = refflow.BatchNorm.init(2)
    assert list(refflow.parameters(f)) == ["log_scale", "shift"]
    assert len(xp.leaves(refflow.modules.arrays(f))) == 4


def test_constant_channels_have_no_scale():
    x = RNG.normal(size=(9, 3))
    x[:, 1] = 4.0
    with pytest.raises(DataError, match=r"\[1\]"):
        refflow.BatchNorm.init(3).initialized(x)
    with pytest.raises(DataError, match="2 rows"):
        refflow.BatchNorm.init(3).initialized(x[:1])


def test_initialize_sets_every_normalisation_in_order():
    maps = (refflow.LU.random(3, 0), refflow.BatchNorm.init(3), refflow.LU.random(3, 1), refflow.ActNorm.init(3))
    flow = refflow.Flow(refflow.StandardNormal((3,)), refflow.Chain(maps))
    z = x = RNG.normal(5.0, [1.0, 2.0, 3.0], size=(100, 3))
    for f in refflow.initialize(flow, x).bijection.bijections:
        z = f.forward(z)[0]
        if not isinstance(f, refflow.LU):
            assert np.allclose(z.mean(axis=0), 0.0, atol=1e-12)
            assert np.allclose(z.std(axis=0), 1.0, rtol=1e-5)


# Refusals.


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: refflow.LU(np.zeros((2, 3)), np.zeros(2), (0, 1)), r"matrix \(C, C\)"),
        (lambda: refflow.LU(np.zeros((2, 2)), np.zeros(2), (0, 1, 2)), "order of 2 channels"),
        (lambda: refflow.LU(np.zeros((2, 2)), np.zeros(2), (1, 1)), "once"),
        (lambda: refflow.LU.from_matrix(np.ones((2, 2))), "singular"),
        (lambda: refflow.Triangular(np.zeros((2, 2)), np.zeros(3)), r"matrix \(C, C\)"),
        (lambda: refflow.Triangular(np.zeros((2, 2)), np.zeros(2), rank=0), "rank"),
        (lambda: refflow.Orthogonal(np.zeros(3)), r"vectors \(K, C\)"),
        (lambda: refflow.Moments(np.zeros(2), np.ones(3)), "mean and a variance"),
        (lambda: refflow.Moments(np.zeros(2), np.ones(2), eps=-1.0), "eps"),
        (lambda: refflow.BatchNorm(refflow.Frozen(refflow.Reverse()), np.zeros(2), np.zeros(2)), "Moments"),
        (
            lambda: refflow.BatchNorm(
                refflow.Frozen(refflow.Moments(np.zeros(2), np.ones(2))), np.zeros(2), np.ones(1)
            ),
            "log_scale and shift",
        ),
    ],
)
def test_refusals_say_what_was_expected(make, match):
    with pytest.raises((ShapeError, StructureError), match=match):
        make()
