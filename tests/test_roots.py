"""Roots of increasing functions and of contractions: against closed forms, in every arithmetic, with their derivatives.

The bound of a root: rounding moves f by a few eps |f|, so the root by eps |f| / f', and its last rounding by eps |x|.
"""

import numpy as np
import pytest
from matrix import drawn
from registry import REGISTRY

from refflow import arrays as xp
from refflow.arrays import iteration

U = {np.float32: 2.0**-24, np.float64: 2.0**-53, np.longdouble: float(np.finfo(np.longdouble).eps) / 2}
SCALES = (1e-6, 1.0, 1e6)


def cube(x, p):
    return p * x * x * x, 3.0 * p * x * x


def stair(x, p):
    """Two steps of height 1 and width 2^-10, and slope 2^-10 between them: Newton's method leaves every bracket."""
    steep = [xp.tanh(1024.0 * (x - at)) for at in (-0.5, 0.5)]
    value = p * (steep[0] + steep[1] + x / 1024.0)
    return value, p * (1024.0 * ((1.0 - steep[0] ** 2) + (1.0 - steep[1] ** 2)) + 1.0 / 1024.0)


def root(x, p):
    """Infinitely steep at 0, where the inverse is the square."""
    size = xp.sqrt(xp.abs(x))
    return p * xp.sign(x) * size, 0.5 * p / xp.where(xp.greater(size, 0.0), size, 1.0)


FUNCTIONS = {
    "line": (lambda x, p: (p * x, p + 0.0 * x), lambda y, p: y / p),
    "sinh": (
        lambda x, p: (0.5 * p * (xp.expm1(x) - xp.expm1(-x)), 0.5 * p * (xp.exp(x) + xp.exp(-x))),
        lambda y, p: np.arcsinh(y / p),
    ),
    "cube": (cube, lambda y, p: np.cbrt(y / p)),
    "root": (root, lambda y, p: np.sign(y) * (y / p) ** 2),
    "tanh": (
        lambda x, p: (p * xp.tanh(x), p * 4.0 * xp.sigmoid(2.0 * x) * xp.sigmoid(-2.0 * x)),
        lambda y, p: np.arctanh(y / p),
    ),
}


@pytest.mark.parametrize("dtype", U)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("scale", SCALES)
def test_roots_are_exact_to_conditioning_at_any_scale_of_the_bracket(name, scale, dtype):
    """Brackets [-scale, 3 scale], and [1e-6 |x|, 1e6 |x|] around the root; roots across the scale, and 0."""
    function, inverse = FUNCTIONS[name]
    p = np.asarray(1.5, dtype=dtype)
    reach = min(scale, 8.0) if name in ("sinh", "tanh") else scale
    x = (reach * np.array([-0.9, -0.5, -1e-3, 0.0, 1e-5, 0.3, 0.77])).astype(dtype)
    y, slope = function(x, p)
    want = inverse(y, p)
    far = np.where(x > 0, np.abs(x) * 1e6, -np.abs(x) / 1e6), np.where(x > 0, x / 1e6, x * 1e6)
    for low, high in ((-scale, 3.0 * scale), (np.minimum(*far), np.maximum(*far))):
        if name == "sinh":
            low, high = np.maximum(low, -50.0), np.minimum(high, 50.0)
        low, high = (np.broadcast_to(np.asarray(v, dtype=dtype), x.shape) for v in (low, high))
        got = xp.solve_increasing(function, (p,), y, low, high)
        assert got.dtype == dtype
        condition = np.abs(x) + np.where(slope > 0, np.abs(y) / np.where(slope > 0, slope, 1.0), 0.0)
        error = np.abs(got - want)
        if name == "cube":  # at 0 the slope vanishes: what is left is the bracket, 2^-(p + 16) of what it was, and
            least = np.maximum((high - low) * U[dtype] / 2**15, np.cbrt(np.finfo(dtype).tiny))  # where x^3 underflows
            error = np.where(x == 0, np.maximum(error - least, 0.0), error)
        assert np.all(error <= 8 * U[dtype] * condition + np.finfo(dtype).tiny), error / condition / U[dtype]


def test_the_bracket_halves_where_newtons_method_is_of_no_use():
    p, y = np.array(1.0), np.linspace(-2.0, 2.0, 81)
    got = xp.solve_increasing(stair, (p,), y, np.full(81, -40.0), np.full(81, 40000.0))
    value, slope = stair(got, p)
    assert np.all(np.abs(value - y) <= 8 * 2.0**-53 * (np.abs(y) + slope * np.abs(got) + 2.0))


