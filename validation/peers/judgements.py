"""What is to be said of the kit's findings in other packages: a fault, a documented limit, or rounding.

The first judgement that fits a finding is the one; those of any package, at the end, are of what rounding does to all.
Line numbers are of the versions in the record.
"""

from dataclasses import dataclass

KINDS = {
    "fault": "Faults",
    "limit": "Documented or known limits",
    "rounding": "Digits lost",
    "kit": "Where the kit was asked too much",
}


@dataclass(frozen=True)
class Judgement:
    """One finding, wherever it shows: `key` names it, the patterns say where."""

    package: str
    """Empty: any."""
    items: str
    checks: str
    kind: str
    key: str
    sentence: str
    statuses: tuple[str, ...] = ("fail", "warn")
    says: str = ""
    """A pattern of the explanation."""


FLOAT32_WEIGHTS = (
    "a rotation, or an inverse matrix, is computed once and rounded to float32; cast to float64 it keeps that error, so "
    "that float64 is as good as float32"
)

NFLOWS = (
    Judgement(
        "nflows", r"^Piecewise.*tail_bound=32|^Masked.*tail_bound=32", "ED|ON|CA|BI|RT", "fault",
        "x = tail_bound raises for the whole batch",
        "`bin_locations[..., -1] += 1e-6` (utils/torchutils.py:135) is less than half a unit in the last place of 32 in "
        "float32, so that x = tail_bound falls into a bin that does not exist", says="out of bounds",
    ),
    Judgement(
        "nflows", r"^Piecewise(Quadratic)|^MaskedPiecewiseQuadratic", "ON|ED|RT|LD|CA|PR", "fault",
        "the inverse of the quadratic spline takes the naive root",
        "(-b + sqrt(b^2 - 4ac)) / 2a (splines/quadratic.py:140) loses its digits as a goes to 0, and is NaN at equal heights, "
        "which every saturated or zero network gives",
    ),
    Judgement(
        "nflows", r"^PiecewiseCubic|^MaskedPiecewiseCubic", "ED|ON|RT|LD|PR", "fault",
        "the cubic spline's roots: NaN, and digits lost",
        "Cardano's formula in floats, and a division by 2b where the piece is linear (splines/cubic.py:150-234); with a "
        "saturated network log_det is NaN",
    ),
    Judgement(
        "nflows", r"PiecewiseLinear", "RT|LD|ED|ON|PR|CA", "fault",
        "the linear spline's bins are float32, and its inverse finds others",
        "`torch.linspace(0, 1, num_bins + 1)` is float32 whatever the input (splines/linear.py:65), and the inverse divides "
        "by differences of cumulated widths: in float64 round trip and log_det are good to 1e-6, at steep bins worse than "
        "float32 explains",
    ),
    Judgement(
        "nflows", r"RationalQuadratic", "ED|ON|RT|LD|CA|PR", "fault",
        "the rational-quadratic inverse asserts a discriminant of at least 0, or is NaN, in float32",
        "`assert (discriminant >= 0).all()` (splines/rational_quadratic.py) stops the whole batch when rounding makes one "
        "of them negative; where a network saturates log_det is NaN", says="AssertionError|not finite|not a finite",
    ),
    Judgement(
        "nflows", r"^(Sigmoid|Logit|CompositeCDF|CauchyCDF)", "ED|RT|LD|ON|GR|LP|PR", "fault",
        "Sigmoid's inverse is clamped to [1e-6, 1 - 1e-6], its forward is not",
        "g(f(x)) = 13.8 for every x > 13.8 (nonlinearities.py:143); a box transform behind it then refuses what rounding "
        "puts on its end", says="Sigmoid|clamp|InputOutside|accurate|^at",
    ),
    Judgement(
        "nflows", r"^LeakyReLU", "DT|PR|LD", "fault", "LeakyReLU's log_det is float32",
        "`log_negative_slope` and the mask are float32 tensors (nonlinearities.py:105): a float64 flow has a float32 log_det",
    ),
    Judgement(
        "nflows", r"^LogTanh", "ED|ON|LD", "limit", "LogTanh's inverse overflows a factor too early",
        "exp(y / alpha) is infinite in float32 at y = 32, before it is divided by beta; the value itself is 8e37",
    ),
    Judgement(
        "nflows", r"^Tanh", "LD|RT|ED|GR|BI|ON|SH|NF|CA|LP", "fault",
        "Tanh saturates: log_det is log(1 - tanh^2), and the inverse refuses tanh's own values",
        "-inf from |x| = 9.1 in float32 (nonlinearities.py:21), where -2|x| + log 4 is true; one row at 1.0 makes the inverse "
        "raise for the whole batch",
    ),
    Judgement(
        "nflows", r"^GatedLinearUnit", "SH|LD", "fault", "GatedLinearUnit's log_det",
        "`torch.log(gate).reshape(-1)` has N D entries for D gates, and lacks the factor D for one (nonlinearities.py:166)",
    ),
    Judgement(
        "nflows", r"^NaiveLinear", "SH|CA|ME|RT|DT|DE|AL|LD|CH|BI|PR|NF|CX|ED|ON|GR", "fault",
        "NaiveLinear has no inverse on current torch",
        "torch.solve was removed in 1.13 (linear.py:183), and nflows asks for torch without an upper bound",
    ),
    Judgement(
        "nflows", r"using_cache", "ME|CA|RT|SH|PR", "fault", "the weight cache survives a change of the weights",
        "in eval mode the forward answers with the old matrix after load_state_dict or an optimiser's step (linear.py:47); "
        "the docstring of train() promises to invalidate it when training again",
    ),
    Judgement(
        "nflows", r"^SqueezeTransform, factor=3", "SH", "fault", "SqueezeTransform's inverse knows the factor 2 only",
        "it checks `c % 4` whatever the factor (reshape.py:57): it refuses its own output",
    ),
    Judgement(
        "nflows", r"LotkaVolterra", "NM|SA|SN|LP|SH|ME|DT|NF", "fault", "LotkaVolterraOscillating is not normalised",
        "the truncation lacks the sqrt 2 and the 1/2 of the normal CDF, and log_prob adds the uniform's -4 log 7 "
        "(distributions/uniform.py:57): mass 2e-5",
    ),
    Judgement(
        "nflows", r"MG1Uniform", "SH|LP|NM|SA|SN", "fault", "MG1Uniform's log_prob is not summed",
        "(N, 3) for N rows (distributions/uniform.py:34)",
    ),
    Judgement(
        "nflows", r"DiagonalNormal", ".*", "limit", "DiagonalNormal does not sample", "sample raises NotImplementedError",
    ),
    Judgement(
        "nflows", r"BatchNorm|batch_norm", ".*", "limit", "batch statistics in train mode",
        "a row depends on the others by design, and there is no inverse; the kit warns in train mode only",
        says="train mode|digits",
    ),
    Judgement(
        "nflows", r"^ActNorm, before a batch", "CA|ME", "limit", "ActNorm initialises itself in its first train-mode call",
        "documented: the first batch gives its scale",
    ),
)  # fmt: skip

