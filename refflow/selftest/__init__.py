"""The subjects of `refflow selftest`: flows in plain NumPy, sound ones and ones with a single seeded fault.

    subjects                                what a subject is, and how a fault is seeded
    layers                                  sound layers, written as a port would write them
    couplings, scales, networks, linear     affine couplings and LU: log-determinants, inverses, what the network sees
    chains, memory, states                  whole maps: order, shapes, dtypes; arrays and rows; caches
    splines, knots, tails                   rational-quadratic splines
    autoregressive, images, boxes           masked flows, maps of images, maps onto a box
    flows, densities, samplers              whole flows
    single                                  what one check alone can see

Every fault breaks a law: a fault that both directions share is just another valid flow, unless its log-determinant
then disagrees. Nothing here uses refflow's own maps, which the reference would recognise.
"""

from refflow.selftest import (  # noqa: F401  (they register their faults)
    chains,
    densities,
    knots,
    memory,
    networks,
    samplers,
    scales,
    states,
    tails,
)
from refflow.selftest.autoregressive import AUTOREGRESSIVE
from refflow.selftest.boxes import FROM_BOX, ONTO_BOX
from refflow.selftest.couplings import CHAIN, COUPLING, ONE_WAY
from refflow.selftest.flows import CONDITIONAL, DENSITY, LINE, PLANE, SPACE
from refflow.selftest.images import IMAGE
from refflow.selftest.linear import LINEAR
from refflow.selftest.single import CUBIC, FASTER, INVERSE, SLOPED, WAVE
from refflow.selftest.splines import ELEMENTWISE, SPLINE, WIDE
from refflow.selftest.subjects import CHECKS, SCALES, Recipe, Subject

RECIPES: tuple[Recipe, ...] = (
    CHAIN, COUPLING, ONE_WAY, LINEAR, SPLINE, WIDE, ELEMENTWISE, AUTOREGRESSIVE, IMAGE, ONTO_BOX, FROM_BOX,
    LINE, PLANE, SPACE, CONDITIONAL, DENSITY, INVERSE, CUBIC, WAVE, FASTER, SLOPED,
)  # fmt: skip
"""The families."""

FAULTS: tuple[Subject, ...] = tuple(fault for recipe in RECIPES for fault in recipe.faults)
"""Every seeded fault."""


def clean(seed: int = 0) -> tuple[Subject, ...]:
    """Every family, sound, at each of `SCALES`, with parameters drawn from the seed."""
    return tuple(recipe.clean(scale, seed) for recipe in RECIPES for scale in SCALES)


CLEAN: tuple[Subject, ...] = clean()
"""The sound subjects from seed 0; `clean(seed)` draws others."""

__all__ = ["CHECKS", "CLEAN", "FAULTS", "RECIPES", "SCALES", "Recipe", "Subject", "clean"]
