"""Named models, each with its paper: `vectors` and `images`; and their starting values from data."""

from refflow.recipes.images import glow, realnvp_image
from refflow.recipes.initialization import initialize
from refflow.recipes.vectors import iaf, maf, nice, nsf, nsf_ar, nsf_circular, realnvp

__all__ = ["glow", "iaf", "initialize", "maf", "nice", "nsf", "nsf_ar", "nsf_circular", "realnvp", "realnvp_image"]
