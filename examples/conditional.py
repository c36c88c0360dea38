"""A conditional flow p(x | c): the spread of x grows with c, and its sign is random."""

import numpy as np

import refflow

rng = np.random.default_rng(0)
c = rng.uniform(0.5, 2.0, (3000, 1))
x = rng.choice([-1.0, 1.0], (3000, 1)) * c + 0.1 * rng.standard_normal((3000, 1))
x = np.concatenate([x, x**2 + 0.1 * rng.standard_normal((3000, 1))], axis=1)

flow = refflow.realnvp(
    2, context_dim=1, layers=6, hidden=(32, 32), seed=0, preprocessing=refflow.standardize(x),
    context_preprocessing=refflow.standardize(c),
)  # fmt: skip
flow, history = refflow.fit(flow, x, context=c, epochs=40, learning_rate=5e-3)

levels = np.array([[0.75], [1.75]])
drawn = flow.sample(2000, levels, seed=1)  # (2000, 2, 2): draws, context rows, coordinates
for level, sizes in zip(levels[:, 0], np.median(np.abs(drawn[..., 0]), axis=0), strict=True):
    print(f"c = {level}: median |x| of the samples {sizes:.3f}")
    assert abs(sizes - level) < 0.15