NORMFLOWS = (
    Judgement(
        "normflows", r"tail_bound=32", "ED|ON|CA|BI|RT", "fault", "x = tail_bound raises for the whole batch",
        "as in nflows, from which it is copied (utils/splines.py:12): `+= 1e-6` is nothing at 32 in float32",
        says="out of bounds|AssertionError",
    ),
    Judgement(
        "normflows", r"^Circular.*two of four", "RT|LD|ON|CA|LP|MO|ED", "fault",
        "circular splines map everything outside the box to 0",
        "with tails given as a list (utils/splines.py:48) the inputs outside the box are never copied: every |x_i| > "
        "tail_bound of a coordinate with linear tails becomes 0, with log_det 0",
    ),
    Judgement(
        "normflows", r"^Circular", "NF", "fault", "circular splines turn NaN into 0", "the same branch: a NaN is outside",
    ),
    Judgement(
        "normflows", r"RationalQuadratic", "ED", "fault", "the spline is NaN in float32 where its network saturates",
        "at |x| = 6e5 of the other half the log_det is NaN; in float64 it is -19.3", says="not finite",
    ),
    Judgement(
        "normflows", r"^Composite|^NormalizingFlow|^ConditionalNormalizingFlow", "DT|LD|CH|LP|PR", "fault",
        "log-determinants are added up in float32",
        "the sum starts as `torch.zeros(batch)` (flows/base.py:66, core.py:96): float64 flows lose 8 digits",
    ),
    Judgement(
        "normflows", r"^Planar, act=leaky_relu", "DT|RT|LD|ED|PR|ON", "fault", "Planar with leaky_relu computes in float32",
        "`(lin < 0) * (slope - 1) + 1` is a float32 tensor (flows/planar.py:60): log_det is float32, the inverse off by 1e-8",
    ),
    Judgement(
        "normflows", r"^Permute", "DT", "fault", "Permute's log_det is float32",
        "`torch.zeros(len(z))` without a dtype (flows/mixing.py:39); harmless in a sum that is float64 already",
    ),
    Judgement(
        "normflows", r"^Residual", "RT|BI|ED|PR|NF|CA|ON|ME", "fault", "Residual's fixed point stops at steps of 3e-3",
        "the squared step is compared with atol + rtol |y| (flows/residual.py:137), and all rows stop together, so that a "
        "row's inverse depends on its batch",
    ),
    Judgement(
        "normflows", r"^Residual", "DE|LD|CH|LP|ME", "limit", "Residual's log_det is a random estimate",
        "documented by its arguments: Hutchinson's estimator, in eval mode as well",
    ),
    Judgement(
        "normflows", r"^BatchNorm", ".*", "limit", "BatchNorm leaves out the derivatives of the batch statistics",
        "its docstring says so; and a row depends on the others",
    ),
    Judgement(
        "normflows", r"UniformGaussian", "NM|SN|LP|NF|SA", "fault", "UniformGaussian has no support",
        "the uniform coordinates' density is the same everywhere (distributions/base.py:264): the mass is infinite, and a NaN "
        "has a density",
    ),
    Judgement(
        "normflows", r"base\.Uniform", "LP|NF|ME|GR", "fault", "Uniform gives a NaN a density",
        "NaN fails no comparison with the bounds (distributions/base.py:191)",
    ),
    Judgement(
        "normflows", r"^transforms\.Shift", "AL", "fault", "Shift writes into the caller's tensor",
        "`z -= self.shift`, in both directions (transforms.py:67)",
    ),
    Judgement(
        "normflows", r"^PeriodicShift", "ED|MO", "limit", "a map of a circle jumps on the line",
        "it is periodic by design; the kit follows the line",
    ),
)  # fmt: skip

