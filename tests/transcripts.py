"""Everything that a flow says when it is asked in many ways, as a list that can be compared bit for bit."""

import numpy as np


class Target:
    """A subject's functions, fed with rows of its domain and their contexts."""

    def __init__(self, keywords):
        self.keywords, self.shape = keywords, keywords["event_shape"]
        self.context = keywords.get("context")
        self.maps = [name for name in ("forward", "inverse") if name in keywords]

    def rows(self, side, n=24, size=1.0, seed=5):
        """Normal rows of the line; of a box, where the normal distribution has them."""
        x = size * np.random.default_rng(seed).standard_normal((n, *self.shape))
        box = self.keywords.get({"forward": "domain", "inverse": "codomain"}[side])
        with np.errstate(over="ignore"):
            return x if box is None else box[0] + (box[1] - box[0]) / (1.0 + np.exp(-x))

    def __call__(self, name, x, rows=None):
        if self.context is None:
            return self.keywords[name](x)
        n = len(x)
        c = self.context[:n] if rows is None else self.context[rows]
        return self.keywords[name](x, np.resize(c, (n, c.shape[-1])))


def transcript(subject):
    """Everything that a fault can change: values, shapes, dtypes, memory, exceptions, over many kinds of rows."""
    target, said = Target(subject.build()), []

    def ask(*key, call):
        try:
            with np.errstate(all="ignore"):
                outputs = call()
        except (ValueError, TypeError, IndexError) as error:
            outputs = repr(error)
        for out in outputs if isinstance(outputs, tuple) else (outputs,):
            said.append((*key, repr(np.shape(out)), str(getattr(out, "dtype", "")), np.asarray(out).tobytes()))
        return outputs

    def both(label, change, n=24, size=1.0):
        for name in target.maps:
            x = change(target.rows(name, n, size))
            out = ask(label, name, call=lambda name=name, x=x: target(name, x))
            said.append(
                (label, name, "input", x.tobytes(), np.shares_memory(x, out[0]) if isinstance(out, tuple) else 0)
            )

    both("normal", lambda x: x)
    both("again", lambda x: x)
    both("one", lambda x: x, n=1)
    both("many", lambda x: x, n=100)
    both("far", lambda x: x, size=40.0)
    both("very far", lambda x: x, size=1e12)
    both("single", lambda x: x.astype(np.float32))
    both("zeros", lambda x: np.where(np.arange(x.size).reshape(x.shape) % 3 == 0, 0.0, x))
    both("fortran", np.asfortranarray)
    for bound in (3.0, 32.0):
        for dtype in (np.float32, np.float64):
            both(f"at {bound}", lambda x, b=bound, t=dtype: (np.sign(x) * b).astype(t))
    both("NaN", lambda x: np.where(np.arange(len(x)).reshape(-1, *(1,) * (x.ndim - 1)) == 2, np.nan, x))
    if "forward" in target.maps:
        said.append(("overwritten", overwritten(target)))
    if "log_prob" in target.keywords:
        densities(target, ask)
    values = target.keywords["parameters"]()
    target.keywords["set_parameters"]({k: 1.25 * v for k, v in values.items()})
    both("changed", lambda x: x)
    return said


@np.errstate(all="ignore")
def overwritten(target):
    """Whether a second call changes what the first one gave."""
    first, _ = target("forward", target.rows("forward"))
    kept = np.array(first)
    target("forward", target.rows("forward", seed=6))
    return not np.array_equal(first, kept, equal_nan=True)


def densities(target, ask):
    for label, size in (("log_prob", 1.0), ("log_prob far", 40.0)):
        x = target.rows("inverse", size=size)
        ask(label, call=lambda x=x: target("log_prob", x))
    x = np.where(np.arange(24)[:, None] == 2, np.nan, target.rows("inverse"))
    ask("log_prob NaN", call=lambda: target("log_prob", x))
    if "gradient" in target.keywords:
        ask("gradient", call=lambda: target.keywords["gradient"](target.rows("inverse")))
    more = () if target.context is None else (target.context[:25],)
    for name in sorted({"sample", "sample_and_log_prob"} & target.keywords.keys()):
        for seed in (3, 4):
            ask(name, call=lambda name=name, seed=seed: target.keywords[name](25, seed, *more))
    ask("log_prob after", call=lambda: target("log_prob", target.rows("inverse")))
