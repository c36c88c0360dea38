"""The main job in Python, kept short: train on real digits, score the validation rows, sample, save, load.

`refflow train digits` is this with the chosen settings, baselines and pictures.
"""

import numpy as np

import refflow
from refflow.data import DIGITS_SPLIT, load_digits

images, _ = load_digits()  # (1797, 64), levels 0 .. 16
train, validation = images[: DIGITS_SPLIT[0]], images[DIGITS_SPLIT[0] : DIGITS_SPLIT[1]]

flow = refflow.realnvp(
    64,
    layers=6,
    hidden=(64, 64),
    linear="permutation",
    dropout=0.1,
    preprocessing=[refflow.Logit(alpha=0.05, low=0.0, high=17.0)],
    dequantization=refflow.Dequantization((1.0,)),
    seed=0,
    dtype="float32",
)
flow, history = refflow.fit(flow, train, validation=(validation,), epochs=30, ema=0.99, learning_rate=2e-3)

score = refflow.score(flow, validation)
print(f"validation: {score.bits_per_dim:.3f} +- {score.bits_standard_error:.3f} bits/dim, {len(history.epochs)} epochs")
levels = flow.dequantization.levels(flow.sample(1, seed=0))
print(levels.reshape(8, 8).astype(int))

again = refflow.load(flow.save("digits-example.safetensors"))
assert np.array_equal(again.log_prob(train[:5] + np.float32(0.5)), flow.log_prob(train[:5] + np.float32(0.5)))
assert score.bits_per_dim < 2.6
