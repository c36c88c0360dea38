"""From a name on the command line to an object: `pkg.module:object`, `path/to/file.py:object`, a model file.

What cannot be found is wrong usage (exit code 2); what is found but fails when imported or called is the target's fault
(exit code 3).
"""

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from refflow.verification.guard import TargetError


def named(text: str) -> Any:
    """What `module:attribute` or `file.py:attribute` names; attributes of attributes are parted by dots."""
    place, colon, path = text.rpartition(":")
    if not colon or not place or not path:
        raise typer.BadParameter(f"{text}: expected package.module:object, file.py:object or a .safetensors model file")
    found: Any = _file(Path(place)) if place.endswith(".py") else _module(place)
    for i, part in enumerate(path.split(".")):
        if not hasattr(found, part):
            owner = place if i == 0 else f"{place}:{'.'.join(path.split('.')[:i])}"
            raise typer.BadParameter(f"{owner} has no {part!r}{_near(part, dir(found))}")
        found = getattr(found, part)
    return found


def _module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise typer.BadParameter(
                f"no module {error.name!r}: looked in the environment and in {os.getcwd()}"
            ) from error
        raise TargetError(f"importing {name} raised {_line(error)}") from error
    except ImportError as error:
        raise TargetError(f"importing {name} raised {_line(error)}") from error
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise TargetError(f"importing {name} raised {_line(error)}") from error


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise typer.BadParameter(f"no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise typer.BadParameter(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.resolve().parent))  # its neighbours can be imported, as when Python runs it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a file does when it is run
        raise TargetError(f"running {path} raised {_line(error)}") from error
    return module


def made(found: Any, name: str) -> Any:
    """The object itself, or what a class or a function without arguments makes."""
    if not is_factory(found):
        return found
    try:
        return found()
    except (Exception, SystemExit) as error:  # whatever a factory does
        raise TargetError(f"{name}() raised {_line(error)}") from error


def is_factory(found: Any) -> bool:
    """Whether it is a class, or a function that needs no argument."""
    return inspect.isclass(found) or (is_function(found) and not needed(found))


def is_function(found: Any) -> bool:
    """Whether it is a plain function, method or partial, and no object that happens to be callable."""
    return inspect.isroutine(found) or type(found).__name__ in ("partial", "PjitFunction")


def needed(function: Any) -> list[str]:
    """Its arguments that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built-in functions may not tell
        return ["?"]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.default is p.empty and p.kind in kinds]


def _near(name: str, names: list[str]) -> str:
    public = [other for other in names if not other.startswith("_")]
    near = difflib.get_close_matches(name, public, n=3, cutoff=0.5)
    return f": did you mean {' or '.join(map(repr, near))}?" if near else ""


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
