"""The maps, one file a family: equations, inverse, log-determinant."""

from refflow.bijections.affine import ActNorm, ElementwiseAffine, Standardize
from refflow.bijections.base import Bijection
from refflow.bijections.chain import Chain, Frozen, Inverse
from refflow.bijections.coupling import AdditiveCoupling, AffineCoupling
from refflow.bijections.logit import Logit, Sigmoid
from refflow.bijections.masks import Mask, alternating_mask, channel_mask, checkerboard_mask, half_mask
from refflow.bijections.mixture import LogisticMixtureCoupling
from refflow.bijections.permutation import Permutation, Reverse
from refflow.bijections.planar import Planar, Radial
from refflow.bijections.residual import ResidualBlock
from refflow.bijections.scale_maps import SCALE_MAPS
from refflow.bijections.sylvester import Sylvester

__all__ = [
    "SCALE_MAPS",
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Bijection",
    "Chain",
    "ElementwiseAffine",
    "Frozen",
    "Inverse",
    "LogisticMixtureCoupling",
    "Logit",
    "Mask",
    "Permutation",
    "Planar",
    "Radial",
    "ResidualBlock",
    "Reverse",
    "Sigmoid",
    "Standardize",
    "Sylvester",
    "alternating_mask",
    "channel_mask",
    "checkerboard_mask",
    "half_mask",
]
