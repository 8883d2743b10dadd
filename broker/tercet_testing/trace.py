"""What happened in a run, line by line: every step of every task, and every event of the network.

Two runs are the same if their digests are. Only the newest lines are kept;
the digest has seen all of them.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import Any

from attrs import define, field

_KEPT = 200_000  # lines


@define(eq=False)
class Trace:
    """The trace of one run.

    Attributes:
        count: how many lines there were.
    """

    count: int = 0
    _lines: deque[str] = field(factory=lambda: deque(maxlen=_KEPT), repr=False)
    _hash: Any = field(factory=lambda: blake2b(digest_size=16), repr=False)

    def note(self, now: float, line: str) -> None:
        """Add a line."""
        text = f"{now:.6f} {line}"
        self.count += 1
        self._hash.update(text.encode())
        self._lines.append(text)

    @property
    def digest(self) -> str:
        """Return what tells this run from any other."""
        return str(self._hash.hexdigest())

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the newest lines, 200,000 at most."""
        return tuple(self._lines)
