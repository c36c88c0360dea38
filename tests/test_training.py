"""Training: it finds the maximum, it is repeatable, it survives what goes wrong."""

import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import replace as with_changes

import numpy as np
import pytest
from matrix import LIBRARIES

import refflow
from refflow import arrays as xp
from refflow.errors import DataError, DivergedError, FileError, StructureError
from refflow.modules import arrays, tree_equal
from refflow.observations import Observations, observations
from refflow.training.likelihood import first_bad_layer, negative_log_likelihood, real_rows
from refflow.training.optimizers import Adam, Flat, clip_norm


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.stack([a, 0.5 * a**2 + 0.3 * rng.normal(size=n)], axis=-1)


def small(seed=0, dtype="float64", **options):
    options = {"layers": 4, "hidden": (16,), **options}
    return refflow.realnvp(2, seed=seed, dtype=dtype, **options)


def same(a, b):
    return tree_equal(arrays(a), arrays(b))


# The maximum.


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lbfgs"])
def test_gaussian_reaches_the_closed_form_maximum(optimizer):
    x = np.random.default_rng(0).normal([1.0, -2.0], [0.5, 3.0], (400, 2))
    flow = refflow.Flow(refflow.StandardNormal((2,)), refflow.ElementwiseAffine(np.zeros(2), np.zeros(2)))
    options = {"epochs": 60} if optimizer == "lbfgs" else {"epochs": 300, "learning_rate": 0.03, "batch_size": 400}
    fitted, history = refflow.fit(flow, x, validation=0, optimizer=optimizer, **options)
    best = -np.log(x.std(axis=0)).sum() - np.log(2 * np.pi) - 1.0  # of all Gaussians, at mean and std of the rows
    assert fitted.log_prob(x).mean() == pytest.approx(best, abs=1e-5)
    assert fitted.log_prob(x).mean() <= best + 1e-12
    assert history.stopped == "finished"


def test_training_lowers_the_validation_loss_below_the_gaussian():
    x = rows(600)
    flow = small(preprocessing=[refflow.standardize(x)])
    held = rows(400, seed=9)
    fitted, _ = refflow.fit(flow, x, epochs=60, learning_rate=5e-3, seed=1)
    gaussian = np.cov(x.T)
    floor = -0.5 * np.linalg.slogdet(gaussian)[1] - np.log(2 * np.pi) - 1.0
    assert fitted.log_prob(held).mean() > floor + 0.3


def test_weights_count_rows():
    x = rows(60)
    weights = np.where(np.arange(60) < 30, 3.0, 1.0)
    repeated = np.concatenate([x, x[:30], x[:30]])
    flow, options = small(), {"validation": 0, "optimizer": "lbfgs", "epochs": 5}
    weighted = refflow.fit(flow, x, weights=weights / weights.mean(), **options).flow
    plain = refflow.fit(flow, repeated, **options).flow
    assert weighted.log_prob(x) == pytest.approx(plain.log_prob(x), abs=1e-6)


def test_adam_with_weights_trains_on_weighted_rows_only():
    x = np.concatenate([np.full((50, 1), 5.0) + rows(50)[:, :1] * 0.1, rows(50)[:, :1] * 0.1])
    flow = refflow.Flow(refflow.StandardNormal((1,)), refflow.ElementwiseAffine(np.zeros(1), np.zeros(1)))
    weights = np.repeat([0.0, 1.0], 50)
    fitted = refflow.fit(flow, x, weights=weights, validation=0, epochs=300, learning_rate=0.03).flow
    assert abs(fitted.decode(np.zeros((1, 1)))[0, 0]) < 0.1


def test_conditional_flow_learns_the_dependence_on_context():
    rng = np.random.default_rng(0)
    c = rng.uniform(-1, 1, (800, 1))
    x = 3.0 * c + 0.2 * rng.normal(size=(800, 1))
    flow = refflow.realnvp(1, layers=2, hidden=(16,), context_dim=1, seed=0)
    fitted, _ = refflow.fit(flow, x, context=c, epochs=80, learning_rate=1e-2)
    drawn = fitted.sample(200, np.array([[-0.5], [0.5]]), seed=0)
    assert drawn.mean(axis=0)[:, 0] == pytest.approx([-1.5, 1.5], abs=0.15)


# The parts of a step.


