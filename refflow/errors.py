"""One family of errors: each names what was expected, what came, and what to do."""


class RefflowError(Exception):
    """The root of every error that refflow raises on purpose."""


class ShapeError(RefflowError, ValueError):
    """An array has the wrong shape."""


class DTypeError(RefflowError, TypeError):
    """An array has the wrong dtype, or belongs to the wrong library or device."""


class StructureError(RefflowError, ValueError):
    """A model is put together wrongly: sizes, masks or names that do not fit."""


class DataError(RefflowError, ValueError):
    """Data that no density can be fitted to or scored with: NaN, inf, empty, constant, unreadable."""


class FileError(RefflowError, ValueError):
    """A file that is not a whole, untouched refflow model or checkpoint of a known version."""


class DivergedError(RefflowError, ArithmeticError):
    """Training met non-finite losses that halving the step did not cure."""


class DeviceError(RefflowError, RuntimeError):
    """The device asked for is not there, or cannot be used."""


class UndecidedError(RefflowError, ArithmeticError):
    """Balls overlap, so that a comparison has no answer."""


class MissingExtraError(RefflowError, ImportError):
    """An optional dependency is not installed; the message carries the command that installs it."""


def require_sequence(value: object, name: str) -> None:
    """Refuse a single number where a sequence of them is meant."""
    if not hasattr(value, "__iter__"):
        raise StructureError(f"expected a sequence of numbers such as (3,) for {name}, got {value!r}")