FREIA = (
    Judgement(
        "freia", r"^LearnedElementwiseScaling", "LD", "fault", "LearnedElementwiseScaling: sign of the inverse's log_det",
        "sum(s) in both directions (modules/inv_auto_layers.py:158); the base class demands -J for rev=True",
    ),
    Judgement(
        "freia", r"^Haar", "AL", "fault", "Haar layers write into the caller's tensor",
        "`x_perm *= self.fac_rev` (modules/reshapes.py:297): the second call on the same images gives other ones",
    ),
    Judgement(
        "freia", r"^HaarDownsampling, rebalance=-1", "NF|LD", "fault", "a negative rebalance has a NaN log_det",
        "the check allows what is not 0 (modules/reshapes.py:234), and then takes its logarithm",
    ),
    Judgement(
        "freia", r"^InvertibleSigmoid, images", "SH", "fault", "InvertibleSigmoid's log_det of images is (N, H, W)",
        "`logJ.sum(1)` sums over channels only (modules/fixed_transforms.py:178)",
    ),
    Judgement(
        "freia", r"^InvertibleSigmoid", "ED|LD|NF|ON|PR", "fault", "InvertibleSigmoid's log_det overflows",
        "log(1 / ((1 + e^x)(1 + e^-x))) is -inf from |x| = 88 in float32 (modules/fixed_transforms.py:176); -|x| is true",
    ),
    Judgement(
        "freia", r"^HouseholderPerm, condition", "SH", "fault", "HouseholderPerm's documented condition raises",
        "the batched matrix is given to Tensor.mm (modules/orthogonal.py:222)",
    ),
    Judgement(
        "freia", r"^HouseholderPerm, fixed", "ME", "limit", "a fixed HouseholderPerm does not follow its vectors",
        "the matrix is computed at construction; the vectors stay trainable parameters that nothing reads",
    ),
    Judgement(
        "freia", r"^IResNetLayer", "DE|LD|RT|ME", "limit", "IResNetLayer's log_det is a random estimate",
        "documented: Hutchinson's estimate of a truncated series",
    ),
    Judgement(
        "freia", r"^InvAutoFC", "RT|LD", "limit", "InvAutoFC is inverse only after training",
        "documented: 'only asymptotically invertible', and its log_det is taken as 0",
    ),
    Judgement(
        "freia", r"^Flatten", "CA", "limit", "Flatten refuses arrays that are not contiguous",
        "`view` raises, aloud, for memory in Fortran's order",
    ),
    Judgement("freia", r".*", "RT|LD|ED|ON|PR|CA|LP", "fault", "rotations keep float32 in float64", FLOAT32_WEIGHTS,
              says="float32"),
    Judgement(
        "freia", r"permute_soft|HouseholderPerm|Fixed|Orthogonal", "ED|LD", "rounding",
        "rotations of float32 are orthogonal to some units in the last place", "the transpose is taken for the inverse",
    ),
)  # fmt: skip

