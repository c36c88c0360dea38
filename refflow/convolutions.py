r"""Convolutional conditioners: theta = h(x_1, c) for couplings of images (H, W, C).

A coupling gives its conditioner the kept coordinates as one vector and wants p parameters for every moved coordinate:
blocks `[theta_1 | ... | theta_p]` of m numbers, one for each moved coordinate in increasing position, or, where
`by_coordinate` says so, m blocks of the p numbers of one moved coordinate (as spline couplings have them). In between,
a convolution needs images. How the two meet follows from the mask:

* the same channels are kept at every pixel (`channel_mask`): x_1 is an image (H, W, C_kept) as it stands, and the
  network's outputs are images (H, W, p C_moved), one block of C_moved channels for each theta_j;
* any other mask (`checkerboard_mask`): x_1 is scattered into an image (H, W, C) with zeros where coordinates move, the
  paper's b * x (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.4), and a channel for each channel of the mask b tells
  zeros from moved coordinates. The outputs are images (H, W, p C), of which the moved positions are gathered.

Context columns are channels that are the same at every pixel. The channels of the first layer are thus
`[x_1 or b * x | b if scattered | c]`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.masks import Mask
from refflow.conditioners import ACTIVATIONS, Conditioner, activation_function, dropped
from refflow.errors import ShapeError, StructureError, require_sequence
from refflow.modules import Module, module


@module
class Conv(Module):
    """The convolution of images (..., H, W, C_in), zeros around them, by weight `(k, k, C_in, C_out)` for odd k, and
    bias `(C_out,)` (`arrays.conv2d`)."""

    weight: Array
    bias: Array

    def __post_init__(self) -> None:
        shape = xp.shape(self.weight)
        if len(shape) != 4 or shape[0] != shape[1] or shape[0] % 2 == 0 or xp.shape(self.bias) != shape[3:]:
            raise ShapeError(
                f"expected a weight (k, k, in, out) for odd k and a bias (out,), got {shape}, {xp.shape(self.bias)}"
            )

    def __call__(self, x: Array) -> Array:
        return xp.conv2d(x, self.weight, self.bias)

    @staticmethod
    def init(
        kernel: int, c_in: int, c_out: int, rng: np.random.Generator, dtype: Any = "float64", gain: float = 1.0
    ) -> "Conv":
        """Weights uniform with variance gain^2 / (k k C_in); zero bias."""
        bound = gain * (3.0 / max(kernel * kernel * c_in, 1)) ** 0.5
        shape = (kernel, kernel, c_in, c_out)
        weight = rng.uniform(-bound, bound, shape) if gain else np.zeros(shape)
        return Conv(weight.astype(dtype), np.zeros(c_out, dtype=dtype))


class _OfImages(Conditioner):
    """What the convolutional networks share: how they meet the mask."""

    mask: Mask
    by_coordinate: bool
    by_channel: bool
    kept: np.ndarray

    def _fit(self, layers: Sequence[Conv], dropout: float, activation: str) -> None:
        """Check the layers, each of which takes what the one before gives, and look at the mask once."""
        activation_function(activation)
        if not 0.0 <= dropout < 1.0:
            raise StructureError(f"expected a dropout rate in [0, 1), got {dropout}")
        by_channel, kept = _pattern(self.mask)
        object.__setattr__(self, "by_channel", by_channel)
        object.__setattr__(self, "kept", kept)
        c_in = _input_channels(self.mask) + self.context_dim
        for layer in layers:
            if xp.shape(layer.weight)[2] != c_in:
                raise ShapeError(f"expected a layer of {c_in} input channels, got {xp.shape(layer.weight)}")
            c_in = xp.shape(layer.bias)[0]
        if not layers or c_in % _output_channels(self.mask):
            raise StructureError(
                f"expected layers, the last of a multiple of {_output_channels(self.mask)} channels, got {c_in}"
            )

    @property
    @abstractmethod
    def _final(self) -> Conv:
        """The last layer."""

    @property
    def in_features(self) -> int:
        return len(self.mask.kept)

    @property
    def out_features(self) -> int:
        return self._per_coordinate * len(self.mask.moved)

    @property
    def _per_coordinate(self) -> int:
        height, width, channels = self.mask.event_shape
        moved = len(self.mask.moved) // (height * width) if self.by_channel else channels
        return xp.shape(self._final.bias)[0] // moved

    def _image(self, x: Array, context: Array | None) -> Array:
        """The network's input, `(..., H, W, channels)`."""
        batch, (height, width, _) = x.shape[:-1], self.mask.event_shape
        if self.by_channel:
            channels = [xp.reshape(x, (*batch, height, width, len(self.mask.kept) // (height * width)))]
        else:
            kept = xp.asarray(self.kept, like=x)
            zeros = xp.zeros((*batch, len(self.mask.moved)), like=x)
            channels = [self.mask.join(x, zeros), xp.broadcast_to(kept, (*batch, *kept.shape))]
        if self.context_dim:
            channels.append(_as_channels(context, batch, (height, width), self.context_dim))
        return channels[0] if len(channels) == 1 else xp.concat(channels, axis=-1)

    def _moved(self, image: Array) -> Array:
        """The parameters of the moved coordinates in the network's output, whose channels are p blocks."""
        batch, p = image.shape[:-3], self._per_coordinate
        pixels, channels = image.shape[-3] * image.shape[-2], image.shape[-1] // p
        theta = xp.reshape(image, (*batch, pixels, p, channels))
        order = (0, 2, 1) if self.by_coordinate else (1, 0, 2)
        if p > 1:
            theta = xp.permute_dims(theta, (*range(len(batch)), *(len(batch) + k for k in order)))
        if not self.by_channel:
            places = (pixels * channels, p) if self.by_coordinate else (p, pixels * channels)
            theta = xp.reshape(theta, (*batch, *places))
            theta = xp.take(theta, self.mask.moved, axis=-2 if self.by_coordinate else -1)
        return xp.reshape(theta, (*batch, self.out_features))


@module
class ConvNet(_OfImages):
    """h_0 = image(x, c), h_k = a(conv_k(h_{k-1})), theta = moved(conv_{K+1}(h_K)), image and moved as above.

    In the recipes conv_1 and conv_{K+1} are 3 x 3, those between 1 x 1 (Kingma and Dhariwal, 2018, section 4). The last
    starts at zero. Dropout, if any, follows each activation while training.
    """

    mask: Mask
    layers: tuple[Conv, ...]
    activation: str = "relu"
    context_dim: int = 0
    dropout: float = 0.0
    by_coordinate: bool = False
    """Whether the parameters of one moved coordinate stand together; if not, those of one kind do."""
    rng: np.random.Generator | None = field(default=None, metadata={"transient": True})
    by_channel: bool = field(init=False, metadata={"transient": True})
    """Whether the mask keeps the same channels at every pixel."""
    kept: np.ndarray = field(init=False, metadata={"transient": True})
    """The mask b as an image (H, W, C) of zeros and ones, 1 where kept; (H, W, 1) if all its channels are equal."""

    def __post_init__(self) -> None:
        self._fit(self.layers, self.dropout, self.activation)

    @property
    def _final(self) -> Conv:
        return self.layers[-1]

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        activate = ACTIVATIONS[self.activation]
        h = self._image(x, context)
        for layer in self.layers[:-1]:
            h = dropped(activate(layer(h)), self.dropout, self.rng)
        return self._moved(self.layers[-1](h))

    @staticmethod
    def init(
        mask: Mask,
        per_coordinate: int,
        *,
        rng: np.random.Generator,
        hidden: Sequence[int] = (64, 64),
        kernel: int = 3,
        activation: str = "relu",
        context_dim: int = 0,
        dropout: float = 0.0,
        by_coordinate: bool = False,
        dtype: Any = "float64",
    ) -> "ConvNet":
        """Random hidden layers of the widths (He et al., 2015), 1 x 1 but for the first, and a last layer of zeros."""
        gain = 2.0**0.5 if activation in ("relu", "leaky_relu") else 1.0
        require_sequence(hidden, "hidden")
        sizes = (_input_channels(mask) + context_dim, *hidden)
        layers = [
            Conv.init(1 if k else kernel, a, b, rng, dtype, gain)
            for k, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        ]
        layers.append(Conv.init(kernel, sizes[-1], per_coordinate * _output_channels(mask), rng, dtype, gain=0.0))
        return ConvNet(mask, tuple(layers), activation, context_dim, dropout, by_coordinate)


@module
class ConvResidualNet(_OfImages):
    """The residual network of images (He et al., 2016, pre-activation form; Dinh et al., 2017, section 3.4)

        h_0 = conv_in(image(x, c)),   h_k = h_{k-1} + V_k(a(U_k(a(h_{k-1})))),   theta = moved(conv_out(a(h_K))).

    `blocks` holds U_1, V_1, U_2, V_2, ... in that order. In `init` U_k is k x k and V_k is 1 x 1. Dropout, if any,
    precedes each V_k while training.
    """

    mask: Mask
    first: Conv
    blocks: tuple[Conv, ...]
    last: Conv
    activation: str = "relu"
    context_dim: int = 0
    dropout: float = 0.0
    by_coordinate: bool = False
    """As in `ConvNet`."""
    rng: np.random.Generator | None = field(default=None, metadata={"transient": True})
    by_channel: bool = field(init=False, metadata={"transient": True})
    kept: np.ndarray = field(init=False, metadata={"transient": True})

    def __post_init__(self) -> None:
        self._fit((self.first, *self.blocks, self.last), self.dropout, self.activation)
        width = xp.shape(self.first.bias)
        if len(self.blocks) % 2 or any(xp.shape(v.bias) != width for v in self.blocks[1::2]):
            raise StructureError(f"expected blocks (U_1, V_1, ...) from {width[0]} channels to as many")

    @property
    def _final(self) -> Conv:
        return self.last

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        activate = ACTIVATIONS[self.activation]
        h = self.first(self._image(x, context))
        for u, v in zip(self.blocks[0::2], self.blocks[1::2], strict=True):
            h = h + v(dropped(activate(u(activate(h))), self.dropout, self.rng))
        return self._moved(self.last(activate(h)))

    @staticmethod
    def init(
        mask: Mask,
        per_coordinate: int,
        *,
        rng: np.random.Generator,
        width: int = 32,
        blocks: int = 2,
        kernel: int = 3,
        activation: str = "relu",
        context_dim: int = 0,
        dropout: float = 0.0,
        by_coordinate: bool = False,
        dtype: Any = "float64",
    ) -> "ConvResidualNet":
        """Random layers, each block's V small enough that depth does not grow h, and a last layer of zeros."""
        inner: list[Conv] = []
        for _ in range(blocks):
            inner.append(Conv.init(kernel, width, width, rng, dtype, gain=2.0**0.5))
            inner.append(Conv.init(1, width, width, rng, dtype, gain=1.0 / max(blocks, 1) ** 0.5))
        first = Conv.init(kernel, _input_channels(mask) + context_dim, width, rng, dtype)
        last = Conv.init(kernel, width, per_coordinate * _output_channels(mask), rng, dtype, gain=0.0)
        return ConvResidualNet(mask, first, tuple(inner), last, activation, context_dim, dropout, by_coordinate)


def _pattern(mask: Mask) -> tuple[bool, np.ndarray]:
    """Whether the mask keeps the same channels at every pixel, and the image b."""
    if len(mask.event_shape) != 3:
        raise StructureError(f"expected a mask of images (H, W, C), got events of shape {mask.event_shape}")
    kept = np.ones(mask.event_shape)
    kept.reshape(-1)[list(mask.moved)] = 0.0
    by_channel = bool((kept == kept[:1, :1]).all())
    return by_channel, kept[..., :1] if (kept == kept[..., :1]).all() else kept


def _input_channels(mask: Mask) -> int:
    """The channels of the image that holds the kept coordinates, without the context."""
    by_channel, kept = _pattern(mask)
    height, width, channels = mask.event_shape
    return len(mask.kept) // (height * width) if by_channel else channels + kept.shape[-1]


def _output_channels(mask: Mask) -> int:
    """The output channels for one parameter a moved coordinate."""
    height, width, channels = mask.event_shape
    return len(mask.moved) // (height * width) if _pattern(mask)[0] else channels


def _as_channels(context: Array | None, batch: tuple[int, ...], sides: tuple[int, int], dim: int) -> Array:
    """The context `(..., C)`, the same at every pixel."""
    if context is None:
        raise ShapeError(f"expected a context of shape (..., {dim}), got none")
    at_pixel = xp.reshape(context, (*context.shape[:-1], 1, 1, dim))
    return xp.broadcast_to(at_pixel, (*batch, *sides, dim))