def test_adam_against_the_algorithm_written_out():
    theta, g = np.array([1.0, -2.0]), np.array([0.5, 0.1])
    adam = Adam(weight_decay=0.1, decoupled=True)
    got, moments = adam.step(theta, g, adam.start(theta), 0.01)
    got, moments = adam.step(got, 2 * g, moments, 0.01)
    want, m, v = theta, 0.0, 0.0
    for t, gradient in enumerate((g, 2 * g), start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        want = want - 0.01 * 0.1 * want - 0.01 * step
    np.testing.assert_allclose(got, want, rtol=8 * np.finfo(float).eps)
    assert moments.t == 2


def test_adam_with_plain_decay_adds_to_the_gradient():
    theta, g = np.array([1.0, -2.0]), np.array([0.5, 0.1])
    plain = Adam(weight_decay=0.1)
    got, _ = plain.step(theta, g, plain.start(theta), 0.01)
    want, _ = Adam().step(theta, g + 0.1 * theta, Adam().start(theta), 0.01)
    np.testing.assert_array_equal(got, want)


def test_clipping_keeps_direction_and_bounds_the_norm():
    g = np.array([3.0, 4.0], dtype=np.float32)
    clipped, norm = clip_norm(g, 1.0)
    assert (norm, clipped.dtype) == (5.0, np.float32)
    np.testing.assert_allclose(clipped, [0.6, 0.8], rtol=1e-6)
    assert clip_norm(g, None)[0] is g
    assert clip_norm(g, 6.0)[0] is g


def test_flat_layout_is_a_round_trip_of_views():
    tree = refflow.parameters(small())
    layout = Flat.of(tree)
    vector = layout.vector(tree)
    assert tree_equal(layout.unflatten(vector), tree)
    assert all(np.shares_memory(leaf, vector) for leaf in xp.leaves(layout.unflatten(vector)))


def test_schedule_is_followed():
    rates = []
    refflow.fit(
        small(), rows(64), epochs=4, batch_size=32, validation=0, schedule=lambda done: 1.0 - done,
        callback=lambda e: rates.append(e.learning_rate),
    )  # fmt: skip
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])


def test_averaged_parameters_lie_between_the_first_and_the_last():
    x = rows()
    averaged = refflow.fit(small(), x, validation=0, epochs=3, ema=0.99).flow
    last = refflow.fit(small(), x, validation=0, epochs=3).flow
    assert not same(averaged, last)
    assert averaged.log_prob(x).mean() > small().log_prob(x).mean()


def test_dropout_changes_training_but_not_the_model():
    x = rows()
    dropped = refflow.fit(small(dropout=0.3), x, epochs=2).flow
    assert not same(dropped, refflow.fit(small(), x, epochs=2).flow)
    np.testing.assert_array_equal(dropped.log_prob(x), dropped.log_prob(x))


def test_noise_is_fresh_in_every_epoch_and_stays_in_its_cell():
    flow = small(dequantization=refflow.Dequantization((1.0,)))
    data = observations(flow, np.arange(20).reshape(10, 2))
    rng = np.random.default_rng(0)
    first, second = (real_rows(flow, data, rng).x for _ in range(2))
    assert not np.array_equal(first, second)
    for noisy in (first, second):
        np.testing.assert_array_equal(np.floor(noisy), data.x)


# Repeatable, and resumed in the same bits.