TORCH = (
    Judgement(
        "torch",
        r"VonMises",
        "NM|SN",
        "limit",
        "VonMises declares the whole line as its support",
        "its density is that of an angle, and periodic",
    ),
    Judgement(
        "torch",
        r"^(TanhTransform|SigmoidTransform|Cumulative)",
        ".*",
        "rounding",
        "saturation",
        "documented for TanhTransform, which recommends its cache; the CDF of Cauchy cancels in its tail",
    ),
    Judgement(
        "torch",
        r"PowerTransform",
        "GR",
        "limit",
        "derivatives at the end of the domain",
        "0 is not in the domain",
    ),
)

PYRO = (
    Judgement(
        "pyro", r"^Sylvester", "LD", "fault", "Sylvester's log_det",
        "rows are multiplied as x (S Q^T) and (Q R) (sylvester.py:122): the Jacobian is then not triangular, and "
        "sum log(1 + h' r_ii s_ii) is not its log-determinant",
    ),
    Judgement(
        "pyro", r"^ELUTransform", "RT|LD|PR", "fault", "ELUTransform's inverse has an epsilon that its forward has not",
        "log1p(y + 1e-8) (basic.py:33): 1e-8 everywhere, 1.6 at x = -20",
    ),
    Judgement(
        "pyro", r"Neural?Autoregressive", "LD|ED|PR", "fault",
        "NeuralAutoregressive: 1e-8 inside the logarithms of the log_det",
        "log(A + 1e-8) (neural_autoregressive.py:134): 1e-8 everywhere, 0.6 nats where a weight is small; with "
        "tanh and sigmoid the map itself saturates to infinity at |x| = 18 in float32",
    ),
    Judgement(
        "pyro", r"^BlockAutoregressive|^Polynomial", "LD|ED|PR", "fault", "an epsilon inside the log_det",
        "log(|w|^2 + 1e-8) in block_autoregressive.py:276, which divides w by |w| + 1e-8; log(slope + 1e-8) in "
        "polynomial.py:137: float64 is good to 1e-8 / slope",
    ),
    Judgement(
        "pyro", r"^(Conditional)?Spline.*quadratic", "SH", "fault", "spline_autoregressive(order='quadratic') raises",
        "the helper always makes the four groups of parameters of the linear order (spline_autoregressive.py:220)",
        says="too many values",
    ),
    Judgement(
        "pyro", r"Spline", "ED|RT|LD|PR|ON|CA", "fault", "the spline's bin search adds 1e-6 to the knots",
        "within 1e-6 beyond a knot the wrong bin answers (spline.py:149): the inverse jumps by up to 8e-5 there, and loses "
        "digits beside it",
    ),
    Judgement(
        "pyro", r"^AffineAutoregressive", "GR", "limit", "gradients that pass a clamp",
        "`clamp_preserve_gradients`, on purpose: the log-scale is clamped and its gradient is not",
    ),
    Judgement(
        "pyro", r"MatrixExponential", "RT|LD|ED|ON|PR|CA|CX", "limit", "the matrix exponential is a truncated series",
        "documented ('truncated power series', iterations=8); forward and inverse are truncated, the log_det is trace(W)",
    ),
    Judgement(
        "pyro", r"PositivePower", "ED|NF|GR", "limit", "PositivePowerTransform at the origin",
        "documented: 'The Jacobian is typically zero or infinite at the origin'; here it is NaN",
    ),
    Judgement(
        "pyro", r"^BatchNorm", ".*", "limit", "batch statistics in train mode", "by design; the kit warns in train mode only",
    ),
)  # fmt: skip

