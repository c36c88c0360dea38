"""The 1,797 images of handwritten digits, 8x8 pixels with levels 0 .. 16 (Alpaydin and Kaynak, 1998)."""

from importlib.resources import files

import numpy as np

DIGITS_SPLIT = (1293, 1437)
"""Rows before the first number train, rows before the second validate, the rest test: the field's usual split."""


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images `(1797, 64)` of uint8, row-major, and labels `(1797,)`, in file order.

    >>> images, labels = load_digits()
    >>> images.shape, int(images.max()), labels[:5].tolist()
    ((1797, 64), 16, [0, 1, 2, 3, 4])
    """
    with files(__package__).joinpath("digits.npz").open("rb") as stream, np.load(stream) as archive:
        return archive["images"], archive["labels"]
