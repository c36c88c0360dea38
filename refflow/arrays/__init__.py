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
from refflow.arrays.convolution import conv2d, fold, patches
from refflow.arrays.creation import (
    arange,
    asarray,
    constant,
    full,
    log_gamma_step,
    ones,
    ones_like,
    pi,
    zeros,
    zeros_like,
)
from refflow.arrays.elementwise import (
    abs,
    add,
    asinh,
    atan,
    clip,
    cos,
    divide,
    equal,
    exp,
    expm1,
    gelu,
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
    relu,
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
from refflow.arrays.linalg import diagonal, diagonal_matrix, solve_triangular, tril, triu
from refflow.arrays.lookup import between, pick
from refflow.arrays.namespaces import Array, device, is_array, library, namespace, require_same_library, to_numpy
from refflow.arrays.rational import between_ends, displacement, gentle, log_slope, rational_quadratic, shares
from refflow.arrays.reductions import all, any, cumulative_sum, length, log_softmax, logsumexp, max, mean, min, softmax
from refflow.arrays.roots import identity_plus, solve_contraction, solve_increasing
from refflow.arrays.shapes import (
    astype,
    bring_first,
    bring_last,
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
    "abs add asinh astype atan bring_first bring_last broadcast_to clip concat conv2d cos cumulative_sum diagonal "
    "diagonal_matrix divide exp expand_dims expm1 flip fold gelu getitem linear log log1p log_sigmoid log_softmax "
    "logaddexp logsumexp matmul matrix_transpose max maximum mean min minimum multiply negative patches permute_dims "
    "pick piecewise power relu reshape sigmoid silu sin softmax softplus solve_triangular split sqrt square squeeze "
    "stack subtract sum take tanh tril triu where"
).split()
"""The names of the differentiable operations; the tests walk this list."""

__all__ = [
    "Array", "OPERATIONS", "Tree", "abs", "add", "all", "any", "arange", "asarray", "asinh", "astype", "atan",
    "between", "between_ends", "bring_first", "bring_last", "broadcast_to", "clip", "concat", "constant", "conv2d",
    "cos", "cumulative_sum", "detach", "device", "diagonal", "diagonal_matrix", "displacement", "divide", "eps",
    "equal", "exp", "expand_dims", "expm1", "flip", "fold", "full", "gelu", "gentle", "getitem", "greater",
    "greater_equal", "identity_plus", "is_array", "isfinite", "isnan", "leaves", "length", "less", "less_equal",
    "library", "linear", "log", "log1p", "log_det_leading", "log_gamma_step", "log_sigmoid", "log_slope", "log_softmax",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logsumexp", "matmul", "matrix_transpose", "max",
    "maximum", "mean", "min", "minimum", "multiply", "namespace", "negative", "ones", "ones_like", "patches",
    "permute_dims", "pi", "pick", "piecewise", "power", "primitive", "rational_quadratic", "real", "rebuild",
    "register", "relu", "repeat", "require_same_library", "reshape", "shape", "shares", "sigmoid", "sign", "silu",
    "sin", "softmax", "softplus", "solve_contraction", "solve_increasing", "solve_leading", "solve_triangular", "split",
    "sqrt", "square", "squeeze", "stack", "subtract", "sum", "take", "tanh", "to_numpy", "tree_map", "tril", "triu",
    "value_and_grad", "where", "zeros", "zeros_like",
]  # fmt: skip
