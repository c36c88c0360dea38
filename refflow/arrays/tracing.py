"""How an operation is recorded, and how gradients come back.

autograd supplies the tape: nodes, traces and the backward pass. Two of its parts are replaced so that one table of
derivatives serves every library and keeps every dtype:

* `primitive` boxes its answers in `ArrayBox`, whatever library they belong to, so that NumPy arrays follow this
  layer's derivatives too and not those of `autograd.numpy` (which lose float32 and scatter-add every slice);
* `ArrayBox` sets `__array_ufunc__ = None`, so that the operators of NumPy and CuPy step aside for its own.

Boxes and functions of autograd itself still compose with these: both live on the same tape.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

from autograd.core import VJPNode, add_outgrads
from autograd.extend import VSpace
from autograd.tracer import Box, getval, isbox, toposort, trace_stack

from refflow.arrays.namespaces import Array, device, is_array, library, namespace
from refflow.errors import DTypeError, ShapeError, StructureError

Tree = Any
"""A nested dict, tuple or list whose leaves are arrays."""

ELSEWHERE = {
    "torch": "differentiate with torch.autograd or torch.func",
    "jax": "differentiate with jax.grad",
    "dask": "differentiate block by block",
    "balls": "balls have no gradient yet",
}
"""Libraries that are not traced here, and what to do: their functions see plain calls."""


class ArrayBox(Box):  # type: ignore[misc]
    """A traced array of any library. Its operators are attached in `operators.py`."""

    __slots__ = ()
    __array_ufunc__ = None
    __array_priority__ = 1000.0
    __hash__ = Box.__hash__

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a traced array does not turn into a NumPy array: use the operations of refflow.arrays")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._value.shape)

    @property
    def ndim(self) -> int:
        return len(self._value.shape)

    @property
    def size(self) -> int:
        return math.prod(self._value.shape)

    @property
    def dtype(self) -> Any:
        return self._value.dtype

    @property
    def device(self) -> Any:
        return device(self)

    def __len__(self) -> int:
        return int(self._value.shape[0])

    def __float__(self) -> float:
        raise TypeError("a traced array does not turn into a float: gradients would be lost")


Box.types.add(ArrayBox)
_BOXES = Box.types
Box.type_mappings[ArrayBox] = ArrayBox


class ArraySpace(VSpace):  # type: ignore[misc]
    """The vector space of one array: its zeros and ones keep dtype and device."""

    def __init__(self, value: Array) -> None:
        self.shape, self.dtype = value.shape, value.dtype
        self.device, self.namespace = device(value), namespace(value)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def zeros(self) -> Array:
        return self.namespace.zeros(self.shape, dtype=self.dtype, device=self.device)

    def ones(self) -> Array:
        return self.namespace.ones(self.shape, dtype=self.dtype, device=self.device)

    def _inner_prod(self, x: Array, y: Array) -> Array:
        return self.namespace.sum(x * y)


def register(array_type: type) -> None:
    """Let autograd differentiate with respect to arrays of this type. NumPy's registration is autograd's own."""
    if array_type not in VSpace.mappings:
        Box.type_mappings.setdefault(array_type, ArrayBox)
        VSpace.mappings[array_type] = ArraySpace


def primitive(function: Callable[..., Array]) -> Callable[..., Array]:
    """Record calls of `function` on the tape whenever a positional argument is traced.

    The replacement for `autograd.extend.primitive`: give its derivatives with `autograd.extend.defvjp` as usual.
    Keyword arguments are constants.
    """

    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Array:
        for x in args:
            if type(x) in _BOXES:
                break
        else:  # the plain call of every library that is not traced here: its overhead is this loop
            return function(*args, **kwargs)
        boxed = [i for i, x in enumerate(args) if isbox(x)]
        top = max(args[i]._trace for i in boxed)
        argnums = tuple(i for i in boxed if args[i]._trace == top)
        values = list(args)
        for i in argnums:
            values[i] = args[i]._value
        answer = recorded(*values, **kwargs)
        parents = tuple(args[i]._node for i in argnums)
        node = type(parents[0])(answer, recorded, tuple(values), kwargs, argnums, parents)
        return ArrayBox(answer, top, node)

    return recorded


def leaves(tree: Tree) -> list[Array]:
    """The arrays of a nested dict, tuple or list, in the order of its structure.

    >>> leaves({"b": 1.0, "a": (2.0, {"c": 3.0})})
    [1.0, 2.0, 3.0]
    """
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in leaves(branch)]
    if isinstance(tree, tuple | list):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def rebuild(tree: Tree, values: Iterator[Array]) -> Tree:
    """Return the tree with its leaves replaced, in order, by the values."""
    if isinstance(tree, dict):
        return {key: rebuild(branch, values) for key, branch in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(rebuild(branch, values) for branch in tree)
    return next(values)


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply the function to corresponding leaves of trees of the same structure; dicts correspond by key.

    >>> tree_map(lambda x, y: x + y, {"a": 1.0, "b": (2.0,)}, {"b": (20.0,), "a": 10.0})
    {'a': 11.0, 'b': (22.0,)}
    """
    if isinstance(tree, dict):
        if not all(isinstance(other, dict) and other.keys() == tree.keys() for other in others):
            raise StructureError(f"expected trees with the keys {list(tree)}, got another structure")
        return {key: tree_map(function, tree[key], *(other[key] for other in others)) for key in tree}
    if isinstance(tree, tuple | list):
        if not all(isinstance(other, tuple | list) and len(other) == len(tree) for other in others):
            raise StructureError(f"expected trees with {len(tree)} branches, got another structure")
        return type(tree)(tree_map(function, *branches) for branches in zip(tree, *others, strict=True))
    return function(tree, *others)


