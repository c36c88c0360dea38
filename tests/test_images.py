"""Maps of images against plain loops and reshapes: squeeze, pieces, multi-scale, convolutions, and the recipes."""

import numpy as np
import pytest
from scipy.signal import correlate

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.errors import ShapeError, StructureError
from refflow.training.likelihood import has_dropout

RNG = np.random.default_rng(11)


def filled(m, scale=1.0):
    return refflow.map_arrays(lambda a: (scale * RNG.normal(size=a.shape)).astype(a.dtype), m)


# Shapes.


@pytest.mark.parametrize(("shape", "factor"), [((4, 6, 3), 2), ((3, 6, 1), 3), ((2, 2, 2), 1)])
def test_squeeze_is_its_equation_pixel_by_pixel(shape, factor):
    f, x = refflow.Squeeze(shape, factor), RNG.normal(size=(2, *shape))
    y, log_det = f.forward(x)
    channels = shape[2]
    assert y.shape[1:] == f.output_shape == (shape[0] // factor, shape[1] // factor, factor**2 * channels)
    for i, j, a, b, c in np.ndindex(*y.shape[1:3], factor, factor, channels):
        assert np.array_equal(y[:, i, j, (a * factor + b) * channels + c], x[:, i * factor + a, j * factor + b, c])
    assert np.array_equal(log_det, np.zeros(2))
    assert np.array_equal(f.inverse(y)[0], x)


def test_reshape_and_permute_axes_are_numpys():
    x = RNG.normal(size=(5, 2, 3, 4))
    assert np.array_equal(refflow.Reshape((2, 3, 4), (6, 4)).forward(x)[0], x.reshape(5, 6, 4))
    assert np.array_equal(refflow.Reshape((2, 3, 4), (24,)).inverse(x.reshape(5, 24))[0], x)
    f = refflow.PermuteAxes((2, 3, 4), (2, 0, 1))
    y = f.forward(x)[0]
    assert y.shape[1:] == f.output_shape == (4, 2, 3)
    assert np.array_equal(y, np.moveaxis(x, 3, 1))
    assert np.array_equal(f.inverse(y)[0], x)


def test_chains_follow_shapes_and_refuse_what_does_not_fit():
    squeeze = refflow.Squeeze((4, 4, 1))
    f = refflow.Chain((refflow.Logit(rank=3), squeeze, refflow.ActNorm.init(4, rank=3)))
    assert (f.event_shape, f.output_shape, f.event_rank, f.output_rank) == ((4, 4, 1), (2, 2, 4), 3, 3)
    back = refflow.Inverse(f)
    assert (back.event_shape, back.output_shape) == (f.output_shape, f.event_shape)
    round_trip = refflow.Chain((f, back))
    assert round_trip.event_shape == round_trip.output_shape == (4, 4, 1)
    flat = refflow.Chain((squeeze, refflow.Reshape((2, 2, 4), (16,))))
    assert (flat.event_rank, flat.output_rank) == (3, 1)
    with pytest.raises(StructureError, match="event_shape"):
        refflow.Chain((squeeze, squeeze))
    with pytest.raises(StructureError, match="event_rank"):
        refflow.Chain((flat, refflow.ActNorm.init(4, rank=3)))
    with pytest.raises(StructureError, match="base whose events fit"):
        refflow.Flow(refflow.StandardNormal((4, 4, 1)), flat)


@pytest.mark.parametrize(
    "make",
    [
        lambda: refflow.Squeeze((3, 4, 1)),
        lambda: refflow.Squeeze((4, 4)),
        lambda: refflow.Squeeze((4, 4, 1), 0),
        lambda: refflow.Reshape((2, 3), (5,)),
        lambda: refflow.Reshape((0,), (0,)),
        lambda: refflow.PermuteAxes((2, 3), (0, 0)),
        lambda: refflow.Concatenate((), ()),
        lambda: refflow.Concatenate((refflow.Reverse(),), (1, 2)),
        lambda: refflow.Concatenate((refflow.Reverse(),), (3,), axis=0),
        lambda: refflow.Concatenate((refflow.Reverse(), refflow.Reverse(rank=3)), (1, 2)),
        lambda: refflow.Concatenate((refflow.ElementwiseAffine.init((2,)),), (3,)),
        lambda: refflow.Concatenate((refflow.ElementwiseAffine.init((2, 3)),) * 2, (3, 3), -2),
        lambda: refflow.Concatenate(tuple(refflow.ElementwiseAffine.init((2, n)) for n in (3, 4)), (2, 2), -2),
        lambda: refflow.MultiScale(()),
        lambda: refflow.MultiScale((refflow.ActNorm.init(2, rank=3),)),
        lambda: refflow.MultiScale((refflow.Squeeze((2, 2, 1)), refflow.Squeeze((2, 2, 1)))),
        lambda: refflow.MultiScale((refflow.Squeeze((2, 2, 1), 1), refflow.Squeeze((2, 2, 1), 1))),
        lambda: refflow.realnvp_image((4, 4)),
        lambda: refflow.realnvp_image((6, 4, 1), scales=3, seed=0),
        lambda: refflow.realnvp_image((2, 2, 1), scales=2, seed=0),
        lambda: refflow.glow((6, 8, 1), levels=2, seed=0),
        lambda: refflow.glow((8, 8, 1), levels=0, seed=0),
    ],
)  # fmt: skip
def test_structures_that_cannot_be_are_refused(make):
    with pytest.raises((StructureError, TypeError), match=r"expected|missing"):
        make()


def test_concatenate_maps_each_piece_alone():
    x, c = RNG.normal(size=(6, 2, 5)), RNG.normal(size=(6, 1))
    a = filled(refflow.ElementwiseAffine.init((2, 3)))
    mask = refflow.Mask((2, 2), (1, 2))
    b = filled(refflow.AffineCoupling(mask, refflow.MLP.init(2, 4, rng=RNG, hidden=(3,), context_dim=1)))
    f = refflow.Concatenate((a, b), (3, 2))
    assert (f.event_shape, f.context_dim) == ((2, 5), 1)
    y, log_det = f.forward(x, c)
    (ya, la), (yb, lb) = a.forward(x[..., :3]), b.forward(x[..., 3:], c)
    assert np.array_equal(y, np.concatenate([ya, yb], axis=-1))
    assert np.array_equal(log_det, la + lb)
    grown = refflow.Concatenate((refflow.Reshape((2, 4), (4, 2)), refflow.Reshape((2, 2), (4, 1))), (4, 2))
    assert (grown.event_shape, grown.output_shape) == ((2, 6), (4, 3))
    z = RNG.normal(size=(3, 2, 6))
    assert np.array_equal(grown.inverse(grown.forward(z)[0])[0], z)


# Multi-scale flows.


def levels_of(shape, count, channels_first=None):
    """Levels of a squeeze and an elementwise map each, on images of the shape."""
    made = []
    for _ in range(count):
        squeeze = refflow.Squeeze(shape)
        made.append(refflow.Chain((squeeze, filled(refflow.ElementwiseAffine.init(squeeze.output_shape)))))
        height, width, channels = squeeze.output_shape
        shape = height, width, channels - channels // 2
    return tuple(made)


def test_multiscale_latents_are_in_the_documented_order():
    """[z_1 | z_2 | z_3], each row-major; the first half of the channels leaves, odd ones stay longer."""
    levels = levels_of((8, 4, 3), 2)
    last = filled(refflow.ElementwiseAffine.init((2, 1, 12)))
    f, x = refflow.MultiScale((*levels, last)), RNG.normal(size=(5, 8, 4, 3))
    assert f.latent_shapes == ((4, 2, 6), (2, 1, 12), (2, 1, 12))
    h1, l1 = levels[0].forward(x)
    h2, l2 = levels[1].forward(h1[..., 6:])
    h3, l3 = last.forward(h2[..., 12:])
    y, log_det = f.forward(x)
    latents = [h.reshape(5, -1) for h in (h1[..., :6], h2[..., :12], h3)]
    assert np.array_equal(y, np.concatenate(latents, axis=-1))
    assert np.allclose(log_det, l1 + l2 + l3, rtol=1e-14)
    back, log_det_back = f.inverse(y)
    assert np.allclose(back, x, rtol=1e-12, atol=1e-12)
    assert np.allclose(log_det_back, -log_det, rtol=1e-13)
    odd = refflow.MultiScale((refflow.Reshape((2, 1, 3), (2, 1, 3)), refflow.Reshape((2, 1, 2), (2, 1, 2))))
    assert odd.latent_shapes == ((2, 1, 1), (2, 1, 2))
    assert np.array_equal(odd.forward(np.arange(6.0).reshape(2, 1, 3))[0], [0.0, 3.0, 1.0, 2.0, 4.0, 5.0])


def test_the_log_determinant_of_a_multiscale_flow_is_that_of_its_dense_jacobian():
    flow = filled(refflow.glow((4, 4, 1), steps=1, hidden=(3,), activation="tanh", seed=0), 0.3)
    x = RNG.normal(size=(4, 4, 1))
    f = flow.bijection
    columns = [np.imag(f.forward(x + 1e-30j * e.reshape(x.shape))[0]) / 1e-30 for e in np.eye(16)]
    assert np.isclose(f.forward(x)[1], np.linalg.slogdet(np.stack(columns, axis=1))[1], rtol=1e-12)


def test_flows_whose_latents_have_another_shape():
    flow = filled(refflow.realnvp_image((4, 4, 1), couplings=1, hidden=(3,), context_dim=2, seed=0), 0.3)
    assert (flow.event_shape, flow.base.shape) == ((4, 4, 1), (16,))
    x, c = RNG.normal(size=(3, 4, 4, 1)), RNG.normal(size=(3, 2))
    z = flow.encode(x, c)
    assert z.shape == (3, 16)
    assert np.allclose(flow.decode(z, c), x, rtol=1e-10, atol=1e-10)
    drawn, log_p = flow.sample_and_log_prob(2, c, seed=0)
    assert (drawn.shape, log_p.shape) == ((2, 3, 4, 4, 1), (2, 3))
    assert np.allclose(flow.log_prob(drawn, c), log_p, rtol=1e-9)
    with pytest.raises(ShapeError, match=r"z of shape \(\.\.\., 16\)"):
        flow.decode(x, c)
    with pytest.raises(ShapeError, match=r"x of shape \(\.\.\., 4, 4, 1\)"):
        flow.log_prob(z, c)


def test_points_outside_the_domain_have_nan_latents_of_the_latents_shape():
    flow = refflow.glow((2, 2, 1), levels=1, steps=1, hidden=(2,), preprocessing=[refflow.Logit(rank=3)], seed=0)
    x = np.full((2, 2, 2, 1), 0.5)
    x[1, 0, 0, 0] = 1.5
    z = flow.encode(x)
    assert np.isfinite(z[0]).all()
    assert np.isnan(z[1]).all()
    assert np.isneginf(flow.log_prob(x)[1])


def test_dask_blocks_encode_and_decode_to_other_shapes():
    da = pytest.importorskip("dask.array")
    flow = filled(refflow.glow((2, 2, 1), levels=1, steps=1, hidden=(2,), context_dim=1, seed=0), 0.3)
    x, c = RNG.normal(size=(5, 2, 2, 1)), RNG.normal(size=(5, 1))
    blocks, context = da.from_array(x, chunks=(2, 1, 2, 1)), da.from_array(c, chunks=2)
    z = flow.encode(blocks, context)
    assert (z.shape, z.chunks[0]) == ((5, 4), (2, 2, 1))
    assert np.allclose(z.compute(scheduler="synchronous"), flow.encode(x, c), rtol=1e-13, atol=1e-14)
    back = flow.decode(z, context)
    assert back.shape == x.shape
    assert np.allclose(back.compute(scheduler="synchronous"), x, rtol=1e-11, atol=1e-12)
    assert np.allclose(flow.log_prob(blocks, context).compute(scheduler="synchronous"), flow.log_prob(x, c), rtol=1e-12)
    assert flow.sample(6, da.from_array(c, chunks=2), seed=0).shape == (6, 5, 2, 2, 1)


# Convolutional conditioners.


def convolved(image, conv):
    """The convolution of one image by SciPy, channel by channel."""
    weight, k = conv.weight, conv.weight.shape[0]
    found = np.zeros((*image.shape[:2], weight.shape[3])) + conv.bias
    for i, j in np.ndindex(*weight.shape[2:]):
        full = correlate(image[..., i], weight[:, :, i, j], mode="full", method="direct")
        found[..., j] += full[k // 2 : k // 2 + image.shape[0], k // 2 : k // 2 + image.shape[1]]
    return found


def test_checkerboard_couplings_are_the_papers_equation():
    """y = b x + (1 - b) (x exp(s(b x)) + t(b x)), log-determinant sum (1 - b) s (Dinh et al., 2017, eq. 9)."""
    mask = refflow.checkerboard_mask(3, 4, 2)
    net = filled(refflow.ConvNet.init(mask, 2, rng=RNG, hidden=(5,), activation="tanh", context_dim=1), 0.4)
    f = refflow.AffineCoupling(mask, net, "exp")
    x, c = RNG.normal(size=(2, 3, 4, 2)), RNG.normal(size=(2, 1))
    b = np.fromfunction(lambda i, j, k: (i + j + 1) % 2, (3, 4, 2))
    y, log_det = f.forward(x, c)
    for n in range(2):
        seen = np.concatenate([b * x[n], b[..., :1], np.full((3, 4, 1), c[n, 0])], axis=-1)
        out = convolved(np.tanh(convolved(seen, net.layers[0])), net.layers[1])
        s, t = out[..., :2], out[..., 2:]
        assert np.allclose(y[n], b * x[n] + (1 - b) * (x[n] * np.exp(s) + t), rtol=1e-12, atol=1e-13)
        assert np.isclose(log_det[n], np.sum((1 - b) * s), rtol=1e-12)


@pytest.mark.parametrize("move_last", [True, False])
def test_channel_couplings_are_the_papers_equation(move_last):
    """y_1 = x_1, y_2 = x_2 exp(s(x_1)) + t(x_1) for images x_1 and x_2 of half of the channels (eq. 7)."""
    mask = refflow.channel_mask(3, 2, 5, move_last)
    net = filled(refflow.ConvNet.init(mask, 2, rng=RNG, hidden=(4, 3), activation="tanh"), 0.4)
    f = refflow.AffineCoupling(mask, net, "exp")
    x = RNG.normal(size=(2, 3, 2, 5))
    y, log_det = f.forward(x)
    cut = slice(3, 5) if move_last else slice(0, 3)
    kept = slice(0, 3) if move_last else slice(3, 5)
    m = cut.stop - cut.start
    assert np.array_equal(y[..., kept], x[..., kept])
    for n in range(2):
        h = np.tanh(convolved(x[n][..., kept], net.layers[0]))
        out = convolved(np.tanh(convolved(h, net.layers[1])), net.layers[2])
        assert np.allclose(y[n][..., cut], x[n][..., cut] * np.exp(out[..., :m]) + out[..., m:], rtol=1e-12, atol=1e-13)
        assert np.isclose(log_det[n], np.sum(out[..., :m]), rtol=1e-12)


MASKS = (refflow.Mask((2, 3, 2), (0, 3, 4, 9)), refflow.checkerboard_mask(2, 3), refflow.channel_mask(2, 2, 3))


@pytest.mark.parametrize("mask", MASKS, ids=["arbitrary", "checkerboard", "channel"])
@pytest.mark.parametrize("p", [1, 2, 5])
def test_parameters_come_in_blocks(mask, p):
    """The block theta_j is what a network with the output channels of theta_j alone returns."""
    net = filled(refflow.ConvNet.init(mask, p, rng=RNG, hidden=(4,), activation="tanh"))
    assert (net.in_features, net.out_features) == (len(mask.kept), p * len(mask.moved))
    x = RNG.normal(size=(2, len(mask.kept)))
    out, last = net(x).reshape(2, p, -1), net.layers[-1]
    width = last.bias.shape[0] // p
    for j in range(p):
        at = slice(j * width, (j + 1) * width)
        alone = refflow.ConvNet(mask, (*net.layers[:-1], refflow.Conv(last.weight[..., at], last.bias[at])), "tanh")
        assert np.allclose(alone(x), out[:, j], rtol=1e-12, atol=1e-13)
    together = refflow.ConvNet(mask, net.layers, "tanh", by_coordinate=True)
    assert np.array_equal(together(x).reshape(2, -1, p), np.swapaxes(out, 1, 2))


def test_outputs_see_only_their_neighbourhood():
    mask = refflow.checkerboard_mask(1, 9)
    net = filled(refflow.ConvNet.init(mask, 1, rng=RNG, hidden=(4,), activation="tanh"))
    x = RNG.normal(size=(1, len(mask.kept)))
    moved = x.copy()
    moved[0, 0] += 1.0  # pixel 0
    changed = np.flatnonzero(net(moved)[0] != net(x)[0])
    assert [mask.moved[i] for i in changed] == [1]  # two windows of radius 1 reach to pixel 2, and 3 stays


def test_a_single_pixel_whose_coordinates_all_move():
    mask = refflow.Mask((1, 1, 1), (0,))
    net = filled(refflow.ConvNet.init(mask, 2, rng=RNG, hidden=(3,), context_dim=1))
    f = refflow.AffineCoupling(mask, net)
    x, c = RNG.normal(size=(4, 1, 1, 1)), RNG.normal(size=(4, 1))
    assert np.allclose(f.inverse(f.forward(x, c)[0], c)[0], x, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m, net: refflow.ConvNet(m, net.layers[:1]), StructureError),
        (lambda m, net: refflow.ConvNet(m, net.layers[1:]), ShapeError),
        (lambda m, net: refflow.ConvNet(m, ()), StructureError),
        (lambda m, net: refflow.ConvNet(m, net.layers, "cube"), StructureError),
        (lambda m, net: refflow.ConvNet(m, net.layers, dropout=1.0), StructureError),
        (lambda m, net: refflow.ConvNet(refflow.half_mask(4), net.layers), StructureError),
        (lambda m, net: refflow.Conv(np.zeros((2, 2, 1, 1)), np.zeros(1)), ShapeError),
        (lambda m, net: refflow.Conv(np.zeros((3, 3, 1, 2)), np.zeros(1)), ShapeError),
        (lambda m, net: refflow.AffineCoupling(m, refflow.ConvNet.init(m, 3, rng=RNG)), StructureError),
        (lambda m, net: refflow.ConvNet.init(m, 1, rng=RNG, context_dim=1)(np.zeros((1, 4))), ShapeError),
        (lambda m, net: xp.conv2d(np.zeros((2, 2, 2)), np.zeros((3, 3, 1, 1)), np.zeros(1)), ShapeError),
    ],
)  # fmt: skip
def test_networks_that_do_not_fit_are_refused(change, error):
    mask = refflow.channel_mask(2, 1, 4)
    with pytest.raises(error, match="expected"):
        change(mask, refflow.ConvNet.init(mask, 2, rng=RNG, hidden=(3,)))


