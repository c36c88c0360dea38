"""The coupling whose map is the distribution function of a mixture of logistics, seen through the logit."""

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.coupling import _check, _Coupling
from refflow.bijections.masks import Mask
from refflow.bijections.scale_maps import SCALE_MAPS, check_scale_map
from refflow.conditioners import Conditioner
from refflow.errors import StructureError
from refflow.modules import module


def mixture_logit(x: Array, log_pi: Array, mu: Array, s: Array) -> tuple[Array, Array]:
    r"""L(x) = log F(x) - log(1 - F(x)), F = sum_k pi_k sigma(z_k), z_k = (x - mu_k) exp(-s_k), and log dL/dx.

    With G = 1 - F = sum_k pi_k sigma(-z_k) and the shares f_k = pi_k sigma(z_k) / F, g_k = pi_k sigma(-z_k) / G,

        L = log F - log G,  or  log(1 + T) - log(1 - T) with T = F - G = sum_k pi_k tanh(z_k / 2) where |T| < 1/2
        dL/dx = sum_k pi_k exp(-s_k) sigma(z_k) sigma(-z_k) / (F G) = sum_k f_k g_k exp(-s_k) / pi_k

    for x `(...)` and log pi, mu, s `(K, ...)`: components first, where sums over few of them are quick.
    T keeps the digits near L = 0, the logarithms those of the tails, where L grows like x exp(-s_k) and never
    saturates; the shares are softmaxes, so log dL/dx is no difference of large numbers there. Where a z overflows, L is
    2^32 L(x / 2^32) to the last digit, and log dL/dx is as it is there.
    """
    size = xp.sum(xp.abs(xp.detach((x - mu) * xp.exp(-s))), axis=0)
    far = xp.logical_not(xp.isfinite(size))
    x = xp.where(far, x * 2.0**-32, x)
    z = (x - mu) * xp.exp(-s)
    above, below = log_pi + xp.log_sigmoid(z), log_pi + xp.log_sigmoid(-z)
    t = xp.sum(xp.exp(log_pi) * xp.tanh(0.5 * z), axis=0)
    near = xp.less(xp.abs(t), 0.5)
    t = xp.where(near, t, 0.0)
    tails = xp.logsumexp(above, axis=0) - xp.logsumexp(below, axis=0)
    value = xp.piecewise([near], [xp.log1p(t) - xp.log1p(-t), tails])
    shares = xp.log_softmax(above, axis=0) + xp.log_softmax(below, axis=0)
    return xp.where(far, value * 2.0**32, value), xp.logsumexp(shares - s - log_pi, axis=0)


def _value_and_slope(x: Array, log_pi: Array, mu: Array, s: Array) -> tuple[Array, Array]:
    value, log_slope = mixture_logit(x, log_pi, mu, s)
    return value, xp.exp(log_slope)


@module
class LogisticMixtureCoupling(_Coupling):
    r"""Flow++'s coupling (Ho, Chen, Srinivas, Duan and Abbeel, 2019, section 3.1). With x = (x_1, x_2) as the mask
    splits it, and L the logit of a mixture's distribution function (`mixture_logit`), coordinate by coordinate,

        y_1 = x_1,   y_2 = exp(a) * L(x_2; pi, mu, s) + b                          (1)
        log|det dy/dx| = sum_i a_i + log L'(x_2i)                                  (2)
        x_1 = y_1,   x_2 = L^-1((y_2 - b) * exp(-a))                               (3)

    The conditioner returns the blocks `[a' | b | l | m | s']` of m, m, K m, K m and K m numbers for m moved coordinates
    and K components, in the last three the K numbers of a coordinate side by side. a = S(a') by the named scale map,
    pi = softmax(l), s = c tanh(s'/c) with c = `component_bound`, and mu_k = m_k + k - (K - 1)/2, so that the components
    differ from the start and can learn to be different.

    L is increasing, and L(x) ~ (x - mu_k) exp(-s_k) far out, k the widest component: onto, with nothing clamped. At the
    components' quantiles q_k = mu_k + exp(s_k) t all terms of F are sigma(t), below all of them no more, above no less:
    the root of L(x) = t lies in [min_k q_k, max_k q_k].
    """

    mask: Mask
    conditioner: Conditioner
    components: int = 4
    scale: str = "tanh"
    bound: float = 2.0
    component_bound: float = 5.0

    def __post_init__(self) -> None:
        if self.components < 1:
            raise StructureError(f"expected at least one component, got {self.components}")
        _check(self.mask, self.conditioner, per_coordinate=2 + 3 * self.components)
        check_scale_map(self.scale, self.bound)
        check_scale_map("tanh", self.component_bound)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        x1, x2 = self.mask.split(x)
        a, b, mixture = self.coefficients(x1, context)
        value, log_slope = mixture_logit(x2, *mixture)
        y2 = xp.exp(a) * value + b  # (1)
        return self.mask.join(x1, y2), xp.sum(a + log_slope, axis=-1)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        y1, y2 = self.mask.split(y)
        a, b, mixture = self.coefficients(y1, context)
        t = (y2 - b) * xp.exp(-a)
        _, mu, s = mixture
        quantiles = mu + xp.exp(s) * t
        low, high = xp.min(quantiles, axis=0), xp.max(quantiles, axis=0)
        x2 = xp.solve_increasing(_value_and_slope, mixture, t, low, high)  # (3)
        _, log_slope = mixture_logit(x2, *mixture)
        return self.mask.join(y1, x2), -xp.sum(a + log_slope, axis=-1)

    def coefficients(self, x1: Array, context: Array | None = None) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        """a and b, each `(..., m)`, and (log pi, mu, s), each `(K, ..., m)`."""
        m, k = len(self.mask.moved), self.components
        a, b, *parts = xp.split(self.conditioner(x1, context), (m, m, k * m, k * m, k * m), axis=-1)
        l, raw_mu, raw_s = (self._by_component(part) for part in parts)
        offsets = xp.arange(k, like=raw_mu) - 0.5 * (k - 1)
        mu = raw_mu + xp.reshape(offsets, (k, *(1 for _ in xp.shape(b))))
        s = SCALE_MAPS["tanh"](raw_s, self.component_bound)
        return SCALE_MAPS[self.scale](a, self.bound), b, (xp.log_softmax(l, axis=0), mu, s)

    def _by_component(self, part: Array) -> Array:
        """`(..., m K)` as `(K, ..., m)`."""
        wide = xp.reshape(part, (*xp.shape(part)[:-1], len(self.mask.moved), self.components))
        return xp.stack([wide[..., k] for k in range(self.components)], axis=0)
