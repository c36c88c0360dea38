"""What the self-test verifies: a subject is a black box, sound or with one seeded fault, and what should kill it.

A `Recipe` builds one family from named parts. A fault is a part with one method replaced, put in the place of the
sound one, so that a fault and its clean twin differ in nothing else:

    @CHAIN.fault("log-det with forward's sign in the inverse", "LD2 LD3", part="coupling")
    class InverseSign(Coupling):
        '''A port that returns the same number in both directions.'''

        def inverse(self, y, c=None): ...

The docstring of the part says what the fault imitates.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

Keywords = dict[str, Any]
T = TypeVar("T", bound=type)

SCALES = (1.0, 3.0, 10.0)
"""How large the parameters of the sound subjects are drawn, in turn."""

CHECKS = frozenset("SH DT AL DE CA RT1 RT2 LD1 LD2 LD3 CH BI ST MO ED NF CX PR ON LP ME GR NM SA SN HP".split())
"""The checks of `refflow.verify` that a fault may name."""


@dataclass(frozen=True)
class Subject:
    """One thing to verify: `refflow.verify(**subject.build())`."""

    name: str
    family: str
    build: Callable[[], Keywords]
    """A fresh object at every call, as the keyword arguments of `refflow.verify`."""
    expected: frozenset[str]
    """The checks that should kill it, any one of them; none for a sound subject."""
    clean: str
    """The name of the sound subject that it differs from in one thing; its own name if it is sound."""
    why: str = ""
    """What the fault imitates."""


class Recipe:
    """One family of sound subjects, and the faults seeded in it.

    `make(scale, seed, **parts)` returns the keyword arguments of `refflow.verify`; a part is a class or an option.
    """

    def __init__(self, name: str, family: str, make: Callable[..., Keywords], **options: Any) -> None:
        self.name, self.family, self.make, self.options = name, family, make, options
        self.faults: list[Subject] = []

    def clean(self, scale: float = 1.0, seed: int = 0) -> Subject:
        """The sound subject with parameters of this scale, drawn from this seed."""
        name = self.name if (scale, seed) == (1.0, 0) else f"{self.name}, scale {scale:g}, seed {seed}"
        build = partial(self.make, scale, seed, **self.options)
        return Subject(name, self.family, build, frozenset(), name)

    def fault(self, name: str, expected: str, part: str) -> Callable[[T], T]:
        """Class decorator: the subject in which this class takes the place of the sound part."""

        def add(cls: T) -> T:
            kills = frozenset(expected.split())
            if not kills or kills - CHECKS:
                raise ValueError(f"{name}: no such checks: {sorted(kills - CHECKS)}")
            build = partial(self.make, 1.0, 0, **self.options, **{part: cls})
            why = " ".join((inspect.getdoc(cls) or "").split())
            self.faults.append(Subject(f"{self.name}: {name}", self.family, build, kills, self.name, why))
            return cls

        return add