def test_every_step_halves_the_bracket():
    """From [0, 1], after k steps no bracket is wider than 2^-k, also for a function that always sends Newton astray."""
    from refflow.arrays.roots import bracket

    widths, original = [], iteration.repeat

    def watched(step, state, times):
        for _ in range(30):
            state = step(state)
            widths.append(np.max(state[1] - state[0]))
        return state

    import refflow.arrays.roots as module

    module.repeat = watched
    try:
        bracket(lambda x, p: (x, 1e9 + 0.0 * x), (np.array(1.0),), np.array([0.3, 0.7]), np.zeros(2), np.ones(2))
    finally:
        module.repeat = original
    assert all(width <= 2.0**-k for k, width in enumerate(widths, start=1))


def test_stopping_early_changes_no_bit(monkeypatch):
    function, _ = FUNCTIONS["sinh"]
    y = np.random.default_rng(0).normal(size=200) * 10.0
    ends = np.full(200, -40.0), np.full(200, 50.0)
    early = xp.solve_increasing(function, (np.array(0.7),), y, *ends)

    def patient(step, state, times):
        for _ in range(times):
            state = step(state)
        return state

    monkeypatch.setattr("refflow.arrays.roots.repeat", patient)
    assert np.array_equal(early, xp.solve_increasing(function, (np.array(0.7),), y, *ends))


def test_rows_do_not_see_each_other_and_nan_stays():
    function, _ = FUNCTIONS["sinh"]
    y = np.array([0.3, np.nan, -2.0, 1e3])
    got = xp.solve_increasing(function, (np.array(1.0),), y, np.full(4, -30.0), np.full(4, 30.0))
    assert np.array_equal(np.isnan(got), np.isnan(y))
    for i in (0, 2, 3):
        alone = xp.solve_increasing(function, (np.array(1.0),), y[i : i + 1], np.full(1, -30.0), np.full(1, 30.0))
        assert alone[0] == got[i]
    for p, low in ((np.nan, -30.0), (1.0, np.nan)):
        assert np.isnan(xp.solve_increasing(function, (np.array(p),), y[:1], np.full(1, low), np.full(1, 30.0))).all()


# Derivatives: x = arcsinh(y / p) has dx/dy = 1 / sqrt(p^2 + y^2) and dx/dp = -y / (p sqrt(p^2 + y^2)).

P, Y = np.array([0.5, 2.0, 1.25]), np.array([-3.0, 0.25, 40.0])
BY_Y = 1.0 / np.sqrt(P**2 + Y**2)
BY_P = -Y / P * BY_Y


def solved(p, y):
    low, high = -30.0 + xp.zeros_like(y), 30.0 + xp.zeros_like(y)
    return xp.solve_increasing(FUNCTIONS["sinh"][0], (p,), y, low, high)


def close(got, want):
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-12, atol=0)


def test_gradients_by_autograd():
    by_p, by_y = xp.value_and_grad(lambda both: xp.sum(solved(*both)))((P, Y))[1]
    close(by_p, BY_P)
    close(by_y, BY_Y)


def test_gradients_by_the_complex_step():
    close(solved(P + 1e-30j, Y).imag / 1e-30, BY_P)
    close(solved(P, Y + 1e-30j).imag / 1e-30, BY_Y)
    assert np.array_equal(solved(P, Y + 1e-30j).real, solved(P, Y))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # inside torch.func.jvp
def test_gradients_by_torch_also_under_vmap():
    torch = pytest.importorskip("torch")
    p, y = torch.tensor(P, requires_grad=True), torch.tensor(Y, requires_grad=True)
    by_p, by_y = torch.autograd.grad(solved(p, y).sum(), (p, y))
    close(by_p, BY_P)
    close(by_y, BY_Y)
    mapped = torch.vmap(torch.func.grad(solved, argnums=(0, 1)))(torch.tensor(P), torch.tensor(Y))
    close(mapped[0], BY_P)
    close(mapped[1], BY_Y)
    close(
        torch.func.jvp(solved, (torch.tensor(P), torch.tensor(Y)), (torch.zeros(3).double(), torch.ones(3).double()))[
            1
        ],
        BY_Y,
    )
    close(torch.vmap(solved)(torch.tensor(P), torch.tensor(Y)), np.arcsinh(Y / P))


