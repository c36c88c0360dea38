"""Maximum likelihood by gradient ascent.

maximum_likelihood  fit: arguments checked, rows split
epochs              the run: minibatches, roll-back, averaging, early stopping
likelihood          the loss
optimizers          gradient steps on one flat vector
lbfgs               SciPy's, for tiny problems
checkpoints         all that a run hands on, in one file
records             choices, state, history
"""

from refflow.training.maximum_likelihood import fit
from refflow.training.records import Callback, Epoch, FitResult, History

__all__ = ["Callback", "Epoch", "FitResult", "History", "fit"]
