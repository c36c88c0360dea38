"""refflow: normalizing flows, written once and run in every arithmetic.

The rooms, each of which imports only from those above it:

    errors          what can go wrong, one family
    arrays/         the vocabulary of the equations, differentiable on every array library
    modules         parameters(f) <-> bind(f, p)
    conditioners    the networks theta = h(x_1, c)
    masked          those whose output i reads only what comes before i
    bijections/     the maps, one file a family: equations, inverse, log-determinant
    convolutions    such networks for images
    distributions   base densities
    preprocessing   standardisation, dequantisation
    flow            change of variables, sampling
    recipes         named models, each with its paper
    verification/   the laws a flow must obey, with tolerances from conditioning
    strategies      Hypothesis strategies that draw parameters, points and flows
    data/           data that ship with refflow
    observations    data as they come, checked
    scoring         likelihood of held-out rows, with its error
    certified/      arrays of balls: enclosures that are proven
    lazy            Dask arrays, block by block
    pytrees         modules as JAX's pytrees
    backends        moving a flow between libraries and devices
    storage, files  the self-describing model file
    training/       maximum likelihood
    baselines       Gaussians to beat
    tables, streams tables in and out
    tasks, jobs     the main job; progress and pictures beside it
    cli/            the command line, one file a command
"""

from typing import TYPE_CHECKING, Any

from refflow import arrays as arrays
from refflow.arrays import tree_map, value_and_grad
from refflow.bijections import (
    LU,
    ActNorm,
    AdditiveCoupling,
    AffineAutoregressive,
    AffineCoupling,
    BatchNorm,
    Bijection,
    Chain,
    Concatenate,
    ElementwiseAffine,
    Exp,
    Frozen,
    Inverse,
    LeakyReLU,
    LogisticMixtureCoupling,
    Logit,
    Mask,
    Moments,
    MultiScale,
    Orthogonal,
    Permutation,
    PermuteAxes,
    Planar,
    Radial,
    RationalQuadraticAutoregressive,
    RationalQuadraticCoupling,
    RationalQuadraticElementwise,
    Reshape,
    ResidualBlock,
    Reverse,
    Sigmoid,
    SinhArcsinh,
    Softplus,
    Squeeze,
    Standardize,
    Sylvester,
    Tanh,
    Triangular,
    alternating_mask,
    channel_mask,
    checkerboard_mask,
    half_mask,
)
from refflow.conditioners import MLP, Conditioner, Linear, Periodic, ResidualNet
from refflow.convolutions import Conv, ConvNet, ConvResidualNet
from refflow.distributions import (
    DiagonalNormal,
    Distribution,
    FullNormal,
    MixtureOfNormals,
    StandardNormal,
    StudentT,
    Uniform,
)
from refflow.errors import RefflowError
from refflow.files import load, register
from refflow.flow import Flow
from refflow.masked import MaskedMLP
from refflow.modules import Module, bind, map_arrays, module, parameters
from refflow.preprocessing import Dequantization, standardize
from refflow.recipes import glow, iaf, initialize, maf, nice, nsf, nsf_ar, nsf_circular, realnvp, realnvp_image
from refflow.scoring import Score, score
from refflow.training import Epoch, FitResult, History, fit

if TYPE_CHECKING:
    from refflow.verification.kit import verify

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`verify` on first use: who trains or samples need not load the laws."""
    if name == "verify":
        from refflow.verification.kit import verify

        return verify
    raise AttributeError(f"module 'refflow' has no attribute {name!r}")


__all__ = [
    "arrays",
    "tree_map",
    "value_and_grad",
    "verify",
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
    "LU",
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
    "MLP",
    "Conditioner",
    "Conv",
    "ConvNet",
    "ConvResidualNet",
    "Linear",
    "MaskedMLP",
    "ResidualNet",
    "Periodic",
    "DiagonalNormal",
    "Distribution",
    "FullNormal",
    "MixtureOfNormals",
    "StandardNormal",
    "StudentT",
    "Uniform",
    "RefflowError",
    "load",
    "register",
    "Flow",
    "Module",
    "bind",
    "map_arrays",
    "module",
    "parameters",
    "Dequantization",
    "standardize",
    "glow",
    "iaf",
    "initialize",
    "maf",
    "nice",
    "nsf",
    "nsf_ar",
    "nsf_circular",
    "realnvp",
    "realnvp_image",
    "Score",
    "score",
    "Epoch",
    "FitResult",
    "History",
    "fit",
]