def test_gradients_by_jax_also_compiled_and_mapped():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    p, y = jax.numpy.asarray(P), jax.numpy.asarray(Y)
    gradient = jax.grad(lambda p, y: solved(p, y).sum(), argnums=(0, 1))
    for found in (gradient(p, y), jax.jit(gradient)(p, y), jax.vmap(jax.grad(solved, argnums=(0, 1)))(p, y)):
        close(found[0], BY_P)
        close(found[1], BY_Y)
    close(jax.jvp(solved, (p, y), (0.0 * p, 1.0 + 0.0 * y))[1], BY_Y)


def test_a_root_that_was_cut_off_the_tape_has_no_gradient():
    """What the step on the tape is for: without it the gradient is 0, which `close` sees."""
    by_p = xp.value_and_grad(lambda p: xp.sum(xp.detach(solved(p, Y)) * p))(P)[1]
    close(by_p, solved(P, Y))
    with pytest.raises(AssertionError):
        close(by_p, solved(P, Y) + P * BY_P)


# Contractions.


def bend(x, w):
    return 0.5 * xp.tanh(xp.matmul(x, w))


def bend_jacobian(x, w):
    slope = 1.0 - xp.square(xp.tanh(xp.matmul(x, w)))
    return 0.5 * xp.expand_dims(slope, -1) * xp.matrix_transpose(w)


W = np.array([[0.5, -0.75, 0.0], [0.25, 0.5, 0.5], [0.0, 0.25, -0.75]])
ROWS = np.random.default_rng(4).normal(size=(5, 3)) * 4.0


@pytest.mark.parametrize("dtype", U)
def test_the_fixed_point_solves_the_equation(dtype):
    w, y = W.astype(dtype), ROWS.astype(dtype)
    x = xp.solve_contraction(bend, bend_jacobian, (w,), y, 0.625)
    assert x.dtype == dtype
    assert np.max(np.abs(x + bend(x, w) - y)) <= 8 * U[dtype] * np.max(np.abs(y))


def test_its_gradient_is_the_implicit_function_theorems():
    """dx/dy = (I + J)^-1, by NumPy's dense solver."""
    solve = lambda y: xp.solve_contraction(bend, bend_jacobian, (W,), y, 0.625)  # noqa: E731
    x = solve(ROWS)
    dense = np.linalg.inv(np.eye(3) + bend_jacobian(x, W))
    weights = np.random.default_rng(5).normal(size=ROWS.shape)
    want = np.einsum("ni,nij->nj", weights, dense)
    np.testing.assert_allclose(
        xp.value_and_grad(lambda y: xp.sum(weights * solve(y)))(ROWS)[1], want, rtol=1e-12, atol=1e-14
    )
    for j in range(3):
        step = solve(ROWS + 1e-30j * np.eye(3)[j]).imag / 1e-30
        np.testing.assert_allclose(step, dense[:, :, j], rtol=1e-12, atol=1e-14)


