"""array-api-strict's second device: a GPU's manners on any machine.

Its arrays refuse `np.asarray`, refuse arrays of another device, and refuse every spelling that the array API standard
does not promise. So a computation that runs there never falls back to NumPy in silence.

One patch is needed. Python asks the left operand first, and the standard's libraries (NumPy, CuPy, torch) return
NotImplemented for an operand that they do not know, so that the traced array on the right gets its turn.
array-api-strict raises TypeError instead. `boxes_on_the_right` lets traced arrays, and nothing else, past that check;
its operators then return NotImplemented by themselves.
"""

from contextlib import contextmanager

import array_api_strict
from autograd.tracer import isbox

DEVICE = array_api_strict.Device("device1")
StrictArray = type(array_api_strict.asarray(0.0))


@contextmanager
def boxes_on_the_right():
    original = StrictArray._check_type_device

    def check(self, other):
        if not isbox(other):
            original(self, other)

    StrictArray._check_type_device = check
    try:
        yield
    finally:
        StrictArray._check_type_device = original


def to_strict(x):
    """A copy of a NumPy array on the second device."""
    return array_api_strict.asarray(x, device=DEVICE, copy=True)


def is_strict(x, dtype):
    """Whether x is an array of array-api-strict, on the second device, of this NumPy dtype."""
    return isinstance(x, StrictArray) and x.device == DEVICE and x.dtype == getattr(array_api_strict, dtype.name)
