"""What a fuzz target is: one reader of bytes that strangers can choose.

A target is a module of `tests.fuzz.targets` that has a `TARGET`. Its `check` returns
for every input, whatever the reader thinks of it, and raises when the reader broke its
promise: another error than the declared one, or two readers that differ. It is
deterministic and keeps nothing, so that an input that was found fails again alone.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = "tests.fuzz.targets"

INPUT_S: Final = 10
"""One input may take so long; the slowest takes a tenth of a second on an idle machine,
and a fuzzer's machine is never idle."""

MEMORY_MIB: Final = 1_024
"""A whole target may take so much; the largest takes a fifth of it. A reader that lets
a length field allocate what it says takes more at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader under attack."""

    check: Callable[[bytes], None]
    """Raises when the promise is broken."""
    seeds: Callable[[], Iterator[bytes]]
    """Inputs to begin with."""
    longest: int
    """Bytes of the longest input that is tried: past the reader's own limit."""
    measured: tuple[str, ...]
    """Packages whose branches guide the search."""


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(
        path.stem for path in (Path(__file__).parent / "targets").glob("[a-z]*.py")
    )


def load(name: str) -> Target:
    """Import a target; inside of atheris' import hook it is measured."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    target = module.TARGET
    assert isinstance(target, Target)
    return target