def test_elimination_against_lapack():
    rng = np.random.default_rng(6)
    j = rng.normal(size=(40, 5, 5))
    j *= 0.95 / np.linalg.norm(j, 2, axis=(1, 2))[:, None, None]
    a, b = xp.identity_plus(j), rng.normal(size=(40, 5))
    np.testing.assert_allclose(xp.log_det_leading(a), np.linalg.slogdet(a)[1], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(xp.solve_leading(a, b), np.linalg.solve(a, b[..., None])[..., 0], rtol=1e-11, atol=1e-13)
    pivots = [a[:, 0, 0]] + [np.linalg.det(a[:, :k, :k]) / np.linalg.det(a[:, : k - 1, : k - 1]) for k in range(2, 6)]
    assert np.min(pivots) >= 0.05 - 1e-12, "the lemma: no pivot below 1 - c"


# Balls.


def ball_of(mid, rad):
    flint = pytest.importorskip("flint")
    from refflow.certified.arrays import BallArray, objects

    mid, rad = np.broadcast_arrays(np.asarray(mid, dtype=float), rad)
    return BallArray(
        objects(mid.shape, (flint.arb(float(m), float(r)) for m, r in zip(mid.flat, rad.flat, strict=True)))
    )


@pytest.mark.parametrize("name", ["line", "sinh", "tanh"])
@pytest.mark.parametrize("radius", [0.0, 2.0**-60, 2.0**-20, 2.0**-6])
def test_balls_hold_every_root(name, radius):
    """Of points of y's and p's balls, their ends too; and are not much wider than these roots are apart."""
    pytest.importorskip("flint")
    from refflow import certified

    function, _ = FUNCTIONS[name]
    y, p = np.array([0.5, -0.25, 0.75]), np.array(1.0)
    ends = np.full(3, -20.0), np.full(3, 30.0)
    with certified.precision(100):
        whole = xp.solve_increasing(function, (ball_of(p, radius),), ball_of(y, radius), *map(certified.balls, ends))
    with certified.precision(300):
        for s in (-1.0, -0.5, 0.0, 1.0):
            for r in (-1.0, 0.25, 1.0):
                at = [
                    certified.balls(a) + certified.balls(np.array(m)) * ball_of(radius, 0.0)
                    for a, m in ((p, s), (y, r))
                ]
                point = xp.solve_increasing(function, (at[0],), at[1], *map(certified.balls, ends))
                assert np.all(whole.contains(point)), (whole, point)
    value, slope = function(FUNCTIONS[name][1](y, p), p)
    assert np.all(whole.radius() <= 4.0 * radius * (1.0 + np.abs(value)) / slope + 2.0**-90)


def test_what_cannot_be_proven_is_the_callers_bracket():
    """y known to +-100 and a slope that may be anything: [low, high] and no NaN."""
    pytest.importorskip("flint")
    from refflow import certified

    got = xp.solve_increasing(
        FUNCTIONS["tanh"][0], (ball_of(1.0, 0.5),), ball_of([0.5], 100.0), *map(certified.balls, ([-3.0], [4.0]))
    )
    assert got.contains(np.array([-2.5])).all()
    assert got.contains(np.array([3.5])).all()
    assert got.radius()[0] < 3.6


ROOTS = [e for e in REGISTRY if e.name.startswith(("logistic mixture", "planar", "radial", "sylvester", "residual"))]


@pytest.mark.parametrize("entry", [pytest.param(e, id=e.name) for e in ROOTS])
@pytest.mark.parametrize("radius", [2.0**-50, 2.0**-16])
def test_balls_hold_the_inverses_of_every_map_with_a_root(entry, radius):
    """x and log-determinant at points of y's balls, at 256 bits, lie in those of the balls at 100."""
    pytest.importorskip("flint")
    from refflow import certified

    f, _, y, context = drawn(entry)
    rows = () if context is None else (certified.balls(context),)
    with certified.precision(100):
        whole = f.to("balls").inverse(ball_of(y, radius), *rows)
    rng = np.random.default_rng(9)
    for _ in range(6):
        with certified.precision(256):
            at = certified.balls(y) + certified.balls(rng.uniform(-1.0, 1.0, y.shape)) * ball_of(radius, 0.0)
            point = f.to("balls").inverse(at, *rows)
        assert all(np.all(a.contains(b)) for a, b in zip(whole, point, strict=True))
    spread = np.linalg.norm(np.linalg.inv(_jacobian(f, f.inverse(y, context)[0], context)), 2, axis=(1, 2))
    assert np.all(np.max(whole[0].radius(), axis=-1) <= 200.0 * radius * (1.0 + spread))


def _jacobian(f, x, context):
    columns = [f.forward(x + 1e-30j * e, context)[0].imag / 1e-30 for e in np.eye(x.shape[-1])]
    return np.stack(columns, axis=-1)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("entry", [pytest.param(e, id=e.name) for e in ROOTS])
def test_inverses_under_the_transformations_of_torch_and_jax(entry):
    """vmap over rows in both, jit of vmap in JAX: NumPy's x and log-determinant."""
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    f, _, y, context = drawn(entry)
    rows = [y] if context is None else [y, context]
    want = f.inverse(*rows)
    in_jax = jax.vmap(f.to("jax").inverse)
    for found in (
        torch.vmap(f.to("torch").inverse)(*map(torch.tensor, rows)),
        jax.jit(in_jax)(*map(jax.numpy.asarray, rows)),
    ):
        for a, b in zip(found, want, strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("radius", [0.0, 2.0**-40, 2.0**-6])
def test_balls_hold_every_fixed_point(radius):
    pytest.importorskip("flint")
    from refflow import certified

    with certified.precision(120):
        whole = xp.solve_contraction(bend, bend_jacobian, (certified.balls(W),), ball_of(ROWS, radius), 0.625)
    rng = np.random.default_rng(8)
    for _ in range(20):
        y = ROWS + radius * rng.choice([-1.0, 1.0, 0.5], ROWS.shape)
        with certified.precision(300):
            point = xp.solve_contraction(bend, bend_jacobian, (certified.balls(W),), certified.balls(y), 0.625)
        assert np.all(whole.contains(point))
    assert np.all(whole.radius() <= 8.0 * radius + 2.0**-100)