def test_same_seed_same_bits_and_another_seed_others():
    x = rows()
    one, two, other = (refflow.fit(small(dropout=0.1), x, epochs=3, seed=s, ema=0.9).flow for s in (4, 4, 5))
    assert same(one, two)
    assert not same(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_keep_their_dtype(dtype):
    fitted = refflow.fit(small(dtype=dtype, dropout=0.2), rows(), epochs=2, ema=0.9, weight_decay=0.01).flow
    assert {str(leaf.dtype) for leaf in xp.leaves(arrays(fitted))} == {dtype}


def test_a_run_stopped_at_a_checkpoint_and_resumed_ends_in_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr("refflow.training.checkpoints.EVERY_SECONDS", 0.0)
    x, options = np.floor(2.0 * rows()) / 2.0, {"epochs": 9, "ema": 0.9, "seed": 3, "patience": 50}
    flow = small(dropout=0.2, dequantization=refflow.Dequantization((0.5,)))
    straight = refflow.fit(flow, x, **options)
    path = tmp_path / "run.safetensors"

    def interrupt(epoch):
        if epoch.number == 4:
            raise KeyboardInterrupt

    stopped = refflow.fit(flow, x, checkpoint=path, callback=interrupt, **options)
    assert stopped.history.stopped == "interrupted"
    resumed = refflow.fit(flow, x, checkpoint=path, **options)
    assert same(straight.flow, resumed.flow)
    strip = [[with_changes(e, seconds=0.0) for e in r.history.epochs] for r in (straight, resumed)]
    assert strip[0] == strip[1]
    again = refflow.fit(flow, x, checkpoint=path, **options)
    assert same(straight.flow, again.flow)


SCRIPT = """
import sys, numpy as np, refflow, refflow.training.checkpoints
refflow.training.checkpoints.EVERY_SECONDS = 0.0
x = np.random.default_rng(0).integers(0, 9, (400, 6))
flow = refflow.realnvp(6, layers=4, hidden=(32,), dropout=0.1, seed=0, dtype="float32",
                       dequantization=refflow.Dequantization((1.0,)), preprocessing=[refflow.Logit(0.05, 0.0, 9.0)])
def tell(epoch): print(epoch.number, flush=True)
flow, _ = refflow.fit(flow, x, epochs=25, ema=0.9, callback=tell, checkpoint=sys.argv[1] or None)
flow.save(sys.argv[2])
"""


def test_a_killed_process_resumes_to_the_same_file(tmp_path):
    """SIGKILL at three instants, then a last run to the end: the model file is that of a run never killed."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def run(checkpoint, model):
        return [sys.executable, str(script), str(checkpoint), str(model)]

    subprocess.run(run("", tmp_path / "straight"), check=True, stdout=subprocess.DEVNULL)
    checkpoint = tmp_path / "checkpoint"
    for after in (2, 6, 5):
        process = subprocess.Popen(run(checkpoint, tmp_path / "never"), stdout=subprocess.PIPE, text=True)
        for _ in range(after):
            process.stdout.readline()
        time.sleep(0.003 * after)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert checkpoint.exists()
    subprocess.run(run(checkpoint, tmp_path / "resumed"), check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "straight").read_bytes() == (tmp_path / "resumed").read_bytes()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path, x = tmp_path / "run.safetensors", rows()
    refflow.fit(small(), x, epochs=1, checkpoint=path)
    before = path.read_bytes()
    for change in ({"epochs": 2}, {"seed": 1}, {"learning_rate": 2e-3}, {"optimizer": "adamw"}):
        with pytest.raises(FileError, match="another model, other data or other"):
            refflow.fit(small(), x, checkpoint=path, **{"epochs": 1, **change})
    with pytest.raises(FileError, match="another model"):
        refflow.fit(small(), x + 1e-9, epochs=1, checkpoint=path)
    with pytest.raises(FileError, match="another model"):
        refflow.fit(small(scale="soft"), x, epochs=1, checkpoint=path)
    assert path.read_bytes() == before


# On a GPU.

on_a_gpu = pytest.mark.skipif(bool(LIBRARIES["cupy"].missing), reason=LIBRARIES["cupy"].missing or "cupy is here")


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_training_on_a_gpu_finds_what_numpy_finds(optimizer):
    """In float64 twenty steps differ by rounding only, which training multiplies; 1e-6 nats is far above that."""
    x, options = rows(), {"epochs": 10, "seed": 3, "optimizer": optimizer, "validation": (rows(100, seed=9),)}
    flow = small(preprocessing=[refflow.standardize(x)], dropout=0.1 if optimizer == "adam" else 0.0)
    here, there = refflow.fit(flow, x, **options), refflow.fit(flow.to("cupy"), x, **options)
    assert {xp.library(a) for a in xp.leaves(arrays(there.flow))} == {"cupy"}
    losses = [[e.validation for e in found.history.epochs] for found in (here, there)]
    np.testing.assert_allclose(losses[1][:3], losses[0][:3], rtol=0, atol=1e-6)
    assert there.history.epochs[-1].validation < losses[1][0]


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_keep_their_dtype_on_a_gpu(dtype):
    fitted, _ = refflow.fit(small(dtype=dtype).to("cupy"), rows(), epochs=1, ema=0.9)
    assert {str(a.dtype) for a in xp.leaves(arrays(fitted))} == {dtype}


@pytest.mark.gpu
@on_a_gpu
def test_a_run_on_a_gpu_stopped_at_a_checkpoint_goes_on_there(tmp_path, monkeypatch):
    """Not in the same bits: CuPy does not promise the order of its sums. From the same state, which is in the file."""
    monkeypatch.setattr("refflow.training.checkpoints.EVERY_SECONDS", 0.0)
    x, path, options = rows(), tmp_path / "run.safetensors", {"epochs": 4, "ema": 0.9, "seed": 3}
    flow = small(dropout=0.2).to("cupy")

    def interrupt(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    stopped = refflow.fit(flow, x, checkpoint=path, callback=interrupt, **options)
    assert stopped.history.stopped == "interrupted"
    resumed = refflow.fit(flow, x, checkpoint=path, **options)
    assert [e.number for e in resumed.history.epochs] == [1, 2, 3, 4]
    assert resumed.history.epochs[:2] == stopped.history.epochs
    assert {xp.library(a) for a in xp.leaves(arrays(resumed.flow))} == {"cupy"}
    straight = refflow.fit(flow, x, **options)
    last = [found.history.epochs[-1].validation for found in (resumed, straight)]
    assert last[0] == pytest.approx(last[1], abs=1e-6)


# What goes wrong.


def test_a_non_finite_loss_rolls_back_halves_the_step_and_names_the_layer():
    x = rows()
    flow = small(scale="exp")
    fitted, history = refflow.fit(flow, x, epochs=6, learning_rate=300.0, clip=None, validation=0)
    assert history.events
    assert all("rolled back and halved the step" in e and "layer" in e for e in history.events)
    assert np.isfinite(fitted.log_prob(x)).all()
    assert len(history.epochs) == 6


def test_a_loss_that_stays_non_finite_ends_training_with_the_best_so_far():
    layer = refflow.ElementwiseAffine(np.array([800.0, 0.0]), np.zeros(2))
    flow = refflow.Flow(refflow.StandardNormal((2,)), layer)
    with pytest.raises(DivergedError, match=r"expected finite losses.*ElementwiseAffine") as caught:
        refflow.fit(flow, rows(), epochs=2)
    assert same(caught.value.result.flow, flow)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize(("shift", "context"), [(0.0, 0.0), (300.0, 0.0), (0.0, 50.0)])
def test_data_and_contexts_far_from_unit_scale_are_a_warning(shift, context, optimizer):
    """Once, and in the history; with standardisation of both there is nothing to say."""
    x, c = rows() + shift, np.random.default_rng(0).normal(context, 1.0, (300, 1))
    said = {(300.0, 0.0): [r"the rows far.*\|z\| up to 3.*standardise x"], (0.0, 50.0): [r"context columns \[0\]"]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = refflow.fit(small(context_dim=1), x, context=c, epochs=1, optimizer=optimizer).history
    texts = [str(w.message) for w in caught]
    assert [e for e in history.events if "standardise" in e] == texts
    assert len(texts) == len(said.get((shift, context), []))
    assert all(re.search(pattern, text) for pattern, text in zip(said.get((shift, context), []), texts, strict=True))
    prepared = small(context_dim=1, preprocessing=refflow.standardize(x), context_preprocessing=refflow.standardize(c))
    assert refflow.fit(prepared, x, context=c, epochs=1, optimizer=optimizer).history.events == []


def test_a_base_of_another_scale_is_none():
    """What counts is where the base has its mass, not where zero is."""
    x = rows() + 300.0
    flow = refflow.Flow(refflow.DiagonalNormal(np.full(2, 300.0), np.zeros(2)), refflow.ElementwiseAffine.init((2,)))
    assert refflow.fit(flow, x, epochs=1).history.events == []


def test_rows_off_the_grid_are_a_warning():
    """Levels 0 .. 16 are on the grid, shifted by a half too; levels divided by 16, and points between, are not."""
    levels = np.random.default_rng(0).integers(0, 17, (60, 2)).astype(float)
    flow = small(preprocessing=refflow.standardize(levels), dequantization=refflow.Dequantization((1.0, 1.0)))
    mixed = refflow.modules.replace(flow, dequantization=refflow.Dequantization((0.0, 1.0)))
    for x in (levels, levels - 0.5, levels.astype(np.float32) * 1e6, levels.astype(int)):
        refflow.score(flow, x)
        refflow.score(mixed, x)
    for ask in (refflow.score, lambda flow, x: refflow.fit(flow, x, epochs=1)):
        with pytest.warns(UserWarning, match=r"not on the grid.*columns 0, 1"):
            ask(flow, levels / 16.0)
        with pytest.warns(UserWarning, match=r"not on the grid.*columns 1:"):
            ask(mixed, levels + 0.1 * np.random.default_rng(1).random((60, 2)))


def test_a_diverging_run_is_silent_on_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergedError):
            refflow.fit(small(dtype="float32"), rows(), epochs=3, learning_rate=1e6)


def test_the_first_bad_layer_is_named():
    bad = refflow.ElementwiseAffine(np.array([800.0, 0.0]), np.zeros(2))
    flow = refflow.Flow(refflow.StandardNormal((2,)), refflow.Chain((refflow.Reverse(), bad, refflow.Reverse())))
    assert first_bad_layer(flow, Observations(rows())) == "layer 1 (ElementwiseAffine)"


def test_interrupting_returns_the_best_so_far():
    def interrupt(epoch):
        if epoch.number == 3:
            raise KeyboardInterrupt

    x = rows()
    fitted, history = refflow.fit(small(), x, epochs=50, callback=interrupt)
    assert history.stopped == "interrupted"
    assert history.best_epoch in (1, 2, 3)
    assert not same(fitted, small())


def test_early_stopping_keeps_the_best_parameters():
    x, seen = rows(40), []
    flow = small(hidden=(64,))
    fitted, history = refflow.fit(
        flow, x, validation=(rows(40, seed=7),), epochs=400, learning_rate=1e-2, schedule="constant", patience=20,
        callback=lambda e: seen.append(e.validation),
    )  # fmt: skip
    assert history.stopped == "early"
    assert history.best_epoch == int(np.argmin(seen)) + 1 == len(seen) - 20
    assert -fitted.log_prob(rows(40, seed=7)).mean() == min(seen)


def test_a_callback_can_stop_training():
    history = refflow.fit(small(), rows(), epochs=50, callback=lambda e: e.number == 2).history
    assert (history.stopped, len(history.epochs)) == ("callback", 2)


def test_no_epochs_return_the_flow_as_it_was():
    assert same(refflow.fit(small(), rows(), epochs=0).flow, small())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs >= 0"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"ema": 1.0}, r"ema in \[0, 1\)"),
        ({"clip": -1.0}, "clip"),
        ({"patience": 0}, "patience"),
        ({"optimizer": "sgd"}, "adam, adamw, lbfgs"),
        ({"schedule": "linear"}, "constant, cosine"),
        ({"validation": 1.5}, "validation fraction"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(StructureError, match=message):
        refflow.fit(small(), rows(), **options)


def test_data_without_density_are_refused():
    flow = small()
    x = rows(20)
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="row 3, column 1"):
        refflow.fit(flow, x)
    with pytest.raises(DataError, match=r"constant columns \[1\]"):
        refflow.fit(flow, np.stack([np.arange(9.0), np.full(9, 2.0)], axis=-1))
    with pytest.raises(DataError, match="Dequantization"):
        refflow.fit(flow, np.arange(8).reshape(4, 2))
    with pytest.raises(DataError, match="at least one row"):
        refflow.fit(flow, np.empty((0, 2)))
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        refflow.fit(flow, np.zeros((5, 3)))


def test_mixed_parameter_dtypes_are_refused():
    flow = refflow.Flow(
        refflow.DiagonalNormal(np.zeros(2, dtype="float32"), np.zeros(2, dtype="float32")),
        refflow.ElementwiseAffine(np.zeros(2), np.zeros(2)),
    )
    with pytest.raises(StructureError, match="one dtype"):
        refflow.fit(flow, rows())


def test_no_trainable_parameters_are_refused():
    flow = refflow.Flow(refflow.StandardNormal((2,)), refflow.Reverse())
    with pytest.raises(StructureError, match="trainable"):
        refflow.fit(flow, rows())


def test_the_gradient_agrees_with_differences_along_random_directions():
    """Central differences of the training loss, extrapolated once (Richardson), in float64."""
    rng = np.random.default_rng(0)
    flow = refflow.realnvp(6, layers=4, hidden=(16, 16), activation="tanh", seed=0)
    layout = Flat.of(refflow.parameters(flow))
    theta = layout.vector(refflow.parameters(flow)) + 0.1 * rng.normal(
        size=Flat.of(refflow.parameters(flow)).vector(refflow.parameters(flow)).shape
    )
    data = Observations(rng.normal(size=(50, 6)))

    def loss(vector):
        return float(negative_log_likelihood(refflow.bind(flow, layout.unflatten(vector)), data))

    _, tree = refflow.value_and_grad(lambda p: negative_log_likelihood(refflow.bind(flow, p), data))(
        layout.unflatten(theta)
    )
    gradient = layout.vector(tree)
    for _ in range(5):
        v = rng.normal(size=theta.shape)
        v /= np.linalg.norm(v)

        def slope(h, v=v):
            return (loss(theta + h * v) - loss(theta - h * v)) / (2 * h)

        h = 2e-3
        best = (4 * slope(h / 2) - slope(h)) / 3
        assert abs(gradient @ v - best) <= 1e-7 * np.linalg.norm(gradient)


def test_training_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refflow.fit(small(scale="exp"), rows(), epochs=2, learning_rate=300.0, clip=None, validation=0)