def test_residual_networks_are_their_equation():
    """theta = conv_out(a(h_1)), h_1 = h_0 + V(a(U(a(h_0)))), h_0 = conv_in(image)."""
    mask = refflow.channel_mask(3, 3, 4)
    net = refflow.ConvResidualNet.init(mask, 1, rng=RNG, width=3, blocks=1, activation="tanh")
    net = filled(net, 0.5)
    x = RNG.normal(size=(2, 3, 3, 4))
    for n in range(2):
        h = convolved(x[n][..., :2], net.first)
        h = h + convolved(np.tanh(convolved(np.tanh(h), net.blocks[0])), net.blocks[1])
        want = convolved(np.tanh(h), net.last).ravel()
        assert np.allclose(net(mask.split(x)[0])[n], want, rtol=1e-12, atol=1e-13)
    with pytest.raises(StructureError, match="blocks"):
        refflow.ConvResidualNet(mask, net.first, net.blocks[:1], net.last)
    flow = refflow.realnvp_image((4, 4, 1), couplings=1, hidden=(3,), blocks=2, seed=0)
    nets = [
        f.conditioner
        for level in flow.bijection.bijections[-1].levels
        for f in level.bijections
        if hasattr(f, "conditioner")
    ]
    assert all(isinstance(n, refflow.ConvResidualNet) and len(n.blocks) == 4 for n in nets)


