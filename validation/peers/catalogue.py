"""The public transforms, flows and densities of the peer packages, as objects that `refflow.verify` can be pointed at.

    from catalogue import ITEMS        every item of every package that is installed
    python validation/catalogue.py     builds each once, and prints the table of contents

One file a package, `of_<package>.py`, holds a function `items()`. Default or documented arguments only; small
dimensions. A remark quotes the package where it declares a limit itself.
"""

import importlib
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

from item import Item

PACKAGES = (
    "nflows",
    "normflows",
    "zuko",
    "freia",
    "torch",
    "pyro",
    "flowjax",
    "distrax",
    "tfp",
    "sklearn",
)


@cache
def items_of(package: str) -> tuple[Item, ...]:
    """The items of one package, none if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tuple(importlib.import_module(f"of_{package}").items())
    except ImportError as missing:
        warnings.warn(f"no items of {package}: {missing}", stacklevel=2)
        return ()


@cache
def items() -> tuple[Item, ...]:
    return tuple(item for package in PACKAGES for item in items_of(package))


def __getattr__(name: str) -> Any:
    if name == "ITEMS":
        return items()
    raise AttributeError(name)


def main() -> None:
    warnings.simplefilter("ignore")
    for package in PACKAGES:
        for item in items_of(package):
            print(item, "|", type(item.build()).__name__, "|", item.options["event_shape"])
        print(f"-- {package}: {len(items_of(package))} items")
    print(f"{len(items())} items")


if __name__ == "__main__":
    main()
