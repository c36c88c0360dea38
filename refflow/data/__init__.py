"""Data that ship with refflow."""

from refflow.data.digits import DIGITS_SPLIT, load_digits

__all__ = ["DIGITS_SPLIT", "load_digits"]
