"""What the caller of `verify` has said besides the object."""

from dataclasses import dataclass

import numpy as np

from refflow.errors import StructureError
from refflow.verification.targets import Box


@dataclass(frozen=True)
class Given:
    """Arguments that an adapter may need."""

    name: str | None = None
    event_shape: tuple[int, ...] | None = None
    context: np.ndarray | None = None
    domain: Box | None = None
    codomain: Box | None = None

    def shape(self, found: tuple[int, ...] | None, what: str) -> tuple[int, ...]:
        """The event shape: as given, or as the adapter found it; raises StructureError if neither says."""
        shape = self.event_shape if self.event_shape is not None else found
        if shape is None:
            raise StructureError(f"expected event_shape=, the shape of one row: a {what} does not tell it")
        return shape
