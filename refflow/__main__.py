"""`python -m refflow`: the command line."""

from refflow.cli import script

script()
