"""Named models, each with its paper: `vectors`, `autoregressive` and `images`; and their starting values from data."""

from refflow.recipes.autoregressive import iaf, maf, nsf_ar
from refflow.recipes.images import glow, realnvp_image
from refflow.recipes.initialization import initialize
from refflow.recipes.vectors import nice, nsf, nsf_circular, realnvp

__all__ = ["glow", "iaf", "initialize", "maf", "nice", "nsf", "nsf_ar", "nsf_circular", "realnvp", "realnvp_image"]
