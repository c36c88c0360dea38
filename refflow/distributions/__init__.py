"""Base densities: log p_Z and sampling, one file a family.

Log-densities are in nats. Random numbers come from a NumPy generator, always an argument, and are then moved to the
library and device asked for: the same seed gives the same numbers everywhere.
"""

from refflow.distributions.base import Distribution
from refflow.distributions.mixture import MixtureOfNormals
from refflow.distributions.normal import DiagonalNormal, FullNormal, StandardNormal
from refflow.distributions.student_t import StudentT
from refflow.distributions.uniform import Uniform

__all__ = [
    "DiagonalNormal",
    "Distribution",
    "FullNormal",
    "MixtureOfNormals",
    "StandardNormal",
    "StudentT",
    "Uniform",
]