def test_dropout_is_for_training_alone():
    mask = refflow.checkerboard_mask(4, 4)
    net = filled(refflow.ConvNet.init(mask, 2, rng=RNG, hidden=(16,), dropout=0.5))
    x = RNG.normal(size=(3, len(mask.kept)))
    assert has_dropout(net)
    assert np.array_equal(net(x), net(x))
    noisy = refflow.conditioners.with_dropout(net, np.random.default_rng(0))
    assert not np.allclose(noisy(x), net(x))
    assert not has_dropout(refflow.ConvNet(mask, net.layers))


# The recipes.


def test_realnvp_for_images_has_the_papers_layers():
    """Section 4.1: three checkerboard couplings, squeeze, three channel couplings; at last four checkerboard ones."""
    flow = refflow.realnvp_image((8, 8, 3), scales=3, hidden=(2,), actnorm=False, seed=0)
    levels = flow.bijection.bijections[-1].levels
    names = [[type(f).__name__ for f in level.bijections] for level in levels]
    assert names == [["AffineCoupling"] * 3 + ["Squeeze"] + ["AffineCoupling"] * 3] * 2 + [["AffineCoupling"] * 4]
    shapes = [level.event_shape for level in levels]
    assert shapes == [(8, 8, 3), (4, 4, 6), (2, 2, 12)]
    for level in levels:
        masks = [f.mask for f in level.bijections if isinstance(f, refflow.AffineCoupling)]
        halves = [masks[:3], masks[3:]] if len(masks) == 6 else [masks]
        for kind in halves:
            assert all(set(a.moved) == set(b.kept) for a, b in zip(kind[:-1], kind[1:], strict=True))
        assert masks[0].moved == refflow.checkerboard_mask(*level.event_shape).moved
    assert sum(map(np.prod, flow.bijection.bijections[-1].latent_shapes)) == 8 * 8 * 3


