"""What happened in a seed, in words: its hash tells runs apart, its end a failure."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

KEPT: Final = 120
"""Last lines that are kept for telling."""


class Trace:
    """Lines in the order of the virtual clock; ids and keys never stand in them."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._digest = hashlib.sha256()
        self.lines: deque[str] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()
        """How often each kind of event occurred: the coverage."""

    def note(self, who: str, what: str, *, kind: str | None = None) -> None:
        """Note a line, and count it if it is of a kind."""
        line = f"{self._seconds():9.3f} s  {who:<9} {what}"
        self._digest.update(line.encode())
        self.lines.append(line)
        if kind is not None:
            self.counts[kind] += 1

    def count(self, kind: str) -> None:
        """Count what is too frequent for a line."""
        self._digest.update(kind.encode())
        self.counts[kind] += 1

    @property
    def hash(self) -> str:
        return self._digest.hexdigest()[:16]
