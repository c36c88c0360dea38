"""refflow: normalizing flows, written once and run in every arithmetic.

The public names, in reading order: the maps, their networks, base densities, the flow, its parameters, recipes.
"""

from refflow import arrays as arrays
from refflow.arrays import tree_map, value_and_grad
from refflow.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Bijection,
    Chain,
    ElementwiseAffine,
    Frozen,
    Inverse,
    Logit,
    Mask,
    Permutation,
    Reverse,
    Sigmoid,
    Standardize,
    alternating_mask,
    channel_mask,
    checkerboard_mask,
    half_mask,
)
from refflow.conditioners import MLP, Conditioner, Linear, ResidualNet
from refflow.distributions import DiagonalNormal, Distribution, StandardNormal
from refflow.errors import RefflowError
from refflow.flow import Flow
from refflow.parameters import Module, bind, map_arrays, module, parameters
from refflow.preprocessing import Dequantization, standardize
from refflow.recipes import initialize, nice, realnvp

__version__ = "0.1.0"