def value_and_grad(function: Callable[..., Array]) -> Callable[..., tuple[Array, Tree]]:
    """Return a function that gives the value of `function` and its gradient in the first argument.

    The first argument is a nested dict, tuple or list of arrays (or one array); the gradient has its structure, and
    every leaf of it the dtype and the device of the parameter. The value must be a scalar. Calls nest: the gradient
    is itself differentiable.

    >>> import numpy as np
    >>> from refflow import arrays as xp
    >>> value_and_grad(lambda p, x: xp.sum(p["a"] * p["a"]) * x)({"a": np.array([1.0, 2.0])}, 3.0)
    (np.float64(15.0), {'a': array([ 6., 12.])})
    """

    @functools.wraps(function)
    def differentiated(parameters: Tree, *args: Any, **kwargs: Any) -> tuple[Array, Tree]:
        xs = leaves(parameters)
        for x in xs:
            if not is_array(x):
                raise DTypeError(f"expected arrays as the leaves of the first argument, got a {type(x).__name__}")
            if library(x) in ELSEWHERE:
                raise DTypeError(f"expected NumPy or CuPy arrays, got {library(x)}: {ELSEWHERE[library(x)]}")
            register(type(getval(x)))
        roots = [VJPNode.new_root() for _ in xs]
        with trace_stack.new_trace() as trace:
            boxes = (ArrayBox(x, trace, root) for x, root in zip(xs, roots, strict=True))
            y = function(rebuild(parameters, boxes), *args, **kwargs)
        if tuple(getattr(y, "shape", ())) != ():
            raise ShapeError(f"expected a scalar from the function to differentiate, got shape {tuple(y.shape)}")
        found: dict[Any, Array] = {}
        value = y
        if isbox(y) and y._trace == trace:
            value = y._value
            found = _backward(y._node, _one_like(value))
        gradients = [found[root] if root in found else _zeros_like(x) for x, root in zip(xs, roots, strict=True)]
        return value, rebuild(parameters, iter(gradients))

    return differentiated


def _backward(end: Any, cotangent: Array) -> dict[Any, Array]:
    """Walk the tape from its end to its roots; return the cotangents that arrive at nodes without parents."""
    pending = {end: (cotangent, False)}
    arrived = {}
    for node in toposort(end):
        g = pending.pop(node)[0]
        if not node.parents:
            arrived[node] = g
        for parent, contribution in zip(node.parents, node.vjp(g), strict=True):
            pending[parent] = add_outgrads(pending.get(parent), contribution)
    return arrived


def _one_like(value: Array) -> Array:
    raw = getval(value)
    return namespace(raw).ones((), dtype=raw.dtype, device=device(raw))


def _zeros_like(x: Array) -> Array:
    raw = getval(x)
    return namespace(raw).zeros(raw.shape, dtype=raw.dtype, device=device(raw))