EPSILON = "the inverse is a bisection to the documented eps = 1e-6 in every precision, so that float64 samples carry float32 digits"
ZUKO = (
    Judgement(
        "zuko", r"^SignedPower", "GR|ED|NF", "fault", "SignedPowerTransform is NaN at 0",
        "0 times infinity (transforms.py:372): one direction is NaN at 0 for every alpha but 0",
    ),
    Judgement(
        "zuko", r"Gaussianization|flows\.GF", "RT2|PR|ON|GR|NM|SA|SN|LP|ED|LD", "fault",
        "GaussianizationTransform is capped at 4.89, and declared onto the line",
        "an undeclared factor 1 - 1e-6 (transforms.py:872): |f| never passes 4.89, y = 5.5 inverts to the end of the "
        "bisection, 10, and samples pile up there",
    ),
    Judgement(
        "zuko", r"BoundedBernstein|flows\.BPF", "ED|ON|PR|LD", "fault", "BoundedBernsteinTransform jumps at its bounds",
        "outside, f(x) = x -+ 1e-5 (transforms.py:822): the extrapolation is anchored 1e-6 inside",
    ),
    Judgement(
        "zuko", r"flows\.(NAF|UNAF|SOSPF)|^(Monotonic|SOSPoly|Unconstrained)", "NM|SA|SN|ON|LP", "limit",
        "the inverse of monotone networks is clamped to [-10, 10]",
        "documented: 'Invertibility is only guaranteed for features within the interval [-10, 10]'; y outside their image comes back as +-10, "
        "so that samples pile up there, with a density that is not that of log_prob",
    ),
    Judgement("zuko", r".*", "NF", "fault", "bisection makes a number of a NaN",
              "every comparison with NaN is false, and the search ends at a bound", says="became finite"),
    Judgement(
        "zuko", r"flows\.NCSF|CircularShift", "ED|LP|MO", "limit", "a map of a circle jumps on the line",
        "documented: 'only bijective over its domain [-B, B]'; a sample at -2 pi lies outside it all the same",
    ),
    Judgement(
        "zuko", r"FreeFormJacobian|CNF", ".*", "limit", "an integrator's tolerance",
        "documented: atol = 1e-6, rtol = 1e-5; one adaptive step for the batch lets a row depend on the others",
    ),
    Judgement(
        "zuko", r"flows\.UNAF|Unconstrained", "LD|GR|PR", "limit", "a quadrature of n points",
        "documented: 'estimated by a n-point Gauss-Legendre quadrature'",
    ),
    Judgement(
        "zuko", r"flows\.(GF|BPF|NAF|UNAF|SOSPF)|^(Monotonic|SOSPoly|Unconstrained|Bernstein|BoundedB|Gaussianiz)", ".*",
        "limit", "inverses by bisection to 1e-6", EPSILON,
    ),
)  # fmt: skip

