"""The vocabulary in which every equation of refflow is written.

About sixty operations with the names of the array API standard. Each calls the array's own library, found from the
array in hand, and records itself on autograd's tape when an operand is traced; its derivative is written in the same
vocabulary. So one definition runs, and is differentiated, on every library whose arrays follow the standard.

Import it as `xp`, the standard's own name for a namespace:

>>> import numpy as np
>>> from refflow import arrays as xp
>>> xp.value_and_grad(lambda s: xp.sum(xp.exp(s)))(np.zeros(2, dtype=np.float32))
(np.float32(2.0), array([1., 1.], dtype=float32))
"""

from refflow.arrays import operators as operators
from refflow.arrays.creation import arange, asarray, constant, full, ones, ones_like, pi, zeros, zeros_like
from refflow.arrays.elementwise import (
    abs,
    add,
    atan,
    clip,
    cos,
    divide,
    equal,
    exp,
    expm1,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log_sigmoid,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    piecewise,
    power,
    real,
    sigmoid,
    sign,
    silu,
    sin,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from refflow.arrays.elimination import log_det_leading, solve_leading
from refflow.arrays.iteration import detach, eps, repeat
from refflow.arrays.namespaces import (
    Array,
    device,
    is_array,
    library,
    namespace,
    require_same_library,
    to_numpy,
)
from refflow.arrays.reductions import all, any, cumulative_sum, log_softmax, logsumexp, max, mean, min, softmax
from refflow.arrays.roots import identity_plus, solve_contraction, solve_increasing
from refflow.arrays.shapes import (
    astype,
    broadcast_to,
    concat,
    expand_dims,
    flip,
    getitem,
    linear,
    matmul,
    matrix_transpose,
    permute_dims,
    reshape,
    shape,
    split,
    squeeze,
    stack,
    sum,
    take,
)
from refflow.arrays.tracing import Tree, leaves, primitive, rebuild, register, tree_map, value_and_grad

OPERATIONS = (
    "abs add astype atan broadcast_to clip concat cos cumulative_sum divide exp expand_dims expm1 flip getitem linear "
    "log log1p log_sigmoid log_softmax logaddexp logsumexp matmul matrix_transpose max maximum mean min minimum "
    "multiply negative permute_dims piecewise power reshape sigmoid silu sin softmax softplus split sqrt square "
    "squeeze stack subtract sum take tanh where"
).split()
"""The names of the differentiable operations; the tests walk this list."""

__all__ = [
    "Array", "OPERATIONS", "Tree", "abs", "add", "all", "any", "arange", "asarray", "astype", "atan", "broadcast_to",
    "clip", "concat", "constant", "cos", "cumulative_sum", "detach", "device", "divide", "eps", "equal", "exp",
    "expand_dims", "expm1", "flip", "full", "getitem", "greater", "greater_equal", "identity_plus", "is_array",
    "isfinite", "isnan", "leaves", "less", "less_equal", "library", "linear", "log", "log1p", "log_det_leading",
    "log_sigmoid", "log_softmax", "logaddexp", "logical_and", "logical_not", "logical_or", "logsumexp", "matmul",
    "matrix_transpose", "max", "maximum", "mean", "min", "minimum", "multiply", "namespace", "negative", "ones",
    "ones_like", "permute_dims", "pi", "piecewise", "power", "primitive", "real", "rebuild", "register", "repeat",
    "require_same_library", "reshape", "shape", "sigmoid", "sign", "silu", "sin", "softmax", "softplus",
    "solve_contraction", "solve_increasing", "solve_leading", "split", "sqrt", "square", "squeeze", "stack",
    "subtract", "sum", "take", "tanh", "to_numpy", "tree_map", "value_and_grad", "where", "zeros", "zeros_like",
]  # fmt: skip
