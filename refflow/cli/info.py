"""refflow info."""

import json
import math
import os

from refflow.cli.app import AsJson, Model


def info(model: Model, as_json: AsJson = False) -> None:
    """Say what a model file holds: structure, parameters, shapes, how it was trained. Verifies it first."""
    from refflow.arrays import leaves, shape
    from refflow.files import load, read_metadata
    from refflow.modules import arrays, first_array, parameters

    flow = load(model)
    trained, everything = (sum(math.prod(shape(a)) for a in leaves(tree(flow))) for tree in (parameters, arrays))
    found = {
        "file": str(model), "event_shape": list(flow.event_shape), "context_dim": flow.context_dim,
        "dtype": str(first_array(flow).dtype), "parameters": trained, "frozen": everything - trained,
        "bytes": os.path.getsize(model), "check": "digest and check vectors agree", **read_metadata(model),
    }  # fmt: skip
    if as_json:
        print(json.dumps({**found, "structure": repr(flow)}))
    else:
        for key, value in found.items():
            print(f"{key.replace('_', ' '):14s} {value if isinstance(value, str) else json.dumps(value)}")
        print(flow)