JAX = (
    Judgement(
        "distrax", r"Sigmoid", "ED|RT|ON|LD", "fault", "Sigmoid is exp(x) below -9",
        "`jnp.where(x < -9, exp(x), sigmoid(x))` in every precision: y jumps by 1.5e-8 at -9, and the inverse, which is the logit, is 1.2e-4 off there",
        ("fail",),
    ),
    Judgement(
        "flowjax", r"block_neural_autoregressive", ".*", "limit", "an inverse by bisection",
        "documented: the inverse is numerical, to a tolerance, and refuses aloud what it does not find",
    ),
    Judgement(
        "flowjax", r"spline", "ED|ON", "fault", "the spline is NaN in float32 where its network saturates",
        "from about |x| = 6e4 of the other half on log_det is no number, and the value another than float64's",
        says="not finite|not a finite",
    ),
    Judgement(
        "flowjax", r"^Scan of Householder", ".*", "fault", "Scan of Householder, its docstring's own example",
        "v / |v| is taken over the stacked vectors (orthogonal.py:52), so that the layers are no reflections: not volume "
        "preserving, and not its own inverse",
    ),
    Judgement(
        "distrax", r"^RationalQuadraticSpline, zeros", "GR", "fault", "half a gradient at the end of the spline's range",
        "at the end of the range, where two branches meet, its own derivative is half of what differences say on both sides",
    ),
    Judgement(
        "tfp", r"^Softfloor", ".*", "fault", "Softfloor's inverse is not its inverse",
        "forward adds sigmoid(-0.5 / t) to y; the inverse takes it off x, after its curve, and not off y, before it: g(f(0.5)) = 0.514 at "
        "temperature 0.5. log_det is not a number at the steps",
    ),
    Judgement(
        "tfp", r"^Rayleigh", "LD|RT", "fault", "the log_det of RayleighCDF's inverse holds a float32 constant",
        "`tf.math.sqrt(2.)` is float32 in this substrate: off by 2e-8 in float64",
    ),
    Judgement(
        "tfp", r"^Ascending", "ED", "kit", "a codomain that is no box",
        "the kit asks the inverse at vectors that do not increase, since it cannot be told of such a codomain",
    ),
)  # fmt: skip

SKLEARN = (
    Judgement(
        "sklearn", r"^KernelDensity, kernel=cosine", "NM", "fault", "the cosine kernel has mass 0.363 in two dimensions",
        "the recursion for its norm (neighbors/_binary_tree.pxi.tp:470) stops one term short in even dimensions; in four "
        "score_samples is NaN",
    ),
    Judgement(
        "sklearn", r"^BayesianGaussianMixture", "NM", "fault", "BayesianGaussianMixture.score_samples is no density",
        "expectations of logarithms stand for logarithms of weights and precisions: mass 0.98; its docstring calls it the "
        "log-likelihood",
    ),
    Judgement(
        "sklearn", r"^KernelDensity, metric", "NM|SA|SN", "limit", "other metrics are not normalised",
        "documented: 'normalization ... is correct only for the Euclidean distance metric'",
    ),
)  # fmt: skip

ALL = (
    Judgement(
        "",
        "Power|CDF|Square|GeneralizedNormal",
        "GR",
        "limit",
        "a derivative that overflows at the end of its domain",
        "at 0, or at the smallest float, a slope is infinite, and its product with 0 no number",
        ("fail",),
        says="is NaN where the values",
    ),
    Judgement(
        "",
        ".*",
        ".*",
        "limit",
        "train mode",
        "a train mode need not be a density; the kit warns only",
        says="in train mode",
    ),
    Judgement(
        "",
        ".*",
        ".*",
        "rounding",
        "digits lost on the way",
        "correct, with a stiff step: a saturated curve that is undone, a difference of nearly equal numbers; the kit says "
        "how many digits",
        ("warn",),
        says="digits lost",
    ),
    Judgement(
        "",
        ".*",
        ".*",
        "rounding",
        "as accurate as float32",
        "the object came in float32, and so do its constants after a cast to float64",
        ("warn",),
        says="accurate as",
    ),
)

JUDGEMENTS: tuple[Judgement, ...] = (*NFLOWS, *NORMFLOWS, *FREIA, *TORCH, *PYRO, *ZUKO, *JAX, *SKLEARN, *ALL)
