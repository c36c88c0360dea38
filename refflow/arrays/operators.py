"""Python's operators on traced arrays, each the operation of the same meaning."""

from typing import Any

from refflow.arrays import elementwise as e
from refflow.arrays.shapes import getitem, matmul
from refflow.arrays.tracing import ArrayBox

_OPERATORS: dict[str, Any] = {
    "__neg__": e.negative,
    "__abs__": e.abs,
    "__add__": e.add,
    "__radd__": lambda x, y: e.add(y, x),
    "__sub__": e.subtract,
    "__rsub__": lambda x, y: e.subtract(y, x),
    "__mul__": e.multiply,
    "__rmul__": lambda x, y: e.multiply(y, x),
    "__truediv__": e.divide,
    "__rtruediv__": lambda x, y: e.divide(y, x),
    "__pow__": e.power,
    "__matmul__": matmul,
    "__rmatmul__": lambda x, y: matmul(y, x),
    "__eq__": e.equal,
    "__ne__": lambda x, y: e.logical_not(e.equal(x, y)),
    "__lt__": e.less,
    "__le__": e.less_equal,
    "__gt__": e.greater,
    "__ge__": e.greater_equal,
    "__getitem__": getitem,
}

for _name, _operation in _OPERATORS.items():
    setattr(ArrayBox, _name, _operation)
