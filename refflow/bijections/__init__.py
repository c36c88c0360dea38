"""The maps, one file a family: equations, inverse, log-determinant."""

from refflow.bijections.affine import ActNorm, ElementwiseAffine, Standardize
from refflow.bijections.autoregressive import AffineAutoregressive, RationalQuadraticAutoregressive
from refflow.bijections.base import Bijection
from refflow.bijections.batch_norm import BatchNorm, Moments
from refflow.bijections.chain import Chain, Frozen, Inverse
from refflow.bijections.coupling import AdditiveCoupling, AffineCoupling
from refflow.bijections.elementwise import Exp, LeakyReLU, SinhArcsinh, Softplus, Tanh
from refflow.bijections.linear import LU, Orthogonal, Triangular
from refflow.bijections.logit import Logit, Sigmoid
from refflow.bijections.masks import Mask, alternating_mask, channel_mask, checkerboard_mask, half_mask
from refflow.bijections.mixture import LogisticMixtureCoupling
from refflow.bijections.permutation import Permutation, Reverse
from refflow.bijections.pieces import Concatenate, MultiScale
from refflow.bijections.planar import Planar, Radial
from refflow.bijections.reshaping import PermuteAxes, Reshape, Squeeze
from refflow.bijections.residual import ResidualBlock
from refflow.bijections.scale_maps import SCALE_MAPS
from refflow.bijections.splines import RationalQuadraticCoupling, RationalQuadraticElementwise
from refflow.bijections.sylvester import Sylvester

__all__ = [
    "LU",
    "SCALE_MAPS",
    "ActNorm",
    "AdditiveCoupling",
    "AffineAutoregressive",
    "AffineCoupling",
    "BatchNorm",
    "Bijection",
    "Chain",
    "Concatenate",
    "ElementwiseAffine",
    "Exp",
    "Frozen",
    "Inverse",
    "LeakyReLU",
    "LogisticMixtureCoupling",
    "Logit",
    "Mask",
    "MultiScale",
    "Moments",
    "Orthogonal",
    "Permutation",
    "PermuteAxes",
    "Reshape",
    "RationalQuadraticAutoregressive",
    "RationalQuadraticCoupling",
    "RationalQuadraticElementwise",
    "Planar",
    "Radial",
    "ResidualBlock",
    "Reverse",
    "Sigmoid",
    "Squeeze",
    "SinhArcsinh",
    "Softplus",
    "Standardize",
    "Tanh",
    "Triangular",
    "Sylvester",
    "alternating_mask",
    "channel_mask",
    "checkerboard_mask",
    "half_mask",
]
