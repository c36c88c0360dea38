"""A flow whose parameters torch trains: `to("torch")`, torch.optim, `to("numpy")`, one file. Needs torch.

The data are planar positions of a double pendulum's tip (lengths 1, angles normal), thin and curved as real ones are.
"""

import numpy as np
import torch

import refflow
from refflow import arrays as xp
from refflow.baselines import gaussian


def tips(n: int, seed: int) -> np.ndarray:
    first, second = np.random.default_rng(seed).normal([[0.0], [1.5]], [[0.4], [1.0]], (2, n))
    x = np.stack([np.sin(first) + np.sin(first + second), -np.cos(first) - np.cos(first + second)], axis=-1)
    return x.astype(np.float32)


x, fresh = tips(2000, seed=0), tips(2000, seed=1)
flow = refflow.realnvp(2, layers=6, hidden=(32, 32), preprocessing=[refflow.standardize(x)], seed=0, dtype="float32")

flow = flow.to("torch")  # the same flow; its arrays are tensors
weights = [w.requires_grad_() for w in xp.leaves(refflow.parameters(flow))]  # what trains; statistics stay as they are
optimizer = torch.optim.Adam(weights, lr=5e-3)
rows, order = torch.from_numpy(x), torch.Generator().manual_seed(0)
for step in range(400):
    batch = rows[torch.randint(len(rows), (256,), generator=order)]
    loss = -flow.log_prob(batch).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step}: {loss.item():.3f} nats")

flow = flow.to("numpy")
again = refflow.load(flow.save("pendulum.safetensors"))
reached, floor = again.log_prob(fresh).mean(), gaussian(x).log_prob(fresh).mean()
print(f"fresh points: {reached:.3f} nats, a Gaussian {floor:.3f}")
assert reached > floor + 0.3