def test_glow_has_the_papers_steps():
    flow = refflow.glow((8, 8, 3), levels=3, steps=2, hidden=(2,), seed=0)
    levels = flow.bijection.bijections[-1].levels
    names = [[type(f).__name__ for f in level.bijections] for level in levels]
    assert names == [["Squeeze"] + ["ActNorm", "LU", "AffineCoupling"] * 2] * 3
    assert flow.bijection.bijections[-1].latent_shapes == ((4, 4, 6), (2, 2, 12), (1, 1, 48))


@pytest.mark.parametrize(("sides", "scales", "levels"), [((28, 28), 2, 2), ((6, 6), 2, 1), ((5, 4), 1, None)])
def test_the_number_of_levels_follows_the_sides(sides, scales, levels):
    flow = refflow.realnvp_image((*sides, 1), couplings=1, hidden=(), seed=0)
    assert len(flow.bijection.bijections[-1].levels) == scales
    if levels is None:
        with pytest.raises(StructureError, match="halved 1 times"):
            refflow.glow((*sides, 1), seed=0)
    else:
        flow = refflow.glow((*sides, 1), steps=1, hidden=(), seed=0)
        assert len(flow.bijection.bijections[-1].levels) == levels


@pytest.mark.parametrize("recipe", [refflow.realnvp_image, refflow.glow])
def test_initialize_sets_the_actnorms_of_every_level(recipe):
    """Each gives mean 0 and variance 1 in every channel on the batch that it was set from, wherever it stands."""
    flow = recipe((4, 4, 2), hidden=(3,), preprocessing=[refflow.Reshape((4, 4, 2), (4, 4, 2))], seed=0)
    flow = filled(flow, 0.3)
    x = RNG.normal(3.0, 2.0, size=(200, 4, 4, 2))
    body = refflow.initialize(flow, x).bijection.bijections[-1]
    h, seen = x, 0
    for k, level in enumerate(body.levels):
        for f in level.bijections:
            h = f.forward(h)[0]
            if isinstance(f, refflow.ActNorm):
                seen += 1
                assert np.allclose(h.mean(axis=(0, 1, 2)), 0.0, atol=1e-11)
                assert np.allclose(h.std(axis=(0, 1, 2)), 1.0, rtol=1e-11)
        h = body.split(h, k)[1]
    assert seen > 6
    pieces = refflow.Concatenate((refflow.ActNorm.init(1, rank=3), refflow.ActNorm.init(1, rank=3)), (1, 1))
    flow = refflow.Flow(refflow.StandardNormal((4, 4, 2)), refflow.Chain((pieces,)))
    y = refflow.initialize(flow, x).encode(x)
    assert np.allclose(y.std(axis=(0, 1, 2)), 1.0, rtol=1e-11)


@pytest.mark.parametrize("recipe", [refflow.realnvp_image, refflow.glow])
def test_flows_of_images_train_save_and_load(recipe, tmp_path):
    x = RNG.integers(0, 4, size=(96, 4, 4, 1))
    flow = recipe(
        (4, 4, 1), hidden=(4,), preprocessing=[refflow.Logit(0.05, 0.0, 4.0, rank=3)], dropout=0.1,
        dequantization=refflow.Dequantization(), seed=0, dtype="float32",
    )  # fmt: skip
    before = refflow.score(flow, x).bits_per_dim
    trained, _ = refflow.fit(flow, x, epochs=5, batch_size=32, seed=0)
    after = refflow.score(trained, x).bits_per_dim
    assert after < before - 0.05
    assert all(a.dtype == np.float32 for a in xp.leaves(refflow.parameters(trained)))
    loaded = refflow.load(trained.save(tmp_path / "flow.safetensors"))
    real = x + np.float32(0.5)
    assert np.array_equal(loaded.log_prob(real.astype(np.float32)), trained.log_prob(real.astype(np.float32)))


def test_a_deep_multiscale_flow_obeys_the_laws():
    """Two levels at 4 x 4, and no law loses more digits than its conditioning explains."""
    flow = filled(refflow.glow((4, 4, 1), steps=2, hidden=(4,), activation="tanh", seed=0), 0.3)
    f, x = flow.bijection, RNG.normal(size=(3, 4, 4, 1))
    asked = (laws.shapes, laws.batching, laws.round_trip, laws.antisymmetry, laws.log_det_complex_step, laws.precision)
    findings = laws.check_laws(f, x, laws=asked) + laws.check_laws(refflow.Inverse(f), f.forward(x)[0], laws=asked)
    assert [finding.status for finding in findings] == ["pass"] * 12


def test_spline_couplings_take_convolutional_networks():
    """Coordinate by coordinate: the parameters of a moved pixel depend on the kept pixels around it alone."""
    mask, bins = refflow.checkerboard_mask(1, 8), 3
    net = refflow.ConvNet.init(mask, 3 * bins - 1, rng=RNG, hidden=(4,), activation="tanh", by_coordinate=True)
    f = filled(refflow.RationalQuadraticCoupling(mask, net, bins))
    x = RNG.uniform(-2.0, 2.0, size=(1, 1, 8, 1))
    moved = x.copy()
    moved[0, 0, 0, 0] += 0.5
    changed = np.flatnonzero(f.forward(moved)[0] != f.forward(x)[0])
    assert changed.tolist() == [0, 1]  # two windows of radius 1 reach pixel 2, which stays
    assert laws.round_trip(f, x).status == "pass"
    assert laws.log_det_complex_step(f, x).status == "pass"
